package store

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/coracle-os/coracle/agents/fleet/agent/fence"
	"github.com/coracle-os/coracle/agents/fleet/registry/follow"
)

// Members are the client URLs of each voting member.
func (s Store) Members(ctx context.Context) ([][]string, error) {
	r, err := s.Client.MemberList(ctx)
	if err != nil {
		return nil, follow.Wrap("list the members of the key-value store", err)
	}
	var members [][]string
	for _, m := range r.Members {
		if !m.IsLearner {
			members = append(members, m.ClientURLs)
		}
	}
	return members, nil
}

// Ask asks each member how it is, all at once, and gives up after the limit.
func (s Store) Ask(ctx context.Context, members [][]string, limit time.Duration) []fence.Answer {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	answers := make([]fence.Answer, len(members))
	var wg sync.WaitGroup
	for i, urls := range members {
		wg.Go(func() {
			for _, u := range urls {
				// The members of a cluster all have this name for themselves.
				if len(members) > 1 && loopback(u) {
					continue
				}
				answers[i] = max(answers[i], s.ask(ctx, u))
			}
		})
	}
	wg.Wait()
	if slices.Contains(answers, fence.Leads) {
		// After long failures gRPC would wait long before it connects again.
		s.Client.ActiveConnection().ResetConnectBackoff()
	}
	return answers
}

func loopback(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return true
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && (ip.IsLoopback() || ip.IsUnspecified())
}

// ask asks one member at one of its addresses. A host that refuses is as good as
// a member that knows no leader: a new process does not lead without an election.
func (s Store) ask(ctx context.Context, address string) fence.Answer {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return fence.Unreached
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", u.Host)
	if errors.Is(err, unix.ECONNREFUSED) {
		return fence.NoLeader
	}
	if err != nil {
		return fence.Unreached
	}
	conn.Close()
	r, err := s.Client.Status(ctx, address)
	switch {
	case err == nil && r.Leader != 0:
		return fence.Leads
	case err == nil:
		return fence.NoLeader
	}
	if code := status.Code(err); (code == codes.Unavailable || code == codes.DeadlineExceeded || errors.Is(err, context.DeadlineExceeded)) && !strings.Contains(err.Error(), "handshake") {
		// It hangs. When it goes on it may lead still, and find that our lease
		// ended meanwhile: that is no answer.
		return fence.Unreached
	}
	return fence.Leads // it works, and it does not like us
}
