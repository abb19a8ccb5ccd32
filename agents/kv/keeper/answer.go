package keeper

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coracle-os/coracle/agents/kv/admission"
	"github.com/coracle-os/coracle/agents/kv/heal"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
)

// Answer answers a machine that asks to join.
func (k *Keeper) Answer(_ context.Context, r admission.Request) admission.Answer {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.server
	if s == nil || s.Leader() == 0 {
		return admission.Answer{State: admission.Ask, Reason: "the member has no leader"}
	}
	list := s.Cluster().Members()
	a := admission.Answer{Size: k.Settings.Size}
	for _, m := range list {
		a.Peers = append(a.Peers, m.PeerURLs...)
		if m.ID == s.Leader() && s.Leader() != s.MemberID() {
			a.State, a.Reason, a.Clients = admission.Ask, "the leader is "+m.Name, m.ClientURLs
		}
	}
	if s.Leader() != s.MemberID() {
		a.State = admission.Ask
		return a
	}
	key := r.Name + " " + strings.Join(r.PeerURLs, " ")
	for _, m := range list {
		if m.Name == "" && sameURLs(m.PeerURLs, r.PeerURLs) { // added and never started
			delete(k.candidates, key)
			a.State, a.InitialCluster = admission.Admitted, initialCluster(list, m.ID, r.Name)
			return a
		}
	}
	if r.OnlyAdded {
		a.State, a.Reason = admission.Waiting, fmt.Sprintf("the owner lets it join again with `etcdctl member add %s --peer-urls=%s`", r.Name, strings.Join(r.PeerURLs, ","))
		return a
	}
	if len(k.candidates) < 100 {
		k.candidates[key] = candidate{heal.Candidate{Name: r.Name, PeerURLs: r.PeerURLs}, time.Now()}
	}
	a.State, a.Reason = k.waiting(heal.Candidate{Name: r.Name, PeerURLs: r.PeerURLs})
	return a
}

// waiting says why a candidate is not admitted yet.
func (k *Keeper) waiting(c heal.Candidate) (admission.State, string) {
	if ok, reason := heal.Acceptable(k.members, c); !ok {
		return admission.Refused, reason
	}
	voters := 0
	for _, m := range k.members {
		if !m.Learner {
			voters++
		}
	}
	if voters >= k.Settings.Size {
		return admission.Waiting, fmt.Sprintf("the cluster has %d of %d members: this machine stands by", voters, k.Settings.Size)
	}
	return admission.Waiting, fmt.Sprintf("the cluster has %d of %d members: the leader looks into it", voters, k.Settings.Size)
}

func sameURLs(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// initialCluster names all members; the one that is new has no name yet.
func initialCluster(list []*membership.Member, id types.ID, name string) string {
	var out []string
	for _, m := range list {
		n := m.Name
		switch {
		case m.ID == id:
			n = name
		case n == "":
			n = m.ID.String()
		}
		for _, u := range m.PeerURLs {
			out = append(out, n+"="+u)
		}
	}
	return strings.Join(out, ",")
}
