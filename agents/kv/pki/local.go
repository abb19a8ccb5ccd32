package pki

import (
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"time"
)

// ErrOther says that the machine's own member has begun or ceased to have
// certificates, so that programs must connect anew.
var ErrOther = errors.New("the machine's store has other certificates than before")

// Own gives a program of the machine, which was told of no files, the URLs and
// files by which it reaches the machine's own member: when that has
// certificates, URLs of this machine become https, and files are the machine's.
// Endpoints elsewhere stay as they are, with no files.
func Own(endpoints []string, own Files) ([]string, Files) {
	if !own.Readable() {
		return endpoints, Files{}
	}
	secured := slices.Clone(endpoints)
	for i, e := range endpoints {
		u, err := url.Parse(e)
		if err != nil || !loopback(u.Hostname()) {
			return endpoints, Files{}
		}
		u.Scheme = "https"
		secured[i] = u.String()
	}
	return secured, own
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Await returns ErrOther when the files come or go, compared with before, which
// is what Readable told when they were used, or ctx's error. It looks every
// period.
func Await(ctx context.Context, own Files, before bool, period time.Duration) error {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if own.Readable() != before {
				return ErrOther
			}
		}
	}
}
