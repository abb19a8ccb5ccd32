package kv

import (
	"strings"
	"testing"

	"github.com/coracle-os/coracle/agents/kv/datadir"
	"github.com/coracle-os/coracle/agents/kv/peers"
	"github.com/coracle-os/coracle/agents/kv/proxy"
)

func TestDecideRole(t *testing.T) {
	own, other := "http://10.0.0.1:2380", "http://10.0.0.2:2380"
	cluster := func(m datadir.Cluster) datadir.State {
		m.ID, m.Peers = "abc", []string{other}
		return datadir.State{Cluster: &m}
	}
	running := func(urls ...string) []peers.Cluster {
		c := peers.Cluster{ID: 0xabc, Members: []peers.Member{{ID: 2, Name: "b", PeerURLs: []string{other}, ClientURLs: []string{"http://10.0.0.2:2379"}}}}
		for _, u := range urls {
			c.Members = append(c.Members, peers.Member{ID: 1, Name: "a", PeerURLs: []string{u}, ClientURLs: []string{"http://x:2379"}})
		}
		return []peers.Cluster{c}
	}
	forming := running(own)
	forming[0].Members[1].ClientURLs = nil
	unknown := running() // a cluster that is being formed, under names not known here
	unknown[0].Members[0].ClientURLs = nil
	static := []string{own, other}
	for _, c := range []struct {
		name   string
		f      facts
		role   role
		reason string
	}{
		{"alone", facts{initial: []string{own}}, asMember, "the initial cluster is given"},
		{"data comes first", facts{hasMember: true, forming: Forming{Proxy: proxy.On, Discovery: "u"}, state: cluster(datadir.Cluster{Removed: true})}, asMember, "has a member"},
		{"proxy", facts{forming: Forming{Proxy: proxy.On}, initial: static}, asProxy, "ETCD_PROXY is on"},
		{"proxy again", facts{forming: Forming{Proxy: proxy.Readonly, Discovery: "u"}, state: cluster(datadir.Cluster{})}, asProxy, "readonly"},
		{"proxy by token", facts{forming: Forming{Proxy: proxy.On, Discovery: "u"}}, asDiscovery, ""},
		{"stood by", facts{forming: Forming{Discovery: "u"}, state: cluster(datadir.Cluster{})}, asCandidate, "stood by the cluster abc before"},
		{"removed", facts{initial: static, state: cluster(datadir.Cluster{Member: "1", Removed: true})}, asCandidate, "member 1 was removed"},
		{"disk lost, note kept", facts{initial: static, state: cluster(datadir.Cluster{Member: "1"})}, asCandidate, "its data is gone"},
		{"alone, data removed by the owner", facts{initial: []string{own}, state: datadir.State{Cluster: &datadir.Cluster{ID: "abc", Member: "1"}}}, asMember, ""},
		{"join", facts{forming: Forming{Join: []string{"http://h:2379"}}}, asCandidate, "ETCD_JOIN is set"},
		{"token", facts{forming: Forming{Discovery: "u"}}, asDiscovery, ""},
		{"static, first of all", facts{initial: static, own: []string{own}}, asMember, ""},
		{"static, the others were faster", facts{initial: static, own: []string{own}, answers: forming}, asMember, ""},
		{"static, under other names", facts{initial: static, own: []string{own}, answers: unknown}, asMember, ""},
		{"static, disk and note lost", facts{initial: static, own: []string{own}, answers: running(own)}, asCandidate, "either it is lost, or two machines have one address"},
		{"static, replaced by now", facts{initial: static, own: []string{own}, answers: running()}, asCandidate, "has no member with this machine's address"},
		{"existing", facts{initial: static, own: []string{own}, existing: true, answers: running()}, asMember, "the owner's settings"},
		{"force-new-cluster", facts{initial: static, own: []string{own}, forceNew: true}, asMember, "the owner's settings"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := decide(c.f)
			if got.role != c.role || !strings.Contains(got.reason, c.reason) || got.reason == "" {
				t.Errorf("got %+v, want %s because %q", got, c.role, c.reason)
			}
		})
	}
}
