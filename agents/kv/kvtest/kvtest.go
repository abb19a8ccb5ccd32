// Package kvtest runs stores in the process of a test: members of upstream's
// etcd, without what Coracle adds. It is for tests of packages that use a store;
// those of Coracle's own etcd run it as a program.
package kvtest

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// FreeURL is an http URL of this machine with a port that nobody uses.
func FreeURL(t testing.TB) url.URL {
	t.Helper()
	u, err := freeURL()
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func freeURL() (url.URL, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return url.URL{}, err
	}
	defer l.Close()
	return url.URL{Scheme: "http", Host: l.Addr().String()}, nil
}

// Config is that of member i, named m0 and so on, with its data in dir. Its
// disk is not synced and it logs nothing.
func Config(t testing.TB, i int, dir string) *embed.Config {
	t.Helper()
	c := config(fmt.Sprintf("m%d", i), dir, FreeURL(t), FreeURL(t))
	c.UnsafeNoFsync = true
	return c
}

func config(name, dir string, peer, client url.URL) *embed.Config {
	c := embed.NewConfig()
	c.Name, c.Dir, c.LogLevel = name, dir, "fatal"
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	return c
}

// Main runs the tests of a package with one member for all of them, for its
// TestMain, and returns the exit code. The member's disk is synced, so that what
// is measured holds, and its leases may be as short as a second. Its address is
// given to use before the tests begin.
func Main(m *testing.M, use func(address string)) int {
	dir, err := os.MkdirTemp("", "kvtest")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	var urls [2]url.URL
	for i := range urls {
		if urls[i], err = freeURL(); err != nil {
			panic(err)
		}
	}
	c := config("m0", filepath.Join(dir, "etcd"), urls[0], urls[1])
	c.TickMs, c.ElectionMs = 10, 100 // the shortest lease is one and a half elections
	e, err := embed.StartEtcd(c)
	if err != nil {
		panic(err)
	}
	defer e.Close()
	<-e.Server.ReadyNotify()
	use(urls[1].Host)
	return m.Run()
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
