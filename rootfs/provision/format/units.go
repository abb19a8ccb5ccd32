package format

import (
	"fmt"
	"path"
	"strings"

	"github.com/coracle-os/coracle/rootfs/network/config"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/name"
	"github.com/coracle-os/coracle/rootfs/unit/settings"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
)

// anyHost stands for the machine that a unit's specifiers will mean.
func anyHost() specifier.Host {
	id := strings.Repeat("0", 32)
	return specifier.Host{MachineID: id, BootID: id, Hostname: "host", Kernel: "6", Arch: "x86-64"}
}

// inline is an action that puts a file with a content known beforehand.
type inline interface {
	Inline() (path string, content []byte, known bool)
}

// checkFiles reads the files of a plan that the system reads, as it will: units
// as PID 1, network files as the network daemon. It reports what would be
// ignored or refused, with the line in the file's own text.
func checkFiles(p plan.Plan) (report plan.Report) {
	for _, step := range p.Steps {
		file, content, known := "", []byte(nil), true
		switch a := step.Action.(type) {
		case plan.PlaceUnit:
			file, content = a.Path, a.Content
		case plan.WriteFile:
			file, content = a.Path, a.Content
		case inline:
			file, content, known = a.Inline()
		}
		if !known || file == "" {
			continue
		}
		of, dropIn := file, false
		if whole, ok := strings.CutSuffix(path.Dir(file), ".d"); ok && path.Ext(file) == ".conf" {
			of, dropIn = whole, true
		}
		add := func(line int, text string) {
			if line > 0 {
				text = fmt.Sprintf("line %d: %s", line, text)
			}
			separator := map[bool]string{true: ", ", false: ": "}[line > 0]
			report.Add(step.Origin.Position, plan.Warning, "%s%s%s", path.Base(file), separator, text)
		}
		switch dir := path.Dir(of); {
		case dir == "/etc/systemd/system" || dir == "/run/systemd/system":
			checkUnit(of, file, content, step.Action, add)
		case dir == "/etc/systemd/network" || dir == "/run/systemd/network":
			for _, w := range config.Check(of, content, dropIn) {
				add(w.Line, w.Text)
			}
		}
	}
	return report
}

// checkUnit reads one file of the unit whose file is of.
func checkUnit(of, file string, content []byte, action plan.Action, add func(line int, text string)) {
	unitName := path.Base(of)
	if err := name.Check(unitName); err != nil {
		if _, isUnit := action.(plan.PlaceUnit); isUnit {
			add(0, fmt.Sprintf("%v; PID 1 does not read it", err))
		}
		return
	}
	u := settings.New(unitName)
	settings.Apply(u, path.Base(file), content, specifier.Expander{Host: anyHost(), Name: unitName, Fragment: file})
	for _, w := range u.Warnings {
		add(w.Line, w.Text)
	}
	if u.LoadState != unit.Loaded && len(u.Warnings) == 0 {
		add(0, u.LoadError)
	}
}
