package kv

import (
	"context"
	"crypto/rand"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/coracle-os/coracle/agents/kv/authority"
	"github.com/coracle-os/coracle/agents/kv/datadir"
	"github.com/coracle-os/coracle/agents/kv/settings"
	"go.uber.org/zap"
)

// secure gets the cluster's authority, when that is the machine's own affair,
// and this machine's certificate from it. What it returns hands it on.
func secure(ctx context.Context, s settings.Settings, m settings.Machine, log *zap.Logger) (authority.Config, error) {
	c := authority.Config{
		File: s.Authority, Token: s.Forming.JoinToken, Now: time.Now, Random: rand.Reader,
		Member: hasMember(s.Flags["data-dir"], s.Flags["wal-dir"]),
		Tell:   teller(log),
	}
	if s.Obtain {
		state, err := datadir.Dir{Path: s.Flags["data-dir"]}.Load()
		if err != nil {
			return c, err
		}
		known := s.Forming.Join
		if state.Cluster != nil {
			known = slices.Concat(known, state.Cluster.Peers)
		}
		own := hosts(strings.Split(s.Flags["advertise-client-urls"]+","+s.Flags["initial-advertise-peer-urls"], ","))
		c.Sources = slices.DeleteFunc(hosts(known), func(h string) bool { return slices.Contains(own, h) })
		if c.Token == "" { // nobody would answer
			c.Sources = nil
		}
		if err := authority.Obtain(ctx, c); err != nil {
			return c, err
		}
	}
	return c, s.Issue(m, time.Now())
}

// hosts gives the hosts of URLs, each once.
func hosts(urls []string) (out []string) {
	for _, text := range urls {
		if u, err := url.Parse(text); err == nil && u.Hostname() != "" && !slices.Contains(out, u.Hostname()) {
			out = append(out, u.Hostname())
		}
	}
	return out
}

// hasMember says whether etcd has written its log in a data directory, or in
// the log's own.
func hasMember(dir, walDir string) bool {
	if walDir == "" {
		walDir = filepath.Join(dir, "member", "wal")
	}
	logs, _ := filepath.Glob(filepath.Join(walDir, "*.wal"))
	return len(logs) > 0
}

// teller logs a step, and shows it in the unit's status.
func teller(log *zap.Logger) func(text string, failure bool) {
	return func(text string, failure bool) {
		notify(log, "STATUS="+text)
		if failure {
			log.Warn(text)
			return
		}
		log.Info(text)
	}
}
