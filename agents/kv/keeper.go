package kv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coracle-os/coracle/agents/kv/admission"
	"github.com/coracle-os/coracle/agents/kv/datadir"
	"github.com/coracle-os/coracle/agents/kv/heal"
	"github.com/coracle-os/coracle/agents/kv/peers"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	etcderrors "go.etcd.io/etcd/server/v3/etcdserver/errors"
	"go.uber.org/zap"
)

const (
	// keepEvery is how often the leader looks after its members.
	keepEvery = time.Second
	// forgetAfter is how long a machine that asked to join counts as there.
	forgetAfter = 10 * time.Second
)

// keeper is the part of a member that keeps the cluster at its size while the
// member leads, and that answers machines that ask to join.
type keeper struct {
	machine  *machine
	settings heal.Settings

	mu         sync.Mutex
	server     *etcdserver.EtcdServer // nil until it is ready
	members    []heal.Member          // as last seen by the leader
	candidates map[string]candidate   // by name and address
	deadSince  map[types.ID]time.Time
	said       string
	remembered datadir.Cluster
	looked     time.Time // last turn
	disturbed  time.Time // last time that a turn came late or found no leader
}

const (
	// late is the time between two turns after which this machine was paused.
	late = 5 * time.Second
	// calm is how long a member must have run undisturbed for its removal to be
	// the owner's wish.
	calm = 10 * time.Second
)

type candidate struct {
	heal.Candidate
	seen time.Time
}

func newKeeper(m *machine, s heal.Settings) *keeper {
	return &keeper{machine: m, settings: s, candidates: map[string]candidate{}, deadSince: map[types.ID]time.Time{}}
}

// run looks after the cluster until ctx ends.
func (k *keeper) run(ctx context.Context, s *etcdserver.EtcdServer) {
	k.mu.Lock()
	k.server = s
	k.mu.Unlock()
	for {
		k.look(time.Now(), s.Leader() != 0)
		k.rememberCluster(s)
		if s.Leader() == s.MemberID() {
			k.lead(ctx, s)
		} else {
			k.follow()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(keepEvery):
		}
	}
}

// look notes a turn.
func (k *keeper) look(now time.Time, leader bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !leader || now.Sub(k.looked) > late {
		k.disturbed = now
	}
	k.looked = now
}

// undisturbed says whether this member ran and had a leader all the time: then
// nobody can have taken it for dead.
func (k *keeper) undisturbed(now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return now.Sub(k.looked) <= late && now.Sub(k.disturbed) > calm
}

// follow forgets what only a leader knows: a later term begins anew.
func (k *keeper) follow() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.deadSince)
	clear(k.candidates)
	k.members, k.said = nil, ""
}

// lead does one task, if there is one.
func (k *keeper) lead(ctx context.Context, s *etcdserver.EtcdServer) {
	members := k.observe(ctx, s)
	k.mu.Lock()
	k.members = members
	var asking []heal.Candidate
	for key, c := range k.candidates {
		if time.Since(c.seen) > forgetAfter {
			delete(k.candidates, key)
			continue
		}
		asking = append(asking, c.Candidate)
	}
	k.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	task := heal.Decide(members, asking, k.settings)
	if task.Do == heal.Nothing {
		k.say(task.Reason, "healing: "+task.Reason)
		return
	}
	text := fmt.Sprintf("healing: %s %s: %s", task.Do, subject(task), task.Reason)
	err := k.carryOut(ctx, s, task)
	switch {
	case errors.Is(err, etcderrors.ErrLearnerNotReady):
		k.say("behind", "healing: the learner is not promoted yet: it still catches up")
	case err != nil && ctx.Err() == nil:
		k.say(err.Error(), fmt.Sprintf("%s; not done: %v; it is tried again", text, err))
	case err == nil:
		k.say(text, text)
	}
}

func subject(t heal.Task) string {
	if t.Do == heal.Add {
		return fmt.Sprintf("%q at %v", t.Candidate.Name, t.Candidate.PeerURLs)
	}
	return fmt.Sprintf("member %x", t.ID)
}

// say logs a line when it is another one than before.
func (k *keeper) say(key, text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if key == k.said {
		return
	}
	k.said = key
	if key != "" {
		k.machine.log.Info(text)
	}
}

// carryOut changes the membership. The calls are the server's own, so that the
// leader may do this while authentication is on; etcd checks once more that
// the quorum is safe.
func (k *keeper) carryOut(ctx context.Context, s *etcdserver.EtcdServer, t heal.Task) error {
	ctx, cancel := context.WithTimeout(s.AuthStore().WithRoot(ctx), 7*time.Second)
	defer cancel()
	var err error
	switch t.Do {
	case heal.Remove:
		_, err = s.RemoveMember(ctx, t.ID)
	case heal.Promote:
		_, err = s.PromoteMember(ctx, t.ID)
	case heal.Add:
		urls, uerr := types.NewURLs(t.Candidate.PeerURLs)
		if uerr != nil {
			return uerr
		}
		now := time.Now()
		_, err = s.AddMember(ctx, *membership.NewMemberAsLearner("", urls, "", &now))
	}
	return err
}

// observe asks each member for a sign of life.
func (k *keeper) observe(ctx context.Context, s *etcdserver.EtcdServer) []heal.Member {
	list := s.Cluster().Members()
	alive := make([]bool, len(list))
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i, m := range list {
		wg.Go(func() {
			if m.ID == s.MemberID() {
				alive[i] = true
				return
			}
			c, err := peers.AskAny(ctx, k.machine.peers, m.PeerURLs)
			alive[i] = err == nil && c.ID == uint64(s.Cluster().ID())
		})
	}
	wg.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []heal.Member
	now := time.Now()
	for i, m := range list {
		h := heal.Member{ID: uint64(m.ID), Name: m.Name, PeerURLs: m.PeerURLs, Learner: m.IsLearner, Started: len(m.ClientURLs) > 0, Alive: alive[i]}
		if alive[i] {
			delete(k.deadSince, m.ID)
		} else if _, ok := k.deadSince[m.ID]; !ok {
			k.deadSince[m.ID] = now
		}
		if since, ok := k.deadSince[m.ID]; ok {
			h.DeadFor = now.Sub(since) // by the monotonic clock: a wrong one does no harm
		}
		out = append(out, h)
	}
	return out
}

// answer answers a machine that asks to join.
func (k *keeper) answer(_ context.Context, r admission.Request) admission.Answer {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.server
	if s == nil || s.Leader() == 0 {
		return admission.Answer{State: admission.Ask, Reason: "the member has no leader"}
	}
	list := s.Cluster().Members()
	a := admission.Answer{Size: k.settings.Size}
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
	if len(k.candidates) < 100 {
		k.candidates[key] = candidate{heal.Candidate{Name: r.Name, PeerURLs: r.PeerURLs}, time.Now()}
	}
	a.State, a.Reason = k.waiting(heal.Candidate{Name: r.Name, PeerURLs: r.PeerURLs})
	return a
}

// waiting says why a candidate is not admitted yet.
func (k *keeper) waiting(c heal.Candidate) (admission.State, string) {
	if ok, reason := heal.Acceptable(k.members, c); !ok {
		return admission.Refused, reason
	}
	voters := 0
	for _, m := range k.members {
		if !m.Learner {
			voters++
		}
	}
	if voters >= k.settings.Size {
		return admission.Waiting, fmt.Sprintf("the cluster has %d of %d members: this machine stands by", voters, k.settings.Size)
	}
	return admission.Waiting, fmt.Sprintf("the cluster has %d of %d members: the leader looks into it", voters, k.settings.Size)
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

// rememberCluster writes what has changed since it was last written.
func (k *keeper) rememberCluster(s *etcdserver.EtcdServer) {
	c := datadir.Cluster{ID: s.Cluster().ID().String(), Member: s.MemberID().String(), Size: k.settings.Size}
	for _, m := range s.Cluster().Members() {
		c.Clients = append(c.Clients, m.ClientURLs...)
		if m.ID != s.MemberID() {
			c.Peers = append(c.Peers, m.PeerURLs...)
		}
	}
	if slices.Equal(c.Peers, k.remembered.Peers) && slices.Equal(c.Clients, k.remembered.Clients) && c.ID == k.remembered.ID {
		return
	}
	k.remembered = c
	k.machine.remember(c)
	k.machine.log.Info("the members of the cluster", zap.Strings("peers", c.Peers))
}
