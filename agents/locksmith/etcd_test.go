package locksmith

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

func freeURL(t *testing.T) url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return url.URL{Scheme: "http", Host: l.Addr().String()}
}

// startStore runs a key-value store of n members in this process, m0 and so on,
// and returns when they are ready. stop ends one of them.
func startStore(t *testing.T, n int) (stop func(member int), endpoints []string) {
	t.Helper()
	var cluster []string
	configs := make([]*embed.Config, n)
	for i := range configs {
		c := embed.NewConfig()
		c.Name, c.Dir = fmt.Sprintf("m%d", i), filepath.Join(t.TempDir(), "etcd")
		peer, client := freeURL(t), freeURL(t)
		c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
		c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
		c.LogLevel, c.LogOutputs = "panic", []string{filepath.Join(t.TempDir(), "log")}
		c.UnsafeNoFsync = true
		cluster = append(cluster, c.Name+"="+peer.String())
		endpoints = append(endpoints, client.String())
		configs[i] = c
	}
	started := make(chan error, n)
	members := make([]*embed.Etcd, n)
	for i, c := range configs {
		c.InitialCluster = strings.Join(cluster, ",")
		go func() {
			e, err := embed.StartEtcd(c)
			members[i] = e
			if err == nil {
				select {
				case <-e.Server.ReadyNotify():
				case <-time.After(time.Minute):
					err = fmt.Errorf("member %s is not ready", c.Name)
				}
			}
			started <- err
		}()
	}
	for range n {
		if err := <-started; err != nil {
			t.Fatal(err)
		}
	}
	stop = func(i int) {
		if members[i] != nil {
			members[i].Server.HardStop()
			members[i].Close()
			members[i] = nil
		}
	}
	t.Cleanup(func() {
		for i := range members {
			stop(i)
		}
	})
	return stop, endpoints
}
