package keeper

import (
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/kv/admission"
	"github.com/coracle-os/coracle/agents/kv/heal"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.uber.org/zap"
)

func TestUndisturbed(t *testing.T) {
	start := time.Unix(1000, 0)
	for _, c := range []struct {
		name  string
		turns []int // seconds; negative for a turn without a leader
		now   int
		want  bool
	}{
		{"never looked", nil, 0, false},
		{"just begun", []int{1, 2, 3}, 4, false},
		{"long in calm", []int{1, 2, 3, 6, 8, 12}, 13, true},
		{"paused, and removed on waking up", []int{1, 4, 8, 12}, 40, false},
		{"paused, and removed soon after", []int{1, 4, 8, 12, 40, 41}, 42, false},
		{"without a leader", []int{1, 4, 8, -12, 14}, 15, false},
		{"without a leader long ago", []int{1, -4, 8, 12, 16}, 17, true},
	} {
		k := New(Config{})
		for _, s := range c.turns {
			k.look(start.Add(time.Duration(max(s, -s))*time.Second), s > 0)
		}
		if got := k.Undisturbed(start.Add(time.Duration(c.now) * time.Second)); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestInitialCluster(t *testing.T) {
	list := []*membership.Member{
		{ID: 1, Attributes: membership.Attributes{Name: "a"}, RaftAttributes: membership.RaftAttributes{PeerURLs: []string{"http://a:2380", "http://a:7001"}}},
		{ID: 0xb, RaftAttributes: membership.RaftAttributes{PeerURLs: []string{"http://b:2380"}}},
		{ID: 0xc, RaftAttributes: membership.RaftAttributes{PeerURLs: []string{"http://c:2380"}}},
	}
	if got, want := initialCluster(list, 0xc, "new"), "a=http://a:2380,a=http://a:7001,b=http://b:2380,new=http://c:2380"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestBeforeTheMemberIsReady(t *testing.T) {
	k := New(Config{Settings: heal.Settings{Size: 3}, Log: zap.NewNop()})
	if a := k.Answer(t.Context(), admission.Request{Name: "a"}); a.State != admission.Ask || a.Reason == "" {
		t.Errorf("got %+v", a)
	}
}

func TestWaiting(t *testing.T) {
	k := New(Config{Settings: heal.Settings{Size: 1}})
	k.members = []heal.Member{{ID: 1, Name: "a", PeerURLs: []string{"u"}, Started: true, Alive: true}}
	for _, c := range []struct {
		name, url string
		want      admission.State
	}{{"b", "v", admission.Waiting}, {"a", "v", admission.Refused}, {"b", "u", admission.Refused}} {
		if state, reason := k.waiting(heal.Candidate{Name: c.name, PeerURLs: []string{c.url}}); state != c.want || reason == "" {
			t.Errorf("%s at %s: %s, %s", c.name, c.url, state, reason)
		}
	}
}
