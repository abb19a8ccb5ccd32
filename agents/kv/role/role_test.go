package role

import (
	"strings"
	"testing"

	"github.com/coracle-os/coracle/agents/kv/datadir"
	"github.com/coracle-os/coracle/agents/kv/peers"
	"github.com/coracle-os/coracle/agents/kv/proxy"
	"github.com/coracle-os/coracle/agents/kv/settings"
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
		f      Facts
		role   Role
		reason string
	}{
		{"alone", Facts{Initial: []string{own}}, Member, "the initial cluster is given"},
		{"data comes first", Facts{HasMember: true, Forming: settings.Forming{Proxy: proxy.On, Discovery: "u"}, State: cluster(datadir.Cluster{Removed: true})}, Member, "has a member"},
		{"proxy", Facts{Forming: settings.Forming{Proxy: proxy.On}, Initial: static}, Proxy, "ETCD_PROXY is on"},
		{"proxy again", Facts{Forming: settings.Forming{Proxy: proxy.Readonly, Discovery: "u"}, State: cluster(datadir.Cluster{})}, Proxy, "readonly"},
		{"proxy by token", Facts{Forming: settings.Forming{Proxy: proxy.On, Discovery: "u"}}, Discovery, ""},
		{"stood by", Facts{Forming: settings.Forming{Discovery: "u"}, State: cluster(datadir.Cluster{})}, Candidate, "stood by the cluster abc before"},
		{"removed", Facts{Initial: static, State: cluster(datadir.Cluster{Member: "1", Removed: true})}, Candidate, "member 1 was removed"},
		{"disk lost, note kept", Facts{Initial: static, State: cluster(datadir.Cluster{Member: "1"})}, Candidate, "its data is gone"},
		{"alone, data removed by the owner", Facts{Initial: []string{own}, State: datadir.State{Cluster: &datadir.Cluster{ID: "abc", Member: "1"}}}, Member, ""},
		{"join", Facts{Forming: settings.Forming{Join: []string{"http://h:2379"}}}, Candidate, "ETCD_JOIN is set"},
		{"token", Facts{Forming: settings.Forming{Discovery: "u"}}, Discovery, ""},
		{"static, first of all", Facts{Initial: static, Own: []string{own}}, Member, ""},
		{"static, the others were faster", Facts{Initial: static, Own: []string{own}, Answers: forming}, Member, ""},
		{"static, under other names", Facts{Initial: static, Own: []string{own}, Answers: unknown}, Member, ""},
		{"static, disk and note lost", Facts{Initial: static, Own: []string{own}, Answers: running(own)}, Candidate, "either it is lost, or two machines have one address"},
		{"static, replaced by now", Facts{Initial: static, Own: []string{own}, Answers: running()}, Candidate, "has no member with this machine's address"},
		{"existing", Facts{Initial: static, Own: []string{own}, Existing: true, Answers: running()}, Member, "the owner's settings"},
		{"force-new-cluster", Facts{Initial: static, Own: []string{own}, ForceNew: true}, Member, "the owner's settings"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Decide(c.f)
			if got.Role != c.role || !strings.Contains(got.Reason, c.reason) || got.Reason == "" {
				t.Errorf("got %+v, want %s because %q", got, c.role, c.reason)
			}
		})
	}
}
