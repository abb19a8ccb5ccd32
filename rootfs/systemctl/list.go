package systemctl

import (
	"fmt"
	"io"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/unit/name"
)

// table prints rows in columns that are as wide as they must be; the last one
// is not padded.
func table(w io.Writer, header []string, rows [][]string) {
	if header != nil {
		rows = append([][]string{header}, rows...)
	}
	var width []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)))
			}
		}
		fmt.Fprintln(w, b.String())
	}
}

// bySuffix orders unit names by type, then by name.
func bySuffix(a, b string) bool {
	if k, l := name.Kind(a), name.Kind(b); k != l {
		return k < l
	}
	return a < b
}

// wantedUnit tells if the flags --type, --state and --failed take a unit.
func (t *tool) wantedUnit(u control.Unit) bool {
	states := t.o.states
	if t.o.failed {
		states = append(slices.Clone(states), "failed")
	}
	if len(states) > 0 && !slices.ContainsFunc(states, func(s string) bool { return s == u.Active || s == u.Sub || s == u.Load }) {
		return false
	}
	if len(t.o.types) > 0 && !slices.ContainsFunc(t.o.types, func(s string) bool { return s == name.Kind(u.Name) || s == u.Load }) {
		return false
	}
	return true
}

// unitTypes checks --type, and does what "--type help" asks for.
func (t *tool) unitTypes() (done bool, err error) {
	all := []string{"service", "mount", "swap", "socket", "target", "device", "automount", "timer", "path", "slice", "scope"}
	loads := []string{"stub", "loaded", "not-found", "bad-setting", "error", "merged", "masked"}
	for _, word := range t.o.types {
		switch {
		case word == "help":
			fmt.Fprintln(t.Out, "Available unit types:\n"+strings.Join(all, "\n"))
			return true, nil
		case !slices.Contains(all, word) && !slices.Contains(loads, word):
			return true, fmt.Errorf("Unknown unit type or load state '%s'.\nUse -t help to see a list of allowed values.", word)
		}
	}
	return false, nil
}

// fetchUnits asks for the units that match the arguments and flags.
func (t *tool) fetchUnits() ([]control.Unit, error) {
	patterns := slices.Clone(t.args)
	for i, p := range patterns {
		if !isPattern(p) {
			patterns[i] = name.Mangle(p, "service")
		}
	}
	all := t.o.all || t.o.failed || len(t.o.states) > 0
	r, err := t.collect(control.Request{Verb: control.ListUnits, Units: patterns, Flags: control.Flags{All: all}})
	if err != nil {
		return nil, err
	}
	list := slices.DeleteFunc(r.Units, func(u control.Unit) bool { return !t.wantedUnit(u) })
	sort.Slice(list, func(i, j int) bool { return bySuffix(list[i].Name, list[j].Name) })
	return list, nil
}

// mark is the dot before a unit that needs attention.
func mark(u control.Unit) string {
	if u.Active == "failed" || u.Load != "loaded" && u.Load != "" {
		return "●"
	}
	return " "
}

func (t *tool) listUnits() error {
	list, err := t.fetchUnits()
	if err != nil {
		return err
	}
	if t.inJSON() {
		var rows [][]any
		for _, u := range list {
			rows = append(rows, []any{u.Name, u.Load, u.Active, u.Sub, u.Description})
		}
		return t.printJSON([]string{"unit", "load", "active", "sub", "description"}, rows)
	}
	jobs := slices.ContainsFunc(list, func(u control.Unit) bool { return u.Job != nil })
	var rows [][]string
	for _, u := range list {
		row := []string{mark(u) + " " + u.Name, u.Load, u.Active, u.Sub}
		if t.o.plain {
			row[0] = u.Name
		}
		if jobs {
			job := ""
			if u.Job != nil {
				job = u.Job.Type
			}
			row = append(row, job)
		}
		rows = append(rows, append(row, u.Description))
	}
	var header []string
	if t.o.legend {
		header = []string{"  UNIT", "LOAD", "ACTIVE", "SUB", "DESCRIPTION"}
		if t.o.plain {
			header[0] = "UNIT"
		}
		if jobs {
			header = slices.Insert(header, 4, "JOB")
		}
	}
	table(t.Out, header, rows)
	if t.o.legend {
		t.listFooter(len(list), jobs)
	}
	return nil
}

func (t *tool) listFooter(n int, jobs bool) {
	if n > 0 {
		fmt.Fprint(t.Out, "\nLOAD   = Reflects whether the unit definition was properly loaded.\n"+
			"ACTIVE = The high-level unit activation state, i.e. generalization of SUB.\n"+
			"SUB    = The low-level unit activation state, values depend on unit type.\n")
		if jobs {
			fmt.Fprintln(t.Out, "JOB    = Pending job for the unit.")
		}
	}
	switch {
	case t.o.failed || len(t.o.states) > 0:
		fmt.Fprintf(t.Out, "%d loaded units listed.\n", n)
		return
	case t.o.all:
		fmt.Fprintf(t.Out, "%d loaded units listed.\n", n)
	default:
		fmt.Fprintf(t.Out, "%d loaded units listed. Pass --all to see loaded but inactive units, too.\n", n)
	}
	fmt.Fprintln(t.Out, "To show all installed unit files use 'systemctl list-unit-files'.")
}

func (t *tool) listJobs() error {
	r, err := t.collect(control.Request{Verb: control.ListJobs})
	if err != nil {
		return err
	}
	if len(r.Jobs) == 0 {
		if t.o.legend && !t.inJSON() {
			fmt.Fprintln(t.Out, "No jobs running.")
		}
		return nil
	}
	sort.Slice(r.Jobs, func(i, j int) bool { return r.Jobs[i].ID < r.Jobs[j].ID })
	if t.inJSON() {
		var rows [][]any
		for _, j := range r.Jobs {
			rows = append(rows, []any{j.ID, j.Unit, j.Type, j.State})
		}
		return t.printJSON([]string{"job", "unit", "type", "state"}, rows)
	}
	var rows [][]string
	for _, j := range r.Jobs {
		rows = append(rows, []string{strconv.Itoa(j.ID), j.Unit, j.Type, j.State})
	}
	var header []string
	if t.o.legend {
		header = []string{"JOB", "UNIT", "TYPE", "STATE"}
	}
	table(t.Out, header, rows)
	if t.o.legend {
		fmt.Fprintf(t.Out, "\n%d jobs listed.\n", len(r.Jobs))
	}
	return nil
}

func (t *tool) listSockets() error {
	t.o.types = []string{"socket"}
	list, err := t.fetchUnits()
	if err != nil {
		return err
	}
	var names []string
	for _, u := range list {
		names = append(names, u.Name)
	}
	var rows [][]string
	if len(names) > 0 {
		r, err := t.collect(control.Request{Verb: control.Show, Units: names})
		if err != nil {
			return err
		}
		for _, u := range r.Units {
			for _, l := range strings.Split(u.Properties["Listen"], "\n") {
				address, kind, _ := strings.Cut(l, " (")
				row := []string{address, u.Name, u.Properties["Triggers"]}
				if t.o.showTypes {
					row = slices.Insert(row, 1, strings.TrimSuffix(kind, ")"))
				}
				rows = append(rows, row)
			}
		}
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i][0] < rows[j][0] })
	header := []string{"LISTEN", "UNIT", "ACTIVATES"}
	if t.o.showTypes {
		header = slices.Insert(header, 1, "TYPE")
	}
	if t.inJSON() {
		return t.printJSON(strings.Fields(strings.ToLower(strings.Join(header, " "))), cells(rows))
	}
	if !t.o.legend {
		header = nil
	}
	table(t.Out, header, rows)
	if t.o.legend {
		fmt.Fprintf(t.Out, "\n%d sockets listed.\n", len(rows))
		if !t.o.all {
			fmt.Fprintln(t.Out, "Pass --all to see loaded but inactive sockets, too.")
		}
	}
	return nil
}

// listDependencies prints the tree of what units pull in.
func (t *tool) listDependencies() error {
	args := t.args
	if len(args) == 0 {
		args = []string{"default.target"}
	}
	names, err := t.units(args)
	if err != nil {
		return err
	}
	for i, n := range names {
		if i > 0 {
			fmt.Fprintln(t.Out)
		}
		fmt.Fprintln(t.Out, n)
		if err := t.branch(n, "", []string{n}); err != nil {
			return err
		}
	}
	return nil
}

var (
	pulls    = []string{"Requires", "Requisite", "Wants", "ConsistsOf", "BindsTo", "Upholds"}
	pulledBy = []string{"RequiredBy", "RequisiteOf", "WantedBy", "PartOf", "BoundBy", "UpheldBy"}
)

// branch prints the dependencies of one unit; only targets are opened further,
// unless --all is given.
func (t *tool) branch(unitName, indent string, above []string) error {
	r, err := t.collect(control.Request{Verb: control.Show, Units: []string{unitName}})
	if err != nil || len(r.Units) == 0 {
		return err
	}
	kinds := pulls
	switch {
	case t.o.after:
		kinds = []string{"After"}
	case t.o.before:
		kinds = []string{"Before"}
	case t.o.reverse:
		kinds = pulledBy
	}
	var list []string
	for _, k := range kinds {
		for _, n := range strings.Fields(r.Units[0].Properties[k]) {
			if !slices.Contains(list, n) {
				list = append(list, n)
			}
		}
	}
	sort.Slice(list, func(i, j int) bool { return bySuffix(list[i], list[j]) })
	if len(list) == 0 {
		return nil
	}
	states, err := t.collect(control.Request{Verb: control.Show, Units: list})
	if err != nil {
		return err
	}
	for i, u := range states.Units {
		twig, deeper := "├─", "│ "
		if i == len(states.Units)-1 {
			twig, deeper = "└─", "  "
		}
		t.twig(u, indent+twig)
		if slices.Contains(above, u.Name) || name.Kind(u.Name) != "target" && !t.o.all {
			continue
		}
		if err := t.branch(u.Name, indent+deeper, append(slices.Clone(above), u.Name)); err != nil {
			return err
		}
	}
	return nil
}

func (t *tool) twig(u control.Unit, indent string) {
	if t.o.plain {
		fmt.Fprintln(t.Out, "  "+u.Name)
		return
	}
	fmt.Fprintln(t.Out, dot(u.Active)+" "+indent+u.Name)
}

// dot is the mark of an active state.
func dot(active string) string {
	switch active {
	case "inactive", "deactivating":
		return "○"
	case "failed":
		return "×"
	case "reloading":
		return "↻"
	}
	return "●"
}
