package mirror

import (
	"log/slog"
	"maps"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/registry/layout"
)

// state is what the keys say. It is not safe for concurrent use.
type state struct {
	keys layout.Keys
	log  *slog.Logger

	contents   map[string]*content
	jobs       map[string]fleet.Unit      // without requirements
	named      map[string]int             // hash to the number of jobs that name it
	missing    map[string]map[string]bool // hash without content to the jobs that name it
	units      *table[fleet.Unit]
	placements *table[fleet.Placement]
	states     *table[fleet.UnitState]
	objects    map[string]fleet.Machine
	metadata   map[string]map[string]string // machine to what was patched
	drains     map[string]layout.Drained
	leader     *layout.Engine
	version    string

	machines []fleet.Machine // as of the last view
	stale    bool            // machines is to be made again
	expires  time.Time       // when it is to be made again for a drain's end; zero is never

	garbage map[string]bool // keys that were named in the log
}

func newState(keys layout.Keys, log *slog.Logger, garbage map[string]bool) *state {
	return &state{
		keys: keys, log: log,
		contents: map[string]*content{}, jobs: map[string]fleet.Unit{}, named: map[string]int{}, missing: map[string]map[string]bool{},
		units:      newTable(func(u *fleet.Unit) key { return key{first: u.Name} }, nil),
		placements: newTable(func(p *fleet.Placement) key { return key{p.Unit, p.Machine} }, nil),
		states:     newTable(func(s *fleet.UnitState) key { return key{s.Unit, s.Machine} }, nil),
		objects:    map[string]fleet.Machine{}, metadata: map[string]map[string]string{}, drains: map[string]layout.Drained{},
		stale: true, garbage: garbage,
	}
}

func (s *state) apply(e *clientv3.Event) {
	if e.Type == mvccpb.DELETE {
		s.remove(string(e.Kv.Key))
	} else {
		s.put(string(e.Kv.Key), e.Kv.Value)
	}
}

// put takes one key. What is garbage counts as not there: everything else goes on.
func (s *state) put(k string, value []byte) {
	kind, name := s.keys.Parse(k)
	var err error
	switch kind {
	case layout.Unknown:
		s.ignore(k, "no key of the scheduler looks like this")
		return
	case layout.Content:
		err = s.putContent(name.First, value)
	case layout.Job:
		err = s.putJob(name.First, value)
	case layout.Placement:
		err = decoded(layout.DecodePlacement, name, value, s.placements.put)
	case layout.State:
		err = decoded(layout.DecodeState, name, value, s.states.put)
	case layout.Machine:
		var m fleet.Machine
		if m, err = layout.DecodeMachine(name.First, value); err == nil {
			s.objects[name.First], s.stale = m, true
		}
	case layout.Metadata:
		s.patch(name, string(value))
	case layout.Drain:
		var d layout.Drained
		if d, err = layout.DecodeDrain(value); err == nil {
			s.drains[name.First], s.stale = d, true
		}
	case layout.Leader:
		var e layout.Engine
		if e, err = layout.DecodeEngine(value); err == nil {
			s.leader = &e
		}
	case layout.EngineVersion:
		s.version = string(value)
	}
	if err != nil {
		s.drop(kind, name)
		s.ignore(k, err.Error())
		return
	}
	if kind != layout.Job { // which derive does, when the content is there too
		delete(s.garbage, k)
	}
}

func decoded[V any](decode func(layout.Name, []byte) (V, error), name layout.Name, value []byte, put func(V)) error {
	v, err := decode(name, value)
	if err == nil {
		put(v)
	}
	return err
}

func (s *state) remove(k string) {
	delete(s.garbage, k)
	s.drop(s.keys.Parse(k))
}

func (s *state) drop(kind layout.Kind, name layout.Name) {
	switch kind {
	case layout.Content:
		s.removeContent(name.First)
	case layout.Job:
		s.removeJob(name.First)
	case layout.Placement:
		s.placements.remove(key{name.Second, name.First})
	case layout.State:
		s.states.remove(key{name.Second, name.First})
	case layout.Machine:
		delete(s.objects, name.First)
		s.stale = true
	case layout.Metadata:
		delete(s.metadata[name.First], name.Second)
		s.stale = true
	case layout.Drain:
		delete(s.drains, name.First)
		s.stale = true
	case layout.Leader:
		s.leader = nil
	case layout.EngineVersion:
		s.version = ""
	}
}

// ignore names garbage once.
func (s *state) ignore(k, why string) {
	if s.garbage[k] {
		return
	}
	s.garbage[k] = true
	s.log.Warn("A key of the KV is not understood and ignored; look at it with etcdctl get, or remove it", "key", k, "reason", why)
}

func (s *state) putContent(hash string, value []byte) error {
	raw, err := layout.DecodeContent(hash, value)
	if err != nil {
		return err
	}
	if s.contents[hash] != nil {
		return nil
	}
	c, err := parseContent(raw)
	if err != nil {
		return err
	}
	s.contents[hash] = c
	for name := range s.missing[hash] {
		s.derive(s.jobs[name])
	}
	delete(s.missing, hash)
	return nil
}

// removeContent forgets a content, and the units that were made of it.
func (s *state) removeContent(hash string) {
	if s.contents[hash] == nil {
		return
	}
	delete(s.contents, hash)
	if s.named[hash] == 0 {
		return
	}
	for _, j := range s.jobs {
		if j.Hash == hash {
			s.units.remove(key{first: j.Name})
			s.wait(j)
		}
	}
}

func (s *state) putJob(name string, value []byte) error {
	j, err := layout.DecodeJob(name, value)
	if err != nil {
		return err
	}
	s.forget(name)
	s.jobs[name] = j
	s.named[j.Hash]++
	if s.contents[j.Hash] == nil {
		s.units.remove(key{first: name})
		s.wait(j)
		return nil
	}
	s.derive(j)
	return nil
}

func (s *state) wait(j fleet.Unit) {
	if s.missing[j.Hash] == nil {
		s.missing[j.Hash] = map[string]bool{}
	}
	s.missing[j.Hash][j.Name] = true
}

// derive makes a unit of a job and its content, which is there.
func (s *state) derive(j fleet.Unit) {
	if old := s.units.get(key{first: j.Name}); old != nil && old.Hash == j.Hash {
		j.Requirements = old.Requirements
	} else {
		j.Requirements = s.contents[j.Hash].requirements(j.Name)
	}
	s.units.put(j)
	delete(s.garbage, s.keys.Job(j.Name))
}

func (s *state) removeJob(name string) {
	s.forget(name)
	s.units.remove(key{first: name})
}

// forget takes a job, if it is there, from the indexes.
func (s *state) forget(name string) {
	j, ok := s.jobs[name]
	if !ok {
		return
	}
	delete(s.jobs, name)
	if delete(s.missing[j.Hash], name); len(s.missing[j.Hash]) == 0 {
		delete(s.missing, j.Hash)
	}
	if s.named[j.Hash]--; s.named[j.Hash] == 0 {
		delete(s.named, j.Hash)
	}
}

func (s *state) patch(n layout.Name, value string) {
	if s.metadata[n.First] == nil {
		s.metadata[n.First] = map[string]string{}
	}
	s.metadata[n.First][n.Second] = value
	s.stale = true
}

// namesMissing names the jobs without content, once everything was read.
func (s *state) namesMissing() {
	for hash, names := range s.missing {
		for name := range names {
			s.ignore(s.keys.Job(name), "its content "+s.keys.Content(hash)+" is not there or not understood")
		}
	}
}

// view makes the snapshot; unchanged parts are shared with the one before.
func (s *state) view(revision int64, now time.Time) *fleet.Snapshot {
	if s.stale || !s.expires.IsZero() && !now.Before(s.expires) {
		s.merge(now)
	}
	return &fleet.Snapshot{
		Revision: revision, Now: now,
		Units: s.units.view(), Machines: s.machines, Placements: s.placements.view(), States: s.states.view(),
	}
}

// merge makes the machines of their objects, metadata and drains.
func (s *state) merge(now time.Time) {
	all := make([]fleet.Machine, 0, len(s.objects))
	s.stale, s.expires = false, time.Time{}
	for id, m := range s.objects {
		if patched := s.metadata[id]; len(patched) > 0 {
			m.Metadata = maps.Clone(m.Metadata)
			if m.Metadata == nil {
				m.Metadata = map[string]string{}
			}
			maps.Copy(m.Metadata, patched)
			maps.DeleteFunc(m.Metadata, func(_, v string) bool { return v == "" })
		}
		if d, ok := s.drains[id]; ok && !d.Ended(m.BootID, now) {
			m.Draining = d.Reason
			if !d.Until.IsZero() && (s.expires.IsZero() || d.Until.Before(s.expires)) {
				s.expires = d.Until
			}
		}
		all = append(all, m)
	}
	s.machines = newTable(func(m *fleet.Machine) key { return key{first: m.ID} }, all).sorted
}
