package load

import (
	"slices"
	"sort"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/files"
	"github.com/coracle-os/coracle/rootfs/unit/graph"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
)

// Set holds the units that a manager has loaded. A unit is read once, with
// everything that it names; only Reload reads it again. A Set is used by one
// goroutine.
type Set struct {
	source  *Loader
	loader  *Loader // source, with Host as it was at the last rescan
	index   *files.Index
	units   map[string]*unit.Unit // by canonical name
	byName  map[string]string     // any name -> canonical name
	graph   *graph.Graph
	virtual map[string]*unit.Unit
}

// NewSet makes an empty Set.
func NewSet(l *Loader) (*Set, error) {
	s := &Set{source: l, units: map[string]*unit.Unit{}, byName: map[string]string{}, virtual: map[string]*unit.Unit{}}
	return s, s.rescan()
}

// Files returns what the last look at the load path found.
func (s *Set) Files() *files.Index { return s.index }

// rescan looks at the load path again. Modification times are not trusted to
// tell if that is needed: they are too coarse for scripts that write a unit and
// start it.
func (s *Set) rescan() error {
	host := s.source.Host()
	s.loader = &Loader{FS: s.source.FS, LoadPath: s.source.LoadPath, Host: func() specifier.Host { return host }}
	index, err := s.loader.Scan()
	if err == nil {
		s.index = index
	}
	return err
}

// Get returns the unit with a name, reading it and all that it names if it was
// not read yet. One that was not found is looked for again.
func (s *Set) Get(unitName string) *unit.Unit {
	if u := s.Peek(unitName); u != nil && u.LoadState != unit.NotFound {
		return u
	}
	// On an error the old index serves on: the unit is then not found.
	_ = s.rescan()
	s.forget(unitName)
	s.closure(unitName)
	return s.Peek(unitName)
}

// Preload is Get for many units with one look at the load path.
func (s *Set) Preload(names []string) {
	_ = s.rescan()
	for _, n := range names {
		s.closure(n)
	}
}

// closure reads a unit and all that it names.
func (s *Set) closure(unitName string) {
	for queue := []string{unitName}; len(queue) > 0; queue = queue[1:] {
		if s.Peek(queue[0]) == nil {
			queue = append(queue, named(s.load(queue[0]))...)
		}
	}
}

// Peek returns a unit that was read already, nil if it was not.
func (s *Set) Peek(unitName string) *unit.Unit { return s.units[s.byName[unitName]] }

func (s *Set) load(n string) *unit.Unit {
	u := s.virtual[n]
	if u == nil {
		u = s.loader.Load(s.index, n)
	}
	if known := s.units[u.Name]; known != nil { // by a name that it did not have then
		s.byName[n] = u.Name
		return known
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
	n, err := NewSet(s.source)
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
		n.closure(name)
	}
	return n, nil
}
