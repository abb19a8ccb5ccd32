// Package kvtest runs stores in the process of a test: members of upstream's
// etcd, without what Coracle adds. It is for tests of packages that use a store;
// those of Coracle's own etcd run it as a program.
package kvtest

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// FreeURL is an http URL of this machine with a port that nobody uses.
func FreeURL(t testing.TB) url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return url.URL{Scheme: "http", Host: l.Addr().String()}
}

// Config is that of member i, named m0 and so on, with its data in dir. Its
// disk is not synced and it logs nothing.
func Config(t testing.TB, i int, dir string) *embed.Config {
	t.Helper()
	c := embed.NewConfig()
	peer, client := FreeURL(t), FreeURL(t)
	c.Name, c.Dir, c.LogLevel = fmt.Sprintf("m%d", i), dir, "fatal"
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.UnsafeNoFsync = true
	return c
}

// Start makes one cluster of the members and returns when all are ready. They
// end with the test; a member may be closed before.
func Start(t testing.TB, configs ...*embed.Config) []*embed.Etcd {
	t.Helper()
	var names []string
	for _, c := range configs {
		names = append(names, c.InitialCluster)
	}
	var members []*embed.Etcd
	for _, c := range configs {
		c.InitialCluster = strings.Join(names, ",")
		e, err := embed.StartEtcd(c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			select {
			case <-e.Server.StopNotify(): // the test has closed it, which nobody may do twice
			default:
				e.Close()
			}
		})
		members = append(members, e)
	}
	for _, e := range members {
		select {
		case <-e.Server.ReadyNotify():
		case <-time.After(time.Minute):
			t.Fatalf("the member %s is not ready after a minute", e.Config().Name)
		}
	}
	return members
}
