package supervisor

import (
	"cmp"

	"github.com/coracle-os/coracle/rootfs/unit"
)

// joined returns the services with which this one shares its name spaces
// (JoinsNamespaceOf= on either side).
func (d *serviceDriver) joined() []*serviceDriver {
	var list []*serviceDriver
	name := d.l.u.Name
	for _, n := range append(d.s.graph.Of(name, unit.JoinsNamespaceOf), d.s.graph.By(name, unit.JoinsNamespaceOf)...) {
		if l := d.s.find(n); l != nil {
			if o, ok := l.d.(*serviceDriver); ok {
				list = append(list, o)
			}
		}
	}
	return list
}

// leaveTmp removes the private /tmp that nobody uses any more.
func (d *serviceDriver) leaveTmp() {
	of := cmp.Or(d.tmpOf, d.l.u.Name)
	d.tmpOf = ""
	for _, o := range d.joined() {
		if o.tmpOf == of && !down(o.l.active()) {
			return
		}
	}
	if remove := d.s.cfg.Exec.RemovePrivateTmp(&d.cfg.ExecContext, of); remove != nil {
		go remove()
	}
}
