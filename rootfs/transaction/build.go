package transaction

import (
	"fmt"
	"slices"
	"sort"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/settings"
)

// Kind tells errors apart.
type Kind string

// The kinds of error. The first five are about one unit, the next three about
// the transaction, the last about the request.
const (
	NotFound      Kind = "not-found"
	Masked        Kind = "masked"
	BadSetting    Kind = "bad-setting"
	LoadError     Kind = "load-error"
	NotApplicable Kind = "not-applicable"
	Unmergeable   Kind = "unmergeable"
	Cyclic        Kind = "cyclic"
	Destructive   Kind = "destructive"
	Refused       Kind = "refused"
	Invalid       Kind = "bad-request"
)

// Error says why there is no plan.
type Error struct {
	Kind Kind
	Unit string
	Text string // as systemctl prints it
}

func (e *Error) Error() string { return e.Text }

// node is a job of the transaction that is being built. There may be several
// for one unit until they are merged.
type node struct {
	unit    string
	typ     Type
	reason  string
	matters bool // to the anchor
	by      []*link
	pulls   []*link
}

// link says that one job pulled another in.
type link struct {
	from, to  *node
	matters   bool // to cannot go without from going too
	conflicts bool
}

type builder struct {
	w      World
	req    Request
	jobs   map[string][]*node
	order  []string // units, as they came
	anchor *node
	plan   *Plan
}

// Build plans a request. The plan is never nil: with an error it still has the
// warnings.
func Build(w World, req Request) (*Plan, error) {
	b := &builder{w: w, req: req, jobs: map[string][]*node{}, plan: &Plan{Anchor: w.Graph.Name(req.Unit)}}
	if req.Mode == "" {
		b.req.Mode = Replace
	}
	err := b.build()
	if err != nil {
		b.plan.Jobs, b.plan.Cancel = nil, nil
	}
	return b.plan, err
}

func (b *builder) build() error {
	if err := b.checkIsolate(); err != nil {
		return err
	}
	t := collapse(b.req.Type, b.state(b.plan.Anchor))
	anchor, err := b.add(b.plan.Anchor, t, nil, link{matters: true}, "requested")
	if err != nil {
		return err
	}
	b.anchor = anchor
	if b.req.Mode == Isolate {
		b.isolate()
	}
	if b.req.Mode == Triggering {
		b.stopTriggering()
	}
	b.mark(anchor)
	b.dropRedundant()
	// One job for each unit first: the order of two jobs that contradict each
	// other says nothing.
	if err := b.merge(); err != nil {
		return err
	}
	if err := b.breakCycles(); err != nil {
		return err
	}
	b.dropRedundant()
	if err := b.checkDestructive(); err != nil {
		return err
	}
	b.finish()
	return nil
}

func (b *builder) state(name string) State {
	if b.w.State == nil {
		return Inactive
	}
	return b.w.State(name)
}

func (b *builder) checkIsolate() error {
	if b.req.Mode != Isolate {
		return nil
	}
	u := b.w.Graph.Unit(b.req.Unit)
	switch {
	case b.req.Type != Start:
		return &Error{Invalid, b.req.Unit, "Isolate is only valid for start."}
	case u != nil && u.LoadState == unit.Loaded && !u.AllowIsolate:
		return &Error{Refused, b.req.Unit, "Operation refused, unit may not be isolated."}
	}
	return nil
}

// add puts a job and all that follows from it into the transaction.
func (b *builder) add(name string, t Type, by *node, how link, reason string) (*node, error) {
	u := b.w.Graph.Unit(name)
	if u == nil {
		return nil, &Error{NotFound, name, fmt.Sprintf("Unit %s not found.", name)}
	}
	if t != Stop && t != Nop {
		if err := loadable(u); err != nil {
			return nil, err
		}
	}
	if !applicable(u, t) {
		return nil, &Error{NotApplicable, name, fmt.Sprintf("Job type %s is not applicable for unit %s.", t, name)}
	}
	n, isNew := b.node(u.Name, t, reason)
	if by != nil {
		l := &link{from: by, to: n, matters: how.matters, conflicts: how.conflicts}
		by.pulls = append(by.pulls, l)
		n.by = append(n.by, l)
	}
	if !isNew || t == Nop || b.req.Mode == IgnoreDependencies || b.req.Mode == IgnoreRequirements {
		return n, nil
	}
	return n, b.follow(n)
}

// node returns the job of the type for a unit, a new one if there is none.
func (b *builder) node(name string, t Type, reason string) (*node, bool) {
	for _, n := range b.jobs[name] {
		if n.typ == t {
			return n, false
		}
	}
	n := &node{unit: name, typ: t, reason: reason}
	if b.jobs[name] == nil {
		b.order = append(b.order, name)
	}
	b.jobs[name] = append(b.jobs[name], n)
	return n, true
}

// loadable says why a unit cannot be started.
func loadable(u *unit.Unit) error {
	switch u.LoadState {
	case unit.Loaded:
		return nil
	case unit.NotFound:
		return &Error{NotFound, u.Name, fmt.Sprintf("Unit %s not found.", u.Name)}
	case unit.Masked:
		return &Error{Masked, u.Name, fmt.Sprintf("Unit %s is masked.", u.Name)}
	case unit.BadSetting:
		return &Error{BadSetting, u.Name, fmt.Sprintf("Unit %s has a bad unit file setting.", u.Name)}
	}
	return &Error{LoadError, u.Name, fmt.Sprintf("Unit %s failed to load properly, please adjust/correct and reload service manager: %s", u.Name, u.LoadError)}
}

// applicable tells if a unit can do what a job wants.
func applicable(u *unit.Unit, t Type) bool {
	switch {
	case t == Reload || t == TryReload:
		return u.Service != nil && len(u.Service.ExecReload) > 0 || u.Kind == unit.KindMount
	case u.LoadState != unit.Loaded:
		return true
	case t == Start || t == Restart || t == ReloadOrStart:
		return u.Kind != unit.KindScope
	case t == Stop:
		return u.Kind != unit.KindDevice && !settings.Perpetual(u.Name)
	}
	return true
}

// follow adds what a new job pulls in.
func (b *builder) follow(n *node) error {
	g := b.w.Graph
	if n.typ == Start || n.typ == Restart {
		if err := b.followStart(n); err != nil {
			return err
		}
	}
	if n.typ == Stop || n.typ == Restart {
		want := Type(Stop)
		if n.typ == Restart {
			want = TryRestart
		}
		for _, other := range g.StopWith(n.unit) {
			if err := b.propagate(n, other, want, true); err != nil {
				return err
			}
		}
	}
	if n.typ == Reload {
		for _, other := range g.ReloadWith(n.unit) {
			_ = b.propagate(n, other, TryReload, false)
		}
	}
	return nil
}

// followStart adds what a start needs, wants and excludes.
func (b *builder) followStart(n *node) error {
	g := b.w.Graph
	for _, other := range g.Of(n.unit, unit.Requires, unit.BindsTo) {
		if _, err := b.add(other, Start, n, link{matters: true}, "required by "+n.unit); err != nil && !skippable(err) {
			return err
		}
	}
	for _, other := range g.Of(n.unit, unit.Wants, unit.Upholds) {
		if _, err := b.add(other, Start, n, link{}, "wanted by "+n.unit); err != nil {
			b.warnUnless(NotFound, err, "Cannot add dependency job for %s, ignoring: %s", other)
		}
	}
	for _, other := range g.Of(n.unit, unit.Requisite) {
		if _, err := b.add(other, VerifyActive, n, link{matters: true}, "requisite of "+n.unit); err != nil && !skippable(err) {
			return err
		}
	}
	for _, other := range g.Of(n.unit, unit.Conflicts) {
		if _, err := b.add(other, Stop, n, link{matters: true, conflicts: true}, "conflicts with "+n.unit); err != nil && !skippable(err) {
			return err
		}
	}
	for _, other := range g.By(n.unit, unit.Conflicts) {
		if _, err := b.add(other, Stop, n, link{}, "conflicts with "+n.unit); err != nil {
			b.warnUnless(NotFound, err, "Cannot add dependency job for %s, ignoring: %s", other)
		}
	}
	return nil
}

// skippable tells that a dependency does not apply at all, which is no fault.
func skippable(err error) bool {
	e, ok := err.(*Error)
	return ok && e.Kind == NotApplicable
}

func (b *builder) warnUnless(kind Kind, err error, format, name string) {
	if e, ok := err.(*Error); ok && e.Kind != kind && e.Kind != Masked {
		b.plan.Warnings = append(b.plan.Warnings, fmt.Sprintf(format, name, err))
	}
}

// propagate adds a job that depends on the state of the other unit.
func (b *builder) propagate(n *node, other string, t Type, matters bool) error {
	if t = collapse(t, b.state(other)); t == Nop {
		return nil
	}
	_, err := b.add(other, t, n, link{matters: matters}, fmt.Sprintf("%s of %s", n.typ, n.unit))
	if skippable(err) {
		return nil
	}
	return err
}

// isolate adds a stop for everything that is not in the transaction.
func (b *builder) isolate() {
	for _, name := range b.w.Graph.Names() {
		u := b.w.Graph.Unit(name)
		_, queued := b.w.Queued[name]
		s := b.state(name)
		if u.IgnoreOnIsolate || b.jobs[name] != nil || u.Kind == unit.KindSlice || u.Kind == unit.KindScope || u.Kind == unit.KindDevice {
			continue
		}
		if (s == Inactive || s == Failed) && !queued {
			continue
		}
		// Keep what is triggered by a unit that stays.
		if slices.ContainsFunc(b.w.Graph.By(name, unit.Triggers), func(by string) bool { return b.jobs[by] != nil }) {
			continue
		}
		_, _ = b.add(name, Stop, b.anchor, link{matters: true}, "isolate "+b.anchor.unit)
	}
}

// stopTriggering adds a stop for the units that start the one that is to stop.
func (b *builder) stopTriggering() {
	for _, name := range b.w.Graph.By(b.anchor.unit, unit.Triggers) {
		if s := b.state(name); s != Inactive && s != Failed {
			_, _ = b.add(name, Stop, b.anchor, link{matters: true}, "triggers "+b.anchor.unit)
		}
	}
}

// mark finds the jobs without which the anchor's cannot be.
func (b *builder) mark(n *node) {
	n.matters = true
	for _, l := range n.pulls {
		if l.matters && !l.to.matters {
			b.mark(l.to)
		}
	}
}

// drop takes a job out; with those that cannot be without it if they too are
// to go.
func (b *builder) drop(n *node, dependents bool) {
	list := slices.DeleteFunc(b.jobs[n.unit], func(o *node) bool { return o == n })
	b.jobs[n.unit] = list
	if len(list) == 0 {
		delete(b.jobs, n.unit)
		b.order = slices.DeleteFunc(b.order, func(s string) bool { return s == n.unit })
	}
	pulls, by := n.pulls, n.by
	n.pulls, n.by = nil, nil
	for _, l := range pulls {
		l.to.by = slices.DeleteFunc(l.to.by, func(o *link) bool { return o == l })
	}
	for _, l := range by {
		l.from.pulls = slices.DeleteFunc(l.from.pulls, func(o *link) bool { return o == l })
	}
	for _, l := range by {
		if dependents && l.matters && slices.Contains(b.jobs[l.from.unit], l.from) {
			b.drop(l.from, true)
		}
	}
}

// dropRedundant takes out the jobs of units that are where they should be.
func (b *builder) dropRedundant() {
	for _, name := range slices.Clone(b.order) {
		keep := slices.ContainsFunc(b.jobs[name], func(n *node) bool {
			q, queued := b.w.Queued[name]
			return n == b.anchor || !redundant(n.typ, b.state(name)) || queued && conflicting(n.typ, q.Type)
		})
		if !keep {
			for _, n := range slices.Clone(b.jobs[name]) {
				b.drop(n, false)
			}
		}
	}
}

// dropOrphans takes out jobs that nothing pulls in any more.
func (b *builder) dropOrphans() {
	for again := b.req.Mode != Isolate; again; {
		again = false
		for _, name := range slices.Clone(b.order) {
			for _, n := range slices.Clone(b.jobs[name]) {
				if n != b.anchor && len(n.by) == 0 {
					b.drop(n, true)
					again = true
				}
			}
		}
	}
}

// merge makes one job of all those of a unit, dropping what contradicts.
func (b *builder) merge() error {
	for {
		n, err := b.contradiction()
		if err != nil {
			return err
		}
		if n == nil {
			break
		}
		if n.typ != Stop {
			b.plan.Warnings = append(b.plan.Warnings, fmt.Sprintf("%s: Dropped the %s job (%s): it contradicts another job of the unit", n.unit, n.typ, n.reason))
		}
		b.drop(n, true)
		b.dropOrphans()
	}
	for _, name := range b.order {
		list := b.jobs[name]
		first := list[0]
		for _, n := range list[1:] {
			first.typ, _ = merged(first.typ, n.typ)
			first.matters = first.matters || n.matters
			for _, l := range n.by {
				l.to = first
			}
			for _, l := range n.pulls {
				l.from = first
			}
			first.by, first.pulls = append(first.by, n.by...), append(first.pulls, n.pulls...)
			if n == b.anchor {
				b.anchor, first.reason = first, n.reason
			}
		}
		b.jobs[name] = list[:1]
	}
	return nil
}

// contradiction returns a job to be dropped because another of its unit wants
// the opposite.
func (b *builder) contradiction() (*node, error) {
	for _, name := range b.order {
		for i, x := range b.jobs[name] {
			for _, y := range b.jobs[name][i+1:] {
				if !conflicting(x.typ, y.typ) {
					continue
				}
				n := lesser(x, y)
				if n == nil {
					return nil, &Error{Unmergeable, name, fmt.Sprintf("Transaction for %s/%s contains conflicting jobs '%s' (%s) and '%s' (%s) for %s. Probably contradicting requirement dependencies configured.", b.plan.Anchor, b.req.Type, x.typ, x.reason, y.typ, y.reason, name)}
				}
				return n, nil
			}
		}
	}
	return nil, nil
}

// lesser returns which of two contradicting jobs to drop, nil if both matter.
func lesser(x, y *node) *node {
	conflicted := func(n *node) bool {
		return slices.ContainsFunc(n.by, func(l *link) bool { return l.conflicts })
	}
	switch {
	case !x.matters && !y.matters:
		stop, other := x, y
		if y.typ == Stop {
			stop, other = y, x
		}
		if conflicted(stop) {
			return other
		}
		return stop
	case !x.matters:
		return x
	case !y.matters:
		return y
	}
	return nil
}

// checkDestructive refuses to replace queued jobs that must stay.
func (b *builder) checkDestructive() error {
	for _, name := range b.order {
		q, ok := b.w.Queued[name]
		n := b.jobs[name][0]
		if !ok || !(q.Irreversible || b.req.Mode == Fail) || !conflicting(n.typ, q.Type) {
			continue
		}
		return &Error{Destructive, name, fmt.Sprintf("Transaction for %s/%s is destructive (%s has '%s' job queued, but '%s' is included in transaction).", b.plan.Anchor, b.req.Type, name, q.Type, n.typ)}
	}
	return nil
}

// finish writes the jobs down, those that go first first.
func (b *builder) finish() {
	for _, name := range b.sorted() {
		n := b.jobs[name][0]
		j := Job{Unit: name, Type: n.typ, Reason: n.reason,
			Irreversible: b.req.Mode == ReplaceIrreversibly, IgnoreOrder: b.req.Mode == IgnoreDependencies}
		if q, ok := b.w.Queued[name]; ok {
			if t, ok := merged(j.Type, q.Type); ok {
				j.Type = t
			} else {
				b.plan.Cancel = append(b.plan.Cancel, name)
			}
		}
		b.plan.Jobs = append(b.plan.Jobs, j)
	}
	if b.req.Mode == Isolate || b.req.Mode == Flush {
		for name, q := range b.w.Queued {
			if b.jobs[name] == nil && !q.Irreversible {
				b.plan.Cancel = append(b.plan.Cancel, name)
			}
		}
	}
	sort.Strings(b.plan.Cancel)
}
