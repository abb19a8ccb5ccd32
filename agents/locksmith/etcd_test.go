package locksmith

import (
	"path/filepath"
	"testing"

	"github.com/coracle-os/coracle/agents/kv/kvtest"
	"go.etcd.io/etcd/server/v3/embed"
)

// startStore runs a key-value store of n members in this process and returns
// when they are ready. stop ends one of them, by its index.
func startStore(t *testing.T, n int) (stop func(member int), endpoints []string) {
	t.Helper()
	var configs []*embed.Config
	for i := range n {
		c := kvtest.Config(t, i, filepath.Join(t.TempDir(), "etcd"))
		endpoints = append(endpoints, c.ListenClientUrls[0].String())
		configs = append(configs, c)
	}
	members := kvtest.Start(t, configs...)
	stop = func(i int) {
		members[i].Server.HardStop()
		members[i].Close()
	}
	return stop, endpoints
}
