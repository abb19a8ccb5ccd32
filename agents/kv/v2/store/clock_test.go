package store_test

import (
	"context"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/kv/v2/engine"
	"github.com/coracle-os/coracle/agents/kv/v2/request"
	"github.com/coracle-os/coracle/agents/kv/v2/store"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
)

// start runs a member.
func start(t *testing.T) *etcdserver.EtcdServer {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir, cfg.LogLevel, cfg.UnsafeNoFsync = t.TempDir(), "fatal", true
	any := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenClientUrls, cfg.ListenPeerUrls = any, any
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	<-e.Server.ReadyNotify()
	return e.Server
}

// role is a member's engine; whether it leads is ours to say.
type role struct {
	*engine.Engine
	leads bool
	skew  *atomic.Int64
}

func (r role) Leads() bool                      { return r.leads }
func (r role) ClocksDiffer(ahead time.Duration) { r.skew.Store(int64(ahead)) }

// TestClocksDiffer has one member take a write while another, whose clock is an
// hour off, leads: nothing ends early or late, the time to live that the leader
// shows is right, and it is told that the clocks differ.
func TestClocksDiffer(t *testing.T) {
	for name, off := range map[string]time.Duration{"ahead": time.Hour, "behind": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			var skew atomic.Int64
			writer := store.New(role{engine.New(server), false, &skew}, time.Now)
			defer writer.Close()
			leader := store.New(role{engine.New(server), true, &skew}, func() time.Time { return time.Now().Add(off) })
			defer leader.Close()
			get := func() int64 {
				e, _, err := leader.Get(t.Context(), &request.Request{Key: "/k"})
				if err != nil {
					return -1
				}
				return e.Node.TTL
			}
			get() // so that it is live
			const life = 2 * time.Second
			began := time.Now()
			r := request.Request{Op: request.Set, Key: "/k", Value: "x", Expire: began.Add(life), Life: life}
			if _, err := writer.Write(t.Context(), &r); err != nil {
				t.Fatal(err)
			}
			if ttl := get(); ttl < 1 || ttl > 2 {
				t.Errorf("ttl %d, want 2", ttl)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			w, _, err := leader.Watch(ctx, &request.Request{Key: "/k"})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			select {
			case e := <-w.C:
				if lived := time.Since(began); lived < life || e.Action != "expire" {
					t.Errorf("%s after %v, want that it expires after %v", e.Action, lived, life)
				}
			case <-ctx.Done():
				t.Error("the key does not expire")
			}
			if got := time.Duration(skew.Load()).Round(time.Minute); got != off {
				t.Errorf("the owner was told that the clock is %v ahead, want %v", got, off)
			}
		})
	}
}
