package supervisor

import (
	"os"
	"strings"

	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/transaction"
	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/name"
)

// require makes sure that the unit and all that its dependencies name are
// loaded, and returns it. A unit whose file was refused, or is masked, is read
// again while it is down: the file may be better by now.
func (s *Supervisor) require(name string) *live {
	l := s.find(name)
	if l != nil && l.u.LoadState == unit.Loaded {
		return l
	}
	if l != nil && down(l.active()) && s.queue.Of(l.u.Name) == nil {
		s.cfg.Units.Forget(l.u.Name)
		delete(s.units, l.u.Name)
		s.touch(l.u.Name)
	}
	u := s.cfg.Units.Get(name)
	if u.LoadState == unit.NotFound {
		if by := s.adopted(u.Name); by != nil {
			s.cfg.Units.Forget(u.Name)
			s.cfg.Units.Add(by)
			u = by
		}
	}
	s.adopt()
	return s.units[u.Name]
}

// preload loads units that nobody asked for so far; require does the rest.
func (s *Supervisor) preload(names []string) {
	var unknown []string
	for _, n := range names {
		if s.find(n) == nil {
			unknown = append(unknown, n)
		}
	}
	if len(unknown) > 0 {
		s.cfg.Units.Preload(unknown)
		s.adopt()
	}
}

// find returns the loaded unit with the name or alias, or nil.
func (s *Supervisor) find(name string) *live {
	u := s.cfg.Units.Peek(name)
	if u == nil {
		return nil
	}
	return s.units[u.Name]
}

// adopt makes live units of those that were read since, and takes over the new
// text of the others.
func (s *Supervisor) adopt() {
	for _, u := range s.cfg.Units.All() {
		l := s.units[u.Name]
		switch {
		case l == nil:
			l = &live{u: u, changedAt: newest(u)}
			l.d = s.newDriver(l)
			s.units[u.Name] = l
			s.touch(u.Name)
			s.warn(u)
		case l.u != u:
			s.replace(l, u)
		}
	}
	s.graph = s.cfg.Units.Graph()
	s.queue.SetGraph(s.graph)
}

// replace gives a unit its new text. One whose file is gone keeps running as
// it was.
func (s *Supervisor) replace(l *live, u *unit.Unit) {
	before := l.u
	l.u, l.changedAt = u, newest(u)
	s.touch(u.Name)
	s.warn(u)
	if u.LoadState != unit.Loaded {
		return
	}
	if before.LoadState != unit.Loaded && down(l.active()) {
		l.d = s.newDriver(l) // it had nothing to drive so far
		return
	}
	l.d.configure(u)
}

// warn records what was ignored in a unit's files.
func (s *Supervisor) warn(u *unit.Unit) {
	for _, w := range u.Warnings {
		s.log(4, u.Name, "%s", w)
	}
	if u.LoadError != "" && u.LoadState != unit.NotFound && u.LoadState != unit.Masked {
		s.log(3, u.Name, "%s", u.LoadError)
	}
}

// reload reads all unit files again.
func (s *Supervisor) reload() error {
	set, err := s.cfg.Units.Reload()
	if err != nil {
		return err
	}
	for name, l := range s.units {
		if u := set.Peek(name); u != nil && u.Name == name {
			continue
		}
		if down(l.active()) && s.queue.Of(name) == nil { // it is an alias of another now
			delete(s.units, name)
			s.touch(name)
		} else {
			set.Add(l.u)
		}
	}
	s.cfg.Units = set
	s.adopt()
	s.collect, s.dirty, s.worked = true, true, true
	return nil
}

// transient is where systemd-run writes its units.
const transient = "/run/systemd/transient/"

// unload forgets units that are down, have no job and that no unit which stays
// names. Their counters go with them, as systemd's do.
func (s *Supervisor) unload() {
	keep := map[string]bool{}
	var todo []*live
	for _, l := range s.units {
		a := l.active()
		kept := a != transaction.Inactive && !(a == transaction.Failed && l.u.CollectMode == "inactive-or-failed")
		if kept || s.queue.Of(l.u.Name) != nil || s.leftovers(l) {
			keep[l.u.Name] = true
			todo = append(todo, l)
		}
	}
	for ; len(todo) > 0; todo = todo[1:] {
		for n := range s.graph.Named(todo[0].u.Name) {
			if l := s.units[n]; l != nil && !keep[n] {
				keep[n] = true
				todo = append(todo, l)
			}
		}
	}
	gone := false
	for name := range s.units {
		if !keep[name] {
			if f := s.units[name].u.FragmentPath; strings.HasPrefix(f, transient) {
				_ = os.Remove(f) // written by systemd-run, for this once
			}
			delete(s.units, name)
			s.cfg.Units.Forget(name)
			s.touch(name)
			gone = true
		}
	}
	if gone {
		s.adopt()
	}
}

// leftovers reports whether processes of a unit that is down still live.
func (s *Supervisor) leftovers(l *live) bool {
	d, ok := l.d.(*serviceDriver)
	return ok && d.populated
}

// loadError is why a unit that somebody asks for cannot be used, or nil.
func loadError(u *unit.Unit) error {
	switch u.LoadState {
	case unit.Loaded:
		return nil
	case unit.NotFound:
		return control.Errorf(control.NotFound, "Unit %s not found.", u.Name)
	case unit.Masked:
		return control.Errorf(control.Masked, "Unit %s is masked.", u.Name)
	case unit.BadSetting:
		return control.Errorf(control.BadSetting, "Unit %s has a bad unit file setting: %s", u.Name, u.LoadError)
	default:
		if name.IsTemplate(u.Name) {
			return control.Errorf(control.LoadError, "%s", u.LoadError)
		}
		return control.Errorf(control.LoadError, "Unit %s failed to load: %s", u.Name, u.LoadError)
	}
}
