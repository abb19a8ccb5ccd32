package supervisor

import (
	"encoding/json"

	"github.com/coracle-os/coracle/rootfs/unit"
)

// sliceDriver is one slice: a control group whose limits are those of all that
// is in it.
type sliceDriver struct{ passive }

func (d *sliceDriver) start() error {
	d.limit()
	return d.passive.start()
}

// stop leaves the group to those who are in it; it goes when it is empty.
func (d *sliceDriver) stop() {
	d.set(false)
	if path := slicePath(d.l.u.Name); path != "" {
		_ = d.s.cfg.Cgroups.Group(path).RemoveEmpty()
	}
}

func (d *sliceDriver) configure(*unit.Unit) {
	if d.up {
		d.limit()
	}
}

// limit sets the limits; the root's cannot be.
func (d *sliceDriver) limit() {
	path := slicePath(d.l.u.Name)
	if path == "" || d.s.cfg.Cgroups.Root() == "" {
		return
	}
	g, err := d.s.cfg.Cgroups.Create(path)
	if err == nil {
		err = g.Reapply(d.l.u.Cgroup, d.s.cfg.Memory, d.s.cfg.Tasks)
	}
	if err != nil {
		d.s.log(4, d.l.u.Name, "Some limits are not in force: %v", err)
	}
}

func (d *sliceDriver) restore(b []byte) error { return json.Unmarshal(b, &d.up) }

func (d *sliceDriver) properties(set func(name, value string)) {
	if d.up {
		set("ControlGroup", slicePath(d.l.u.Name))
	}
}
