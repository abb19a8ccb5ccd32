package load

import (
	"errors"
	"io/fs"
	"slices"
	"sort"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/files"
	"github.com/coracle-os/coracle/rootfs/unit/graph"
)

// Set holds the units that a manager has loaded. A unit is read once, with
// everything that it names; only Reload reads it again. A Set is used by one
// goroutine.
type Set struct {
	loader  *Loader
	index   *files.Index
	stamp   string
	units   map[string]*unit.Unit // by canonical name
	byName  map[string]string     // any name -> canonical name
	graph   *graph.Graph
	fresh   []*unit.Unit
	virtual map[string]*unit.Unit
}

// NewSet makes an empty Set.
func NewSet(l *Loader) (*Set, error) {
	s := &Set{loader: l, units: map[string]*unit.Unit{}, byName: map[string]string{}, virtual: map[string]*unit.Unit{}}
	return s, s.rescan()
}

// Files returns what the last look at the load path found.
func (s *Set) Files() *files.Index { return s.index }

func (s *Set) rescan() error {
	stamp := s.modified()
	index, err := s.loader.Scan()
	if err != nil {
		return err
	}
	s.index, s.stamp = index, stamp
	return nil
}

// modified returns a text that changes when a directory of the load path does.
func (s *Set) modified() string {
	var b []byte
	for _, dir := range s.loader.LoadPath {
		info, err := fs.Stat(s.loader.FS, dir)
		if err == nil {
			b = info.ModTime().AppendFormat(b, "150405.000000000 ")
		} else if !errors.Is(err, fs.ErrNotExist) {
			b = append(b, err.Error()...)
		}
		b = append(b, dir...)
	}
	return string(b)
}

// Get returns the unit with a name, reading it and all that it names if it was
// not read yet. A unit that was not found is looked for again when a directory
// of the load path changed.
func (s *Set) Get(unitName string) *unit.Unit {
	if u := s.Peek(unitName); u != nil && (u.LoadState != unit.NotFound || s.modified() == s.stamp) {
		return u
	}
	if s.modified() != s.stamp {
		// On an error the old index serves on: the unit is then not found.
		_ = s.rescan()
	}
	s.forget(unitName)
	queue := []string{unitName}
	for len(queue) > 0 {
		n := queue[0]
		queue = queue[1:]
		if u := s.Peek(n); u == nil {
			queue = append(queue, named(s.load(n))...)
		}
	}
	s.orderTargets()
	s.graph = nil
	return s.Peek(unitName)
}

// Peek returns a unit that was read already, nil if it was not.
func (s *Set) Peek(unitName string) *unit.Unit { return s.units[s.byName[unitName]] }

func (s *Set) load(n string) *unit.Unit {
	u := s.virtual[n]
	if u == nil {
		u = s.loader.Load(s.index, n)
	}
	s.put(u)
	s.byName[n] = u.Name
	return u
}

func (s *Set) put(u *unit.Unit) {
	s.units[u.Name] = u
	for _, n := range u.Names() {
		s.byName[n] = u.Name
	}
	s.fresh = append(s.fresh, u)
	s.graph = nil
}

// named returns every unit that u names.
func named(u *unit.Unit) []string {
	var list []string
	for _, kind := range unit.AllDeps {
		list = append(list, u.Deps[kind]...)
	}
	return list
}

// orderTargets puts new targets after what they pull in, unless that is
// ordered the other way or one of the two has no default dependencies.
func (s *Set) orderTargets() {
	fresh := s.fresh
	s.fresh = nil
	for _, t := range fresh {
		if t.Kind != unit.KindTarget || !t.DefaultDependencies {
			continue
		}
		for _, kind := range []unit.Dep{unit.Requires, unit.Requisite, unit.Wants, unit.BindsTo, unit.Upholds} {
			for _, n := range t.Deps[kind] {
				u := s.Peek(n)
				if u == nil || u.LoadState != unit.Loaded || !u.DefaultDependencies || u == t {
					continue
				}
				if !t.Deps.Has(unit.Before, n) && !u.Deps.Has(unit.After, t.Name) {
					t.Deps.Add(unit.After, u.Name)
				}
			}
		}
	}
}

// Add puts a unit into the set that has no file, such as a mount that somebody
// made by hand. It stays over Reload until Forget.
func (s *Set) Add(u *unit.Unit) {
	s.virtual[u.Name] = u
	s.put(u)
}

// Forget drops a unit, so that the next Get reads it again.
func (s *Set) Forget(unitName string) {
	delete(s.virtual, unitName)
	s.forget(unitName)
}

func (s *Set) forget(unitName string) {
	u := s.Peek(unitName)
	if u == nil {
		return
	}
	delete(s.units, u.Name)
	for n, to := range s.byName {
		if to == u.Name {
			delete(s.byName, n)
		}
	}
	s.graph = nil
}

// All returns all units, sorted by name, those that were not found too.
func (s *Set) All() []*unit.Unit {
	list := make([]*unit.Unit, 0, len(s.units))
	for _, u := range s.units {
		list = append(list, u)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list
}

// Graph returns the links between all units of the set.
func (s *Set) Graph() *graph.Graph {
	if s.graph == nil {
		s.graph = graph.New(s.All())
	}
	return s.graph
}

// Reload returns a new Set with the same units, read again. s is not changed.
func (s *Set) Reload() (*Set, error) {
	n, err := NewSet(s.loader)
	if err != nil {
		return nil, err
	}
	for name, u := range s.virtual {
		n.virtual[name] = u
	}
	names := make([]string, 0, len(s.byName))
	for name := range s.byName {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		n.Get(name)
	}
	return n, nil
}
