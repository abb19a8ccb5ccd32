package store

import (
	"net"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/coracle-os/coracle/agents/fleet/agent/fence"
	"github.com/coracle-os/coracle/agents/fleet/registry"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func free(t *testing.T) url.URL {
	l := listen(t)
	defer l.Close()
	return url.URL{Scheme: "http", Host: l.Addr().String()}
}

// member starts etcd.
func member(t *testing.T) string {
	t.Helper()
	c := embed.NewConfig()
	c.Name, c.Dir = "m0", filepath.Join(t.TempDir(), "etcd")
	peer, client := free(t), free(t)
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.InitialCluster = "m0=" + peer.String()
	c.LogLevel, c.LogOutputs, c.UnsafeNoFsync = "panic", []string{filepath.Join(t.TempDir(), "log")}, true
	e, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return client.String()
}

// TestAsk asks members that lead, are not running, hang, or cannot be what
// they say. (One that has lost its leader is in the lab.)
func TestAsk(t *testing.T) {
	leads, down := member(t), free(t)
	hangs := listen(t) // it takes connections and never answers
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{leads}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s := Store{Registry: registry.New(c, "", 0), ID: "m"}
	single := func(address string) fence.Answer { return s.Ask(t.Context(), [][]string{{address}}, time.Second)[0] }
	// An etcd that just starts knows no leader either.
	for end := time.Now().Add(20 * time.Second); single(leads) != fence.Leads; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a member that leads does not say so")
		}
	}
	for _, test := range []struct {
		name, address string
		want          fence.Answer
	}{
		{"not running", down.String(), fence.NoLeader},
		{"hangs", "http://" + hangs.Addr().String(), fence.Unreached},
		{"no address", "http://", fence.Unreached},
		{"nonsense", "::", fence.Unreached},
	} {
		if got := single(test.address); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
	// Of several members none is at an address that means the one who asks.
	got := s.Ask(t.Context(), [][]string{{down.String()}, {"http://localhost:1", "http://0.0.0.0:1"}, nil}, time.Second)
	if d := cmp.Diff([]fence.Answer{fence.Unreached, fence.Unreached, fence.Unreached}, got); d != "" {
		t.Error(d)
	}
	members, err := s.Members(t.Context())
	if d := cmp.Diff([][]string{{leads}}, members); d != "" || err != nil {
		t.Errorf("%s, %v", d, err)
	}
}
