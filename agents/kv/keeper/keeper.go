// Package keeper is the part of an etcd member that keeps its cluster at its
// size while the member leads, that answers machines which ask to join, and
// that remembers the cluster for a restart. It carries out, one task a turn,
// what agents/kv/heal decides; packages admission and datadir say what it
// answers and writes. Nothing in it depends on the clock's time of day.
package keeper

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

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
	// every is how often the leader looks after its members.
	every = time.Second
	// forgetAfter is how long a machine that asked to join counts as there.
	forgetAfter = 10 * time.Second
)

// Config is what a keeper needs.
type Config struct {
	Settings heal.Settings
	Peers    *http.Client // for the members' peer ports
	Log      *zap.Logger
	// Remember is given the cluster each time that it has changed.
	Remember func(datadir.Cluster)
}

// Keeper is one member's.
type Keeper struct {
	Config

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

// New makes a keeper that refuses to answer until Run is called.
func New(c Config) *Keeper {
	return &Keeper{Config: c, candidates: map[string]candidate{}, deadSince: map[types.ID]time.Time{}}
}

// Run looks after the cluster of a member that is ready until ctx ends.
func (k *Keeper) Run(ctx context.Context, s *etcdserver.EtcdServer) {
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
		case <-time.After(every):
		}
	}
}

// look notes a turn.
func (k *Keeper) look(now time.Time, leader bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !leader || now.Sub(k.looked) > late {
		k.disturbed = now
	}
	k.looked = now
}

// Undisturbed says whether this member ran and had a leader all the time: then
// nobody can have taken it for dead.
func (k *Keeper) Undisturbed(now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return now.Sub(k.looked) <= late && now.Sub(k.disturbed) > calm
}

// follow forgets what only a leader knows: a later term begins anew.
func (k *Keeper) follow() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.deadSince)
	clear(k.candidates)
	k.members, k.said = nil, ""
}

// lead does one task, if there is one.
func (k *Keeper) lead(ctx context.Context, s *etcdserver.EtcdServer) {
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
	task := heal.Decide(members, asking, k.Settings)
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
func (k *Keeper) say(key, text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if key == k.said {
		return
	}
	k.said = key
	if key != "" {
		k.Log.Info(text)
	}
}

// carryOut changes the membership. The calls are the server's own, so that the
// leader may do this while authentication is on; etcd checks once more that
// the quorum is safe.
func (k *Keeper) carryOut(ctx context.Context, s *etcdserver.EtcdServer, t heal.Task) error {
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
func (k *Keeper) observe(ctx context.Context, s *etcdserver.EtcdServer) []heal.Member {
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
			c, err := peers.AskAny(ctx, k.Peers, m.PeerURLs)
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

// rememberCluster writes what has changed since it was last written.
func (k *Keeper) rememberCluster(s *etcdserver.EtcdServer) {
	c := datadir.Cluster{ID: s.Cluster().ID().String(), Member: s.MemberID().String(), Size: k.Settings.Size}
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
	k.Remember(c)
	k.Log.Info("the members of the cluster", zap.Strings("peers", c.Peers))
}
