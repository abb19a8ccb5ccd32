// Package mirror is the scheduler's data in memory, kept up by a watch: what the
// engine decides on and the API answers from. Reading a snapshot costs what
// changed since the last one; 10,000 units are parsed once per content.
//
// A mirror starts when it is first asked and stops when nobody asked for a
// while: on a thousand machines only the engine's own runs all the time.
package mirror

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/registry/follow"
	"github.com/coracle-os/coracle/agents/fleet/registry/layout"
)

// Options are a mirror's; all may be left out.
type Options struct {
	Prefix string           // "" is fleet's
	Idle   time.Duration    // stop after nobody asked for so long; 0 is never
	Log    *slog.Logger     // nil is slog.Default()
	Now    func() time.Time // nil is time.Now
}

// Mirror is the copy. Its methods may be called by many at once.
type Mirror struct {
	client *clientv3.Client
	keys   layout.Keys
	idle   time.Duration
	log    *slog.Logger
	now    func() time.Time

	mu       sync.Mutex
	running  *run            // nil if the mirror is stopped
	garbage  map[string]bool // keys named in the log, also by runs before
	closed   bool
	lastUsed time.Time
	users    int // calls that wait
}

// run is one start of the mirror, until it stops.
type run struct {
	ctx      context.Context
	cancel   context.CancelFunc
	done     chan struct{}
	state    *state // nil until everything was read
	revision int64
	lost     error         // why the KV is not followed now; nil if it is
	changed  chan struct{} // closed and made anew at each change
}

// New makes a mirror that is not started.
func New(client *clientv3.Client, o Options) *Mirror {
	m := &Mirror{client: client, keys: layout.NewKeys(o.Prefix), idle: o.Idle, log: o.Log, now: o.Now, garbage: map[string]bool{}}
	if m.log == nil {
		m.log = slog.Default()
	}
	if m.now == nil {
		m.now = time.Now
	}
	return m
}

// Close stops the mirror for good and waits until it has.
func (m *Mirror) Close() {
	m.mu.Lock()
	m.closed = true
	r := m.running
	m.running = nil
	m.mu.Unlock()
	if r != nil {
		m.end(r)
	}
}

// end stops a run that m.running no longer is. Who waits for a change of it
// learns that there is none to come.
func (m *Mirror) end(r *run) {
	r.cancel()
	<-r.done
	m.mu.Lock()
	defer m.mu.Unlock()
	close(r.changed)
}

// Running tells if it is started.
func (m *Mirror) Running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.running != nil
}

// View is a snapshot with the units' contents.
type View struct {
	*fleet.Snapshot
	// Changed is closed when there is something newer, and when the mirror
	// stops because nobody asks: At starts it again.
	Changed <-chan struct{}

	mirror *Mirror
	run    *run
}

// Raw is the serialised content with this hash; false if it is not there.
func (v *View) Raw(hash string) (string, bool) {
	v.mirror.mu.Lock()
	defer v.mirror.mu.Unlock()
	c := v.run.state.contents[hash]
	if c == nil {
		return "", false
	}
	return c.raw, true
}

// Unused are the hashes of contents that no unit, no rollout's way back and no
// placement names, in no order; as of the view's revision or a later one.
func (v *View) Unused() []string {
	v.mirror.mu.Lock()
	defer v.mirror.mu.Unlock()
	s := v.run.state
	used := map[string]bool{}
	for _, j := range s.jobs {
		if j.Rollout != nil {
			used[j.Rollout.Previous] = true
		}
	}
	for _, p := range s.placements.view() {
		used[p.Hash] = true
	}
	var unused []string
	for h := range s.contents {
		if s.named[h] == 0 && !used[h] {
			unused = append(unused, h)
		}
	}
	return unused
}

// Leader is the engine that decides; false if there is none.
func (v *View) Leader() (layout.Engine, bool) {
	v.mirror.mu.Lock()
	defer v.mirror.mu.Unlock()
	if v.run.state.leader == nil {
		return layout.Engine{}, false
	}
	return *v.run.state.leader, true
}

// DrainEnds is when the next drain of a machine ends by time; zero is never.
func (v *View) DrainEnds() time.Time {
	v.mirror.mu.Lock()
	defer v.mirror.mu.Unlock()
	return v.run.state.expires
}

// Newest is the version of the newest engine that ever led; 0 if none did.
func (v *View) Newest() int {
	v.mirror.mu.Lock()
	defer v.mirror.mu.Unlock()
	n, _ := strconv.Atoi(v.run.state.version)
	return n
}

// Fresh is a view at least as new as this call: it asks the KV for its revision
// first. The error has follow.ErrUnavailable if the KV does not answer until
// ctx ends.
func (m *Mirror) Fresh(ctx context.Context) (*View, error) {
	answer, err := m.client.Get(ctx, m.keys.Leader(), clientv3.WithCountOnly())
	if err != nil {
		return nil, follow.Wrap("ask the KV for its revision", err)
	}
	return m.At(ctx, answer.Header.Revision)
}

// progressEvery is how often a view that is waited for asks the watch how far
// it is: most changes of the KV are not under our prefix.
const progressEvery = 20 * time.Millisecond

// At is a view of at least this revision (0 is any): who waits for the revision
// of a write of his own reads what he wrote. It starts the mirror. The error
// has follow.ErrUnavailable if the KV does not answer until ctx ends.
func (m *Mirror) At(ctx context.Context, revision int64) (*View, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users++
	defer func() { m.users--; m.lastUsed = time.Now() }()
	for {
		if m.closed {
			return nil, fmt.Errorf("the mirror is closed: %w", context.Canceled)
		}
		r := m.start()
		if r.state != nil && r.revision >= revision {
			return &View{r.state.view(r.revision, m.now()), r.changed, m, r}, nil
		}
		changed, ask := r.changed, (<-chan time.Time)(nil)
		if r.state != nil {
			ask = time.After(progressEvery)
		}
		m.mu.Unlock()
		select {
		case <-changed:
		case <-ask:
			m.client.RequestProgress(r.ctx)
		case <-ctx.Done():
		case <-r.done:
		}
		m.mu.Lock()
		if err := ctx.Err(); err != nil {
			if r.lost != nil {
				return nil, r.lost
			}
			return nil, follow.Wrap("wait for the KV's changes", err)
		}
	}
}

// start gives the run, a new one if there is none. m.mu is held.
func (m *Mirror) start() *run {
	if m.running != nil {
		return m.running
	}
	ctx, cancel := context.WithCancel(follow.Context(context.Background()))
	r := &run{ctx: ctx, cancel: cancel, done: make(chan struct{}), changed: make(chan struct{})}
	m.running = r
	go func() {
		defer close(r.done)
		follow.Follow(ctx, m.client, m.keys.Prefix, follow.Sink{
			Load:  func(all []*mvccpb.KeyValue, revision int64) { m.load(r, all, revision) },
			Apply: func(events []*clientv3.Event, revision int64) { m.apply(r, events, revision) },
			Lost:  func(err error) { m.lost(r, err) },
		})
	}()
	if m.idle > 0 {
		go m.stopIdle(r)
	}
	return r
}

// stopIdle ends a run that nobody asks any more.
func (m *Mirror) stopIdle(r *run) {
	tick := time.NewTicker(m.idle / 2)
	defer tick.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-tick.C:
		}
		m.mu.Lock()
		idle := m.running == r && m.users == 0 && time.Since(m.lastUsed) >= m.idle
		if idle {
			m.running = nil
		}
		m.mu.Unlock()
		if idle {
			m.end(r)
			return
		}
	}
}

func (m *Mirror) load(r *run, all []*mvccpb.KeyValue, revision int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := newState(m.keys, m.log, m.garbage)
	for _, kv := range all {
		s.put(string(kv.Key), kv.Value)
	}
	s.namesMissing()
	r.state = s
	r.advance(revision)
}

func (m *Mirror) apply(r *run, events []*clientv3.Event, revision int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range events {
		r.state.apply(e)
	}
	if r.lost != nil {
		m.log.Info("The KV is followed again", "revision", revision)
	}
	if len(events) > 0 {
		r.state.namesMissing()
	}
	if revision != r.revision || r.lost != nil {
		r.advance(revision)
	}
}

// advance says that there is something new. m.mu is held.
func (r *run) advance(revision int64) {
	r.revision, r.lost = revision, nil
	close(r.changed)
	r.changed = make(chan struct{})
}

func (m *Mirror) lost(r *run, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.lost == nil {
		m.log.Warn("The KV cannot be followed; trying again until it can", "error", err)
	}
	r.lost = err
}
