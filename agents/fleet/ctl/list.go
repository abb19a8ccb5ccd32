package ctl

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/coracle-os/coracle/agents/fleet/api/schema"
	"github.com/coracle-os/coracle/agents/fleet/ctl/table"
	"github.com/coracle-os/coracle/agents/fleet/unitfile"
)

// listFlags are the flags of every list.
type listFlags struct {
	full, noLegend bool
	fields         string
}

func (l *listFlags) define(f *flag.FlagSet, fields string, known []string) {
	f.BoolVar(&l.full, "full", false, "show ids and hashes whole")
	f.BoolVar(&l.full, "l", false, "the same as --full")
	f.BoolVar(&l.noLegend, "no-legend", false, "no line of column names, and no notes after the table")
	f.StringVar(&l.fields, "fields", fields, "columns: "+strings.Join(known, ","))
}

func names[T any](columns []table.Column[T]) []string {
	var all []string
	for _, c := range columns {
		all = append(all, c.Name)
	}
	return all
}

// list is what the three lists have in common: columns are checked before
// anything is asked for, get and the machines are asked for at once.
func list[T any](ctx context.Context, t *tool, l *listFlags, columns []table.Column[T], what string, get func(context.Context) ([]T, error)) ([]T, error) {
	chosen, err := table.Choose(columns, l.fields)
	if err != nil {
		return nil, err
	}
	if err := t.connect(ctx); err != nil {
		return nil, err
	}
	var rows []T
	both, bothCtx := errgroup.WithContext(ctx)
	both.Go(func() (err error) { rows, err = get(bothCtx); return err })
	if strings.Contains(l.fields, "machine") || strings.Contains(l.fields, "target") {
		both.Go(func() (err error) { t.machines, err = t.api.Machines(bothCtx); return err })
	}
	if err := both.Wait(); err != nil {
		return nil, fmt.Errorf("Error retrieving list of %s: %w", what, err) //nolint:staticcheck // fleet's text
	}
	return rows, chosen.Write(t.Out, !l.noLegend, rows)
}

func (t *tool) machineColumns(l *listFlags) []table.Column[schema.Machine] {
	return []table.Column[schema.Machine]{
		{Name: "machine", Value: func(m schema.Machine) string { return short(m.ID, l.full) }},
		{Name: "ip", Value: func(m schema.Machine) string { return m.PrimaryIP }},
		{Name: "metadata", Value: func(m schema.Machine) string {
			var all []string
			for _, k := range slices.Sorted(maps.Keys(m.Metadata)) {
				all = append(all, k+"="+m.Metadata[k])
			}
			return strings.Join(all, ",")
		}},
		{Name: "units", Value: func(m schema.Machine) string { return fmt.Sprint(m.Units) }},
		{Name: "cpu", Value: func(m schema.Machine) string { return cores(m.CPUUsed) + "/" + cores(m.CPU) }},
		{Name: "memory", Value: func(m schema.Machine) string { return size(m.MemoryUsed) + "/" + size(m.Memory) }},
		{Name: "draining", Value: func(m schema.Machine) string { return m.Draining }},
		{Name: "version", Value: func(m schema.Machine) string { return m.Version }},
	}
}

func listMachines(t *tool, f *flag.FlagSet) action {
	var l listFlags
	columns := t.machineColumns(&l)
	l.define(f, "machine,ip,metadata", names(columns))
	return func(ctx context.Context, _ []string) error {
		rows, err := list(ctx, t, &l, columns, "active machines", func(ctx context.Context) ([]schema.Machine, error) { return t.api.Machines(ctx) })
		for _, m := range rows {
			if m.Draining != "" && !l.noLegend {
				t.warn("%s is drained: %s", legend(m, l.full), m.Draining)
			}
		}
		return err
	}
}

func listUnits(t *tool, f *flag.FlagSet) action {
	var l listFlags
	columns := []table.Column[schema.UnitState]{
		{Name: "unit", Value: func(s schema.UnitState) string { return s.Name }},
		{Name: "machine", Value: func(s schema.UnitState) string { return t.legend(s.MachineID, l.full) }},
		{Name: "load", Value: func(s schema.UnitState) string { return s.SystemdLoadState }},
		{Name: "active", Value: func(s schema.UnitState) string { return s.SystemdActiveState }},
		{Name: "sub", Value: func(s schema.UnitState) string { return s.SystemdSubState }},
		{Name: "hash", Value: func(s schema.UnitState) string { return shortHash(s.Hash, l.full) }},
		{Name: "since", Value: func(s schema.UnitState) string { return s.Since }},
	}
	l.define(f, "unit,machine,active,sub", names(columns))
	return func(ctx context.Context, _ []string) error {
		_, err := list(ctx, t, &l, columns, "units from repository", func(ctx context.Context) ([]schema.UnitState, error) {
			states, err := t.api.States(ctx, "", "")
			slices.SortStableFunc(states, func(a, b schema.UnitState) int {
				return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.MachineID, b.MachineID))
			})
			return states, err
		})
		return err
	}
}

func listUnitFiles(t *tool, f *flag.FlagSet) action {
	var l listFlags
	target := func(u schema.Unit) string { return t.target(u, l.full) }
	columns := []table.Column[schema.Unit]{
		{Name: "unit", Value: func(u schema.Unit) string { return u.Name }},
		{Name: "hash", Value: func(u schema.Unit) string { return shortHash(hashOf(u), l.full) }},
		{Name: "dstate", Value: func(u schema.Unit) string { return u.DesiredState }},
		{Name: "state", Value: func(u schema.Unit) string {
			if isGlobal(u) {
				return ""
			}
			return u.CurrentState
		}},
		{Name: "target", Value: target},
		{Name: "tmachine", Value: target},
		{Name: "global", Value: func(u schema.Unit) string { return fmt.Sprint(isGlobal(u)) }},
		{Name: "desc", Value: func(u schema.Unit) string { return file(u).Description() }},
		{Name: "reason", Value: func(u schema.Unit) string { return u.Reason }},
	}
	l.define(f, "unit,hash,dstate,state,target", names(columns))
	return func(ctx context.Context, _ []string) error {
		if slices.Contains(strings.Split(l.fields, ","), "tmachine") {
			t.warn(`WARNING: The "tmachine" field is deprecated. Use "target" instead`)
		}
		rows, err := list(ctx, t, &l, columns, "units from repository", func(ctx context.Context) ([]schema.Unit, error) {
			units, err := t.api.Units(ctx)
			slices.SortStableFunc(units, func(a, b schema.Unit) int { return cmp.Compare(a.Name, b.Name) })
			return units, err
		})
		if err == nil && !l.noLegend && !strings.Contains(l.fields, "reason") {
			t.explain(rows)
		}
		return err
	}
}

// explain says why units are not where they are wanted, after a table: whoever
// reads the table by its columns reads standard output only.
func (t *tool) explain(units []schema.Unit) {
	const most = 20
	n := 0
	for _, u := range units {
		if u.Reason == "" {
			continue
		}
		if n++; n <= most {
			t.warn("%s: %s", u.Name, u.Reason)
		}
	}
	if n > most {
		t.warn("... and %d more; fleetctl list-unit-files --fields=unit,reason shows all", n-most)
	}
}

// target is where a unit is.
func (t *tool) target(u schema.Unit, full bool) string {
	switch {
	case isGlobal(u):
		return "global"
	case u.Replicas != nil:
		return fmt.Sprintf("%d/%d", u.Replicas.Placed, u.Replicas.Wanted)
	}
	return t.legend(u.MachineID, full)
}

// legend is a machine of the list that was asked for, "" for none.
func (t *tool) legend(id string, full bool) string {
	if id == "" {
		return ""
	}
	return legend(t.known(id), full)
}

// known finds a machine in the list that was asked for.
func (t *tool) known(id string) schema.Machine {
	i, ok := slices.BinarySearchFunc(t.machines, id, func(m schema.Machine, id string) int { return strings.Compare(m.ID, id) })
	if ok {
		return t.machines[i]
	}
	return schema.Machine{ID: id}
}

func shortHash(hash string, full bool) string {
	if full || len(hash) < 7 {
		return hash
	}
	return hash[:7]
}

// file is a unit's content; what the scheduler sends can be read, and what
// could not would show as empty.
func file(u schema.Unit) unitfile.File {
	options := make([]unitfile.Option, len(u.Options))
	for i, o := range u.Options {
		options[i] = unitfile.Option(o)
	}
	f, err := unitfile.FromOptions(options)
	if err != nil {
		return unitfile.File{}
	}
	return f
}

func hashOf(u schema.Unit) string {
	if len(u.Options) == 0 {
		return ""
	}
	return file(u).Hash()
}

func isGlobal(u schema.Unit) bool {
	if !slices.ContainsFunc(u.Options, func(o schema.Option) bool { return o.Section == unitfile.Section && o.Name == "Global" }) {
		return false
	}
	r, _, err := file(u).Requirements(u.Name)
	return err == nil && r.Global
}

// cores shows thousandths of a processor.
func cores(milli int64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%d.%03d", milli/1000, milli%1000), "0"), ".")
}

// size shows bytes in the largest unit that leaves a number above 1.
func size(bytes int64) string {
	units, v := "BKMGT", float64(bytes)
	for len(units) > 1 && v >= 1024 {
		v, units = v/1024, units[1:]
	}
	s := fmt.Sprintf("%.1f", v)
	if units[:1] == "B" {
		return strings.TrimSuffix(s, ".0")
	}
	return strings.TrimSuffix(s, ".0") + units[:1]
}

// top shows what machines have and what their units ask for.
func top(t *tool, f *flag.FlagSet) action {
	once := f.Bool("once", false, "show it once, also on a terminal")
	full := f.Bool("full", false, "show ids whole")
	f.BoolVar(full, "l", false, "the same as --full")
	columns := []table.Column[schema.Machine]{
		{Name: "machine", Value: func(m schema.Machine) string { return legend(m, *full) }},
		{Name: "units", Value: func(m schema.Machine) string { return fmt.Sprint(m.Units) }},
		{Name: "cpu", Value: func(m schema.Machine) string { return cores(m.CPUUsed) + "/" + cores(m.CPU) }},
		{Name: "cpu%", Value: func(m schema.Machine) string { return percent(m.CPUUsed, m.CPU) }},
		{Name: "memory", Value: func(m schema.Machine) string { return size(m.MemoryUsed) + "/" + size(m.Memory) }},
		{Name: "memory%", Value: func(m schema.Machine) string { return percent(m.MemoryUsed, m.Memory) }},
		{Name: "note", Value: func(m schema.Machine) string {
			if m.Draining == "" {
				return ""
			}
			return "drained: " + m.Draining
		}},
	}
	return func(ctx context.Context, args []string) error {
		if len(args) > 0 {
			return usageError{fmt.Errorf("fleetctl top: unexpected %q", args)}
		}
		chosen, err := table.Choose(columns, strings.Join(names(columns), ","))
		if err := errors.Join(err, t.connect(ctx)); err != nil {
			return err
		}
		terminal := isTerminal(t.Out) && !*once
		for {
			machines, err := t.api.Machines(ctx)
			if err != nil {
				return fmt.Errorf("Error retrieving list of active machines: %w", err) //nolint:staticcheck // fleet's text
			}
			slices.SortStableFunc(machines, func(a, b schema.Machine) int { return cmp.Compare(fullness(b), fullness(a)) })
			if terminal {
				fmt.Fprint(t.Out, "\x1b[H\x1b[J") // from the top, the rest cleared
			}
			if err := chosen.Write(t.Out, true, machines); err != nil || !terminal {
				return err
			}
			if t.sleep(ctx, 4*t.tick) != nil {
				return nil // the person has seen enough
			}
		}
	}
}

// fullness is the larger part of a machine's processors and memory that is
// asked for.
func fullness(m schema.Machine) float64 {
	part := func(used, all int64) float64 { return float64(used) / float64(max(all, 1)) }
	return max(part(m.CPUUsed, m.CPU), part(m.MemoryUsed, m.Memory))
}

func percent(used, all int64) string {
	if all <= 0 {
		return ""
	}
	return fmt.Sprint(used * 100 / all)
}
