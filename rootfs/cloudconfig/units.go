package cloudconfig

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

const optionsDropIn = "20-cloudinit.conf"

// entry is a unit and where it comes from.
type entry struct {
	Unit
	field string
}

// units adds the steps of all units: files first, one reload, then commands.
func (c *compiler) units() {
	var entries []entry
	for i, u := range c.config.CoreOS.Units {
		if e := (entry{u, fmt.Sprintf("coreos.units[%d]", i)}); c.checkUnit(&e) {
			entries = append(entries, e)
		}
	}
	entries = append(entries, c.generatedUnits()...)

	reload, network := false, false
	for _, e := range entries {
		reload = c.unitFiles(e) || reload
		network = network || isNetwork(e.Name)
	}
	if reload {
		c.step(plan.ReloadUnits{}, plan.Position{}, "unit files were written")
	}
	if network {
		c.step(plan.RestartNetwork{}, plan.Position{}, "network files were written")
	}
	for _, e := range entries {
		if e.Command != "" && !isNetwork(e.Name) {
			c.step(plan.UnitCommand{Verb: e.Command, Unit: e.Name}, e.Origin.At("command"), "%s.command", e.field)
		}
	}
}

// checkUnit reports what is wrong with a unit and tells whether anything of it
// can be applied.
func (c *compiler) checkUnit(e *entry) bool {
	at := e.Origin.At("name")
	switch {
	case e.Name == "":
		c.problem(e.Origin.Position, "%s: it has no name and is left out", e.field)
		return false
	case !isFileName(e.Name) || !strings.Contains(e.Name, "."):
		c.problem(at, "%s.name: %q is not a unit name like \"hello.service\"; it is left out", e.field, e.Name)
		return false
	}
	if !validOption(e.Unit, "Command") {
		c.problem(e.Origin.At("command"), "%s.command: %q is not a command of a unit; it is not run", e.field, e.Command)
		e.Command = ""
	}
	e.DropIns = slices.DeleteFunc(slices.Clone(e.DropIns), func(d DropIn) bool {
		switch {
		case d.Name == "" || d.Content == "":
			c.problem(d.Origin.Position, "%s.drop_ins: name and content are needed; %q is left out", e.field, d.Name)
		case !isFileName(d.Name):
			c.problem(d.Origin.At("name"), "%s.drop_ins: %q is not a file name; it is left out", e.field, d.Name)
		default:
			if !strings.HasSuffix(d.Name, ".conf") {
				c.plan.Problems.Add(d.Origin.At("name"), plan.Warning, "%s.drop_ins: %q does not end in .conf and will not be read", e.field, d.Name)
			}
			return false
		}
		return true
	})
	return true
}

func isFileName(name string) bool {
	return name != "" && len(name) <= 255 && consistsOf(name, `:_.\@-`) && name != "." && name != ".."
}

// generatedUnits are the units behind the sections of coreos. The first four
// are unmasked by every run.
func (c *compiler) generatedUnits() []entry {
	section := c.config.CoreOS
	builtIn := func(unit, field string, options any, origin Origin) entry {
		e := entry{Unit{Origin: origin, Name: unit, Runtime: true}, field}
		if values := c.options(field, options); len(values) > 0 {
			e.DropIns = []DropIn{{Origin: origin, Name: optionsDropIn, Content: environmentDropIn(values)}}
		}
		return e
	}
	entries := []entry{
		builtIn("etcd.service", "coreos.etcd", section.Etcd, section.Etcd.Origin),
		builtIn("etcd2.service", "coreos.etcd2", section.Etcd2, section.Etcd2.Origin),
		builtIn("fleet.service", "coreos.fleet", section.Fleet, section.Fleet.Origin),
		builtIn("locksmithd.service", "coreos.locksmith", section.Locksmith, section.Locksmith.Origin),
	}
	if entries[0].DropIns != nil && entries[1].DropIns != nil {
		c.plan.Problems.Add(section.Etcd2.Origin.Position, plan.Warning,
			"coreos.etcd and coreos.etcd2 both have options, and etcd2.service is etcd.service here; use one section")
	}
	update := section.Update
	switch update.RebootStrategy {
	case "":
	case "off":
		entries = append(entries, entry{Unit{Origin: update.Origin, Name: "locksmithd.service", Command: "stop", Runtime: true, Mask: true}, "coreos.update"})
	default:
		entries = append(entries, entry{Unit{Origin: update.Origin, Name: "locksmithd.service", Command: "restart", Runtime: true}, "coreos.update"})
	}
	if update.Group != "" || update.Server != "" {
		entries = append(entries, entry{Unit{Origin: update.Origin, Name: "update-engine.service", Command: "restart"}, "coreos.update"})
	}
	return entries
}

// unitFiles adds the steps that put a unit's files in place and tells whether
// any was written.
func (c *compiler) unitFiles(e entry) (written bool) {
	file := unitPath(e.Unit)
	if e.Content != "" {
		c.step(plan.PlaceUnit{Path: file, Content: []byte(e.Content)}, e.Origin.At("content"), "%s.content", e.field)
		written = true
	}
	for _, d := range e.DropIns {
		c.step(plan.PlaceUnit{Path: path.Join(file+".d", d.Name), Content: []byte(d.Content), DropIn: true}, d.Origin.Position, "%s", e.field)
		written = true
	}
	switch {
	case e.Mask:
		c.step(plan.MaskUnit{Path: file}, e.Origin.At("mask"), "%s.mask", e.field)
	case e.Runtime:
		c.step(plan.UnmaskUnit{Path: file}, e.Origin.Position, "%s", e.field)
	}
	if e.Enable && !isNetwork(e.Name) {
		c.step(plan.EnableUnit{Name: e.Name, Runtime: e.Runtime}, e.Origin.At("enable"), "%s.enable", e.field)
	}
	return written
}

func unitPath(u Unit) string {
	dir := "/etc/systemd"
	if u.Runtime {
		dir = "/run/systemd"
	}
	if isNetwork(u.Name) {
		return path.Join(dir, "network", u.Name)
	}
	return path.Join(dir, "system", u.Name)
}

func isNetwork(name string) bool {
	switch path.Ext(name) {
	case ".network", ".netdev", ".link":
		return true
	}
	return false
}
