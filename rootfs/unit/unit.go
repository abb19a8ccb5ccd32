// Package unit holds the vocabulary of the service manager: a unit as it is
// after its file, its drop-ins and the defaults were read. It is used by the
// loader (rootfs/unit/load), which makes these values, by the planner
// (rootfs/transaction) and by PID 1, which acts on them.
//
// It follows systemd.unit(5), systemd.service(5), systemd.exec(5),
// systemd.kill(5), systemd.socket(5) and systemd.resource-control(5) as of
// version 252. A Unit is a value: nothing in it changes after loading, and
// nothing in it is run-time state.
//
// Sandboxing settings that need seccomp, user namespaces or images are not here:
// the loader names them in a warning and ignores them. Type=dbus is refused by
// the loader.
package unit

import (
	"fmt"
	"slices"
	"time"
)

// LoadState says how far reading a unit came; the words are systemctl's.
type LoadState string

// The load states.
const (
	Loaded     LoadState = "loaded"
	NotFound   LoadState = "not-found"
	BadSetting LoadState = "bad-setting"
	Error      LoadState = "error"
	Masked     LoadState = "masked"
)

// Kind is the type of a unit, which is the suffix of its name without the dot.
type Kind string

// The kinds of unit that systemd knows.
const (
	KindService   Kind = "service"
	KindSocket    Kind = "socket"
	KindTarget    Kind = "target"
	KindTimer     Kind = "timer"
	KindPath      Kind = "path"
	KindMount     Kind = "mount"
	KindAutomount Kind = "automount"
	KindSlice     Kind = "slice"
	KindScope     Kind = "scope"
	KindSwap      Kind = "swap"
	KindDevice    Kind = "device"
)

// Warning is something in a unit's files that was ignored, and where.
type Warning struct {
	Path string // absolute path of the file
	Line int    // 1-based; 0 if it is about the whole file
	Text string
}

func (w Warning) String() string {
	if w.Line == 0 {
		return fmt.Sprintf("%s: %s", w.Path, w.Text)
	}
	return fmt.Sprintf("%s:%d: %s", w.Path, w.Line, w.Text)
}

// Unit is one loaded unit.
type Unit struct {
	Name         string   // with suffix; with instance if it is one
	Aliases      []string // other names of the same unit, sorted
	Kind         Kind
	LoadState    LoadState
	LoadError    string // the reason alone, on one line, with file and line where there is one
	FragmentPath string // absolute; "" if there is no file
	DropIns      []string
	Warnings     []Warning

	Description   string // never empty: the name if none is given
	Documentation []string
	Deps          Deps
	Conditions    []Condition
	Asserts       []Condition

	DefaultDependencies bool
	StopWhenUnneeded    bool
	RefuseManualStart   bool
	RefuseManualStop    bool
	AllowIsolate        bool
	IgnoreOnIsolate     bool
	RequiresMountsFor   []string // absolute, clean paths, also those that follow from other settings; their mount units are in Deps too
	OnFailureJobMode    string   // "replace" unless set
	OnSuccessJobMode    string   // "fail" unless set
	CollectMode         string   // "inactive" or "inactive-or-failed"
	StartLimit          StartLimit
	JobTimeout          time.Duration // from when a job is queued; timespan.Infinity unless set
	JobRunningTimeout   time.Duration // from when it begins to run; as JobTimeout unless set
	JobTimeoutAction    string        // "none" unless set
	SuccessAction       string        // "none" unless set
	FailureAction       string        // "none" unless set

	Slice   string // name of the slice unit; "" for kinds without a cgroup
	Cgroup  Cgroup
	Install Install

	// Exactly the one that belongs to Kind is set, in every load state Loaded;
	// targets and slices have none.
	Service   *Service
	Socket    *Socket
	Mount     *Mount
	Timer     *Timer
	Path      *Path
	Automount *Automount
}

// Names returns the unit's name followed by its aliases.
func (u *Unit) Names() []string { return append([]string{u.Name}, u.Aliases...) }

// StartLimit bounds how often a unit may be started; Burst 0 or Interval 0
// switches it off.
type StartLimit struct {
	Interval time.Duration
	Burst    int
	Action   string // "none", "reboot", ...
}

// Dep is the kind of a dependency; its text is the setting's name.
type Dep string

// The kinds of dependency that unit files state. The inverse ones (RequiredBy
// and so on) are computed by transaction.Graph.
const (
	Requires             Dep = "Requires"
	Requisite            Dep = "Requisite"
	Wants                Dep = "Wants"
	BindsTo              Dep = "BindsTo"
	PartOf               Dep = "PartOf"
	Upholds              Dep = "Upholds"
	Conflicts            Dep = "Conflicts"
	Before               Dep = "Before"
	After                Dep = "After"
	OnFailure            Dep = "OnFailure"
	OnSuccess            Dep = "OnSuccess"
	PropagatesReloadTo   Dep = "PropagatesReloadTo"
	ReloadPropagatedFrom Dep = "ReloadPropagatedFrom"
	PropagatesStopTo     Dep = "PropagatesStopTo"
	StopPropagatedFrom   Dep = "StopPropagatedFrom"
	JoinsNamespaceOf     Dep = "JoinsNamespaceOf"
	Triggers             Dep = "Triggers" // socket, timer, path: the unit that it starts
)

// AllDeps lists every kind of dependency in a fixed order.
var AllDeps = []Dep{Requires, Requisite, Wants, BindsTo, PartOf, Upholds, Conflicts, Before, After, OnFailure,
	OnSuccess, PropagatesReloadTo, ReloadPropagatedFrom, PropagatesStopTo, StopPropagatedFrom, JoinsNamespaceOf, Triggers}

// Deps holds the dependencies of a unit by kind: unit names in the order of
// the files, without repeats, explicit ones before default ones.
type Deps map[Dep][]string

// Add appends the names that are not there yet.
func (d Deps) Add(kind Dep, names ...string) {
	for _, n := range names {
		if !slices.Contains(d[kind], n) {
			d[kind] = append(d[kind], n)
		}
	}
}

// Has tells if the dependency is there.
func (d Deps) Has(kind Dep, name string) bool { return slices.Contains(d[kind], name) }

// Condition is one Condition...= or Assert...= line.
type Condition struct {
	Kind    string // "PathExists", "KernelCommandLine", ...
	Value   string // without the prefixes, specifiers replaced
	Negate  bool   // "!"
	Trigger bool   // "|": at least one of these must hold
}

func (c Condition) String() string {
	s := c.Kind + "="
	if c.Trigger {
		s += "|"
	}
	if c.Negate {
		s += "!"
	}
	return s + c.Value
}

// Install is the [Install] section, with specifiers replaced only when the
// unit is enabled.
type Install struct {
	WantedBy        []string
	RequiredBy      []string
	Alias           []string
	Also            []string
	DefaultInstance string
}

// Empty tells if there is nothing to install.
func (i Install) Empty() bool {
	return len(i.WantedBy)+len(i.RequiredBy)+len(i.Alias)+len(i.Also) == 0 && i.DefaultInstance == ""
}
