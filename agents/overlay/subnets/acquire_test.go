package subnets

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/lease"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// store is a real etcd of one member.
func store(t *testing.T) *clientv3.Client {
	t.Helper()
	config := embed.NewConfig()
	config.Dir, config.LogLevel, config.UnsafeNoFsync = t.TempDir(), "fatal", true
	var free []url.URL
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		free = append(free, url.URL{Scheme: "http", Host: l.Addr().String()})
		l.Close()
	}
	config.ListenClientUrls, config.AdvertiseClientUrls = free[:1], free[:1]
	config.ListenPeerUrls, config.AdvertisePeerUrls = free[1:], free[1:]
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	e, err := embed.StartEtcd(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	<-e.Server.ReadyNotify()
	kv, err := clientv3.New(clientv3.Config{Endpoints: []string{free[0].String()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kv.Close() })
	return kv
}

const prefix = "/coreos.com/network"

func put(t *testing.T, kv *clientv3.Client, key, value string) {
	t.Helper()
	if _, err := kv.Put(t.Context(), prefix+"/"+key, value); err != nil {
		t.Fatal(err)
	}
}

// take gets a subnet for the machine with an address.
func take(t *testing.T, kv *clientv3.Client, address string) *lease.Lease {
	t.Helper()
	m := &Manager{KV: kv, Prefix: prefix, Log: slog.New(slog.DiscardHandler)}
	l, err := m.AcquireLease(t.Context(), &lease.LeaseAttrs{PublicIP: ip.MustParseIP4(address), BackendType: "vxlan"})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestReservation: a subnet that somebody wrote without an end is its
// machine's and nobody else's, and stays without an end.
func TestReservation(t *testing.T) {
	kv := store(t)
	put(t, kv, "config", `{"Network":"10.1.0.0/22"}`)                  // .1, .2 and .3
	take(t, kv, "192.0.2.1")                                           // has a lease, and gets a reservation
	put(t, kv, "subnets/10.1.2.0-24", `{"PublicIP":"192.0.2.1"}`)      // may be its own already
	put(t, kv, "subnets/10.1.3.0-24", `{"PublicIP":"192.0.2.9"}`)      // of a machine that is not there
	put(t, kv, "subnets/10.9.3.0-24", `{"PublicIP":"192.0.2.1"}`)      // of a network from before
	put(t, kv, "subnets/10.1.0.0-24-what", `{"PublicIP":"192.0.2.1"}`) // none
	for range 2 {
		if l := take(t, kv, "192.0.2.1"); l.Subnet.String() != "10.1.2.0/24" || !l.Expiration.IsZero() {
			t.Fatalf("got %v until %v", l.Subnet, l.Expiration)
		}
	}
	if l := take(t, kv, "192.0.2.2"); l.Subnet.String() != "10.1.1.0/24" || l.Expiration.IsZero() {
		t.Errorf("got %v until %v", l.Subnet, l.Expiration)
	}
	m := &Manager{KV: kv, Prefix: prefix, Log: slog.New(slog.DiscardHandler)}
	if _, err := m.AcquireLease(t.Context(), &lease.LeaseAttrs{PublicIP: ip.MustParseIP4("192.0.2.3")}); err == nil || !strings.Contains(err.Error(), ErrUsedUp.Error()) {
		t.Errorf("a fourth machine: %v", err)
	}
	got, err := kv.Get(t.Context(), prefix+"/subnets/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	ends := map[string]bool{}
	for _, e := range got.Kvs {
		ends[strings.TrimPrefix(string(e.Key), prefix+"/subnets/")] = e.Lease != 0
	}
	want := "map[10.1.0.0-24-what:false 10.1.1.0-24:true 10.1.2.0-24:false 10.1.3.0-24:false 10.9.3.0-24:false]"
	if fmt.Sprint(ends) != want {
		t.Errorf("with an end: %v, want %v", ends, want)
	}
}

// TestBefore: what a machine had before it gets again if it is free.
func TestBefore(t *testing.T) {
	kv := store(t)
	put(t, kv, "config", `{"Network":"10.1.0.0/16"}`)
	first := take(t, kv, "192.0.2.1")
	for address, same := range map[string]bool{"192.0.2.2": false, "192.0.2.1": true} {
		m := &Manager{KV: kv, Prefix: prefix, Before4: first.Subnet, Log: slog.New(slog.DiscardHandler)}
		l, err := m.AcquireLease(t.Context(), &lease.LeaseAttrs{PublicIP: ip.MustParseIP4(address)})
		if err != nil || l.Subnet.Equal(first.Subnet) != same {
			t.Errorf("%s got %v, %v", address, l, err)
		}
		if err := m.RenewLease(t.Context(), l); err != nil {
			t.Errorf("renew: %v", err)
		}
	}
	kv.Delete(t.Context(), prefix+"/subnets/", clientv3.WithPrefix())
	m := &Manager{KV: kv, Prefix: prefix, Before4: first.Subnet, Log: slog.New(slog.DiscardHandler)}
	if l, err := m.AcquireLease(t.Context(), &lease.LeaseAttrs{PublicIP: ip.MustParseIP4("192.0.2.3")}); err != nil || !l.Subnet.Equal(first.Subnet) {
		t.Errorf("got %v, %v", l, err)
	}
}

// TestTogether: machines that come at the same time get different subnets, of
// IPv6 too; one of the network has no IPv6.
func TestTogether(t *testing.T) {
	kv := store(t)
	put(t, kv, "config", `{"Network":"10.1.0.0/20","EnableIPv6":true,"IPv6Network":"fd10:1::/60"}`)
	put(t, kv, "subnets/10.1.5.0-24", `{"PublicIP":"192.0.2.99","BackendType":"vxlan"}`)
	var mu sync.Mutex
	seen := map[string]string{"10.1.5.0/24": "192.0.2.99"}
	var all sync.WaitGroup
	for n := range 12 {
		all.Go(func() {
			address := fmt.Sprintf("192.0.2.%d", n+1)
			l := take(t, kv, address)
			mu.Lock()
			defer mu.Unlock()
			for _, subnet := range []string{l.Subnet.String(), l.IPv6Subnet.String()} {
				if other := seen[subnet]; other != "" {
					t.Errorf("%s has %s, and so has %s", address, subnet, other)
				}
				seen[subnet] = address
			}
		})
	}
	all.Wait()
}

// TestParse has networks that cannot be.
func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		`{"Network":"10.1.0.0/16"}`: "",
		`10.1.0.0/16`:               "it is not JSON",
		`{"Network":"10.1.0.0/30"}`: "Minimum useful network prefix is /28",
		`{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48"}`: "it has no IPv4",
	} {
		_, err := Parse([]byte(text))
		if got := fmt.Sprint(err); want == "" && err != nil || !strings.Contains(got, want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
