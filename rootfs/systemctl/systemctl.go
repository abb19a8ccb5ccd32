// Package systemctl is the program that asks PID 1 for things: systemctl(1),
// with the words, columns and exit codes of systemd 252 that scripts rely on.
// Called as poweroff, reboot, halt or shutdown it is these.
//
// Verbs about unit files (enable, mask, cat, list-unit-files, is-enabled) work
// on the files themselves through rootfs/install; the others go to PID 1 over
// rootfs/control. User managers, remote hosts and containers are left out.
package systemctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/journal/format"
	"github.com/coracle-os/coracle/rootfs/journal/query"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/rootfs/unit/name"
)

// Exit codes of systemctl, as the LSB gives them to init scripts.
const (
	exitFailure      = 1
	exitNotSupported = 3
	exitNoPermission = 4
	exitNotInstalled = 5
	exitNotRunning   = 7

	exitStatusDead    = 3
	exitStatusUnknown = 4
)

// errExit ends the program with a code; what there is to say was said.
type errExit int

func (e errExit) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// Machine is what systemctl sees of the machine; tests replace it.
type Machine struct {
	Root   string // "/" on a running machine
	Client interface {
		Do(ctx context.Context, req control.Request, each func(control.Response) error) error
	}
	// Journal returns the last n lines of a unit in this boot.
	Journal func(unit string, n int) ([]string, error)
	// Monotonic is the time since the kernel started.
	Monotonic func() time.Duration
	// Force ends the machine without PID 1: "poweroff", "reboot" or "halt".
	Force func(how string, sync bool) error
}

// Main is systemctl on the running machine.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	return Local("/").Run(ctx, args, stdio)
}

// Local is the machine that this program runs on.
func Local(root string) Machine {
	return Machine{
		Root:   root,
		Client: control.Client{Path: filepath.Join(root, control.SocketPath)},
		Journal: func(unit string, n int) ([]string, error) {
			// Not only of this invocation: why the one before it ended is
			// often what is looked for.
			return query.UnitLines(root, unit, "", n, format.Options{})
		},
		Monotonic: func() time.Duration {
			var ts unix.Timespec
			if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
				return 0
			}
			return time.Duration(ts.Nano())
		},
		Force: force,
	}
}

// tool is one call of the program.
type tool struct {
	Machine
	program.Stdio
	ctx  context.Context
	o    options
	args []string // after the verb
}

// options are the flags.
type options struct {
	types, states, properties             []string
	value, all, full, quiet               bool
	noPager, noLegend, plain, reverse     bool
	noBlock, now, failed, runtime, force  bool
	noReload, wait, help, version, noWall bool
	preserve, recursive, noAsk            bool
	legend                                bool
	lines, forceCount                     int
	showTypes, after, before              bool

	output, signal, killWhom, jobMode, root string
	presetMode                              string
	user, system                            bool
}

func (o *options) flags() *pflag.FlagSet {
	f := pflag.NewFlagSet("systemctl", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringSliceVarP(&o.types, "type", "t", nil, "only units of these types or load states")
	f.StringSliceVar(&o.states, "state", nil, "only units in these load, sub or active states")
	f.StringSliceVarP(&o.properties, "property", "p", nil, "show only these properties")
	f.BoolVar(&o.value, "value", false, "print only the values of properties")
	f.StringSliceVarP(&o.properties, "P", "P", nil, "as --value --property=")
	f.BoolVarP(&o.all, "all", "a", false, "inactive units and empty properties too")
	f.BoolVarP(&o.full, "full", "l", false, "do not shorten lines; edit: the whole file")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print nothing that is not an error")
	f.BoolVar(&o.noPager, "no-pager", false, "do not use a pager (there is none)")
	f.BoolVar(&o.noLegend, "no-legend", false, "no header and footer")
	f.BoolVar(&o.legend, "legend", true, "header and footer")
	f.BoolVar(&o.plain, "plain", false, "lists without marks")
	f.BoolVarP(&o.reverse, "reverse", "r", false, "inverse dependencies")
	f.BoolVar(&o.noBlock, "no-block", false, "do not wait for the jobs")
	f.BoolVar(&o.now, "now", false, "start or stop the unit too")
	f.BoolVar(&o.failed, "failed", false, "as --state=failed")
	f.BoolVar(&o.runtime, "runtime", false, "only until the next boot")
	f.CountVarP(&o.forceCount, "force", "f", "replace links; twice: do not ask PID 1")
	f.BoolVar(&o.noReload, "no-reload", false, "do not reload after changing unit files")
	f.BoolVar(&o.wait, "wait", false, "wait until it is over")
	f.BoolVar(&o.noWall, "no-wall", false, "accepted for compatibility")
	f.BoolVar(&o.noAsk, "no-ask-password", false, "accepted for compatibility")
	f.BoolVar(&o.system, "system", false, "the system manager (there is no other)")
	f.BoolVar(&o.user, "user", false, "not supported")
	f.IntVarP(&o.lines, "lines", "n", 10, "journal lines to show")
	f.StringVarP(&o.output, "output", "o", "short", "output of the journal lines; lists: json or json-pretty")
	f.StringVarP(&o.signal, "signal", "s", "SIGTERM", "signal to send")
	f.StringVar(&o.killWhom, "kill-whom", "all", "main, control or all")
	f.StringVar(&o.killWhom, "kill-who", "all", "as --kill-whom")
	f.StringVar(&o.jobMode, "job-mode", "", "how to deal with queued jobs")
	f.BoolVar(&o.showTypes, "show-types", false, "list-sockets: the types of sockets too")
	f.BoolVar(&o.after, "after", false, "list-dependencies: what the unit is ordered after")
	f.BoolVar(&o.before, "before", false, "list-dependencies: what the unit is ordered before")
	f.StringVar(&o.root, "root", "", "work on the unit files below this directory")
	f.StringVar(&o.presetMode, "preset-mode", "full", "what of the policy counts: full, enable-only or disable-only")
	f.BoolVarP(&o.help, "help", "h", false, "this text")
	f.BoolVar(&o.version, "version", false, "the version")
	return f
}

// verb is one command.
type verb struct {
	run      func(*tool) error
	min      int // arguments
	help     string
	filePart bool // works without PID 1
}

func verbs() map[string]verb {
	jobs := func(v control.Verb, word string) verb {
		return verb{run: func(t *tool) error { return t.jobs(v, word, t.args) }, min: 1, help: string(v) + " units"}
	}
	return map[string]verb{
		"start":                 jobs(control.Start, "start"),
		"stop":                  jobs(control.Stop, "stop"),
		"restart":               jobs(control.Restart, "restart"),
		"try-restart":           jobs(control.TryRestart, "try-restart"),
		"condrestart":           jobs(control.TryRestart, "try-restart"),
		"reload":                jobs(control.Reload, "reload"),
		"reload-or-restart":     jobs(control.ReloadOrRestart, "reload-or-restart"),
		"force-reload":          jobs(control.ReloadOrRestart, "reload-or-restart"),
		"try-reload-or-restart": jobs(control.TryReloadRestart, "reload-or-try-restart"),
		"reload-or-try-restart": jobs(control.TryReloadRestart, "reload-or-try-restart"),
		"set-property":          {run: (*tool).setProperty, min: 2, help: "change resource settings of a unit, now and for good"},
		"isolate":               {run: (*tool).isolate, min: 1, help: "start a target and stop all else"},
		"kill":                  {run: (*tool).kill, min: 1, help: "send a signal to units' processes"},
		"link":                  {run: (*tool).link, min: 1, help: "make unit files from elsewhere known", filePart: true},
		"revert":                {run: (*tool).revert, min: 1, help: "remove drop-ins and masks of units", filePart: true},
		"add-wants":             {run: (*tool).addWants, min: 2, help: "let a target want units", filePart: true},
		"add-requires":          {run: (*tool).addRequires, min: 2, help: "let a target require units", filePart: true},
		"edit":                  {run: (*tool).edit, min: 1, help: "edit a drop-in of units, or with --full their files"},
		"reset-failed":          {run: (*tool).resetFailed, help: "forget failures and start limits"},
		"cancel":                {run: (*tool).cancel, help: "cancel jobs"},
		"daemon-reload":         {run: (*tool).daemonReload, help: "read all unit files again"},
		"daemon-reexec":         {run: (*tool).daemonReexec, help: "execute PID 1 anew; no unit stops"},
		"status":                {run: (*tool).status, help: "show what units are doing"},
		"show":                  {run: (*tool).show, help: "show properties"},
		"is-active":             {run: (*tool).isActive, min: 1, help: "tell if units are active"},
		"is-failed":             {run: (*tool).isFailed, help: "tell if units have failed"},
		"is-system-running":     {run: (*tool).isSystemRunning, help: "tell the state of the machine"},
		"list-units":            {run: (*tool).listUnits, help: "list loaded units"},
		"list-jobs":             {run: (*tool).listJobs, help: "list queued jobs"},
		"list-sockets":          {run: (*tool).listSockets, help: "list socket units"},
		"list-timers":           {run: (*tool).listTimers, help: "list timer units"},
		"list-dependencies":     {run: (*tool).listDependencies, help: "show what a unit pulls in"},
		"list-unit-files":       {run: (*tool).listUnitFiles, help: "list unit files", filePart: true},
		"cat":                   {run: (*tool).cat, min: 1, help: "show units' files", filePart: true},
		"is-enabled":            {run: (*tool).isEnabled, min: 1, help: "tell if unit files are enabled", filePart: true},
		"enable":                {run: (*tool).enable, min: 1, help: "enable units", filePart: true},
		"disable":               {run: (*tool).disable, min: 1, help: "disable units", filePart: true},
		"reenable":              {run: (*tool).reenable, min: 1, help: "disable, then enable units", filePart: true},
		"preset":                {run: (*tool).preset, min: 1, help: "enable or disable as the policy says", filePart: true},
		"mask":                  {run: (*tool).mask, min: 1, help: "make units impossible to start", filePart: true},
		"unmask":                {run: (*tool).unmask, min: 1, help: "undo mask", filePart: true},
		"get-default":           {run: (*tool).getDefault, help: "show the default target", filePart: true},
		"set-default":           {run: (*tool).setDefault, min: 1, help: "set the default target", filePart: true},
		"default":               {run: func(t *tool) error { return t.jobs(control.Isolate, "start", []string{"default.target"}) }, help: "isolate default.target"},
		"show-environment":      {run: (*tool).showEnvironment, help: "show the variables that every command gets"},
		"set-environment":       {run: func(t *tool) error { return t.setEnvironment(control.SetEnvironment) }, min: 1, help: "set such variables"},
		"unset-environment":     {run: func(t *tool) error { return t.setEnvironment(control.UnsetEnvironment) }, min: 1, help: "remove such variables"},
		"import-environment":    {run: (*tool).importEnvironment, help: "set such variables as they are here"},
		"poweroff":              {run: func(t *tool) error { return t.power(control.PowerOff) }, help: "power off"},
		"reboot":                {run: func(t *tool) error { return t.power(control.Reboot) }, help: "reboot"},
		"halt":                  {run: func(t *tool) error { return t.power(control.Halt) }, help: "halt"},
	}
}

// Run runs the program and returns its exit code.
func (m Machine) Run(ctx context.Context, args []string, stdio program.Stdio) int {
	t := &tool{Machine: m, Stdio: stdio, ctx: ctx}
	err := t.run(args)
	switch e := errExit(0); {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return int(e)
	}
	fmt.Fprintln(stdio.Err, err)
	return exitCode(err)
}

// exitCode turns an error of PID 1 into the code that scripts know.
func exitCode(err error) int {
	e := (*control.Error)(nil)
	if !errors.As(err, &e) {
		return exitFailure
	}
	switch e.Code {
	case control.NotFound, control.NotLoaded:
		return exitNotInstalled
	case control.Refused, control.Denied:
		return exitNoPermission
	case control.NotApplicable:
		return exitNotSupported
	case control.ShuttingDown:
		return exitNotRunning
	}
	return exitFailure
}

func (t *tool) run(args []string) error {
	called := filepath.Base(args[0])
	if slices.Contains([]string{"poweroff", "reboot", "halt", "shutdown"}, called) {
		return t.shutdown(called, args[1:])
	}
	flags := t.o.flags()
	if err := flags.Parse(args[1:]); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return t.help(flags)
		}
		return fmt.Errorf("systemctl: %w: see systemctl --help", err)
	}
	if flags.Changed("P") {
		t.o.value = true
	}
	if t.o.noLegend || t.o.quiet {
		t.o.legend = false
	}
	t.o.force = t.o.forceCount > 0
	switch {
	case t.o.help:
		return t.help(flags)
	case t.o.version:
		return t.printVersion()
	case t.o.user:
		return errors.New("systemctl: --user is not supported: Coracle has no user managers")
	}
	if t.o.root != "" {
		t.Machine.Root = t.o.root
	}
	if done, err := t.unitTypes(); done {
		return err
	}
	rest := flags.Args()
	if len(rest) == 0 {
		return t.listUnits()
	}
	v, ok := verbs()[rest[0]]
	t.args = rest[1:]
	switch {
	case !ok:
		return fmt.Errorf("Unknown command verb %s.", rest[0])
	case len(t.args) < v.min:
		return errors.New("Too few arguments.")
	case t.o.root != "" && !v.filePart:
		return fmt.Errorf("systemctl: %s cannot be used with --root=", rest[0])
	}
	return v.run(t)
}

func (t *tool) help(flags *pflag.FlagSet) error {
	fmt.Fprintf(t.Out, "systemctl [OPTIONS...] COMMAND ...\n\nAsk Coracle's init to do something.\n\nCommands:\n")
	all := verbs()
	names := make([]string, 0, len(all))
	for n := range all {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		fmt.Fprintf(t.Out, "  %-22s %s\n", n, all[n].help)
	}
	fmt.Fprintf(t.Out, "\nOptions:\n%s", flags.FlagUsages())
	return nil
}

// printVersion names the release and the systemd whose behaviour this has.
func (t *tool) printVersion() error {
	release, err := fs.ReadFile(os.DirFS(t.Root), "etc/os-release")
	version := "unknown"
	if err == nil {
		for _, line := range strings.Split(string(release), "\n") {
			if v, ok := strings.CutPrefix(line, "VERSION="); ok {
				version = strings.Trim(v, "\"'")
			}
		}
	}
	fmt.Fprintf(t.Out, "systemd 252 (coracle %s)\n", version)
	return nil
}

// unitName is an argument as the name of a unit.
func (t *tool) unitName(arg, kind string) string {
	n := name.Mangle(arg, kind)
	if plain := strings.TrimSuffix(n, "."+kind); plain != arg && n != arg && !strings.HasPrefix(arg, "/") {
		t.say(t.Err, "Invalid unit name %q escaped as \"%s\" (maybe you should use systemd-escape?).", arg, plain)
	}
	return n
}

// units returns the full names of arguments; patterns are matched against the
// loaded units.
func (t *tool) units(args []string) ([]string, error) {
	var list []string
	for _, a := range args {
		if !isPattern(a) {
			list = append(list, t.unitName(a, "service"))
			continue
		}
		pattern := a
		if name.Kind(a) == "" && !strings.HasSuffix(a, "*") {
			pattern += ".service"
		}
		r, err := t.collect(control.Request{Verb: control.ListUnits, Units: []string{pattern}, Flags: control.Flags{All: t.o.all}})
		if err != nil {
			return nil, err
		}
		for _, u := range r.Units {
			list = append(list, u.Name)
		}
	}
	return list, nil
}

// shown returns the full names of arguments of verbs that ask for properties;
// a template has none.
func (t *tool) shown(args []string) ([]string, error) {
	names, err := t.units(args)
	for _, n := range names {
		if name.IsTemplate(n) {
			return nil, fmt.Errorf("Failed to get properties: Unit name %s is neither a valid invocation ID nor unit name.", n)
		}
	}
	return names, err
}

// collect sends a request and returns all responses as one; warnings are
// printed.
func (t *tool) collect(req control.Request) (control.Response, error) {
	var all control.Response
	err := t.Client.Do(t.ctx, req, func(r control.Response) error {
		for _, w := range r.Warnings {
			fmt.Fprintln(t.Err, w)
		}
		all.Units = append(all.Units, r.Units...)
		all.Jobs = append(all.Jobs, r.Jobs...)
		all.Results = append(all.Results, r.Results...)
		if r.State != "" {
			all.State = r.State
		}
		return nil
	})
	return all, err
}

// say prints unless --quiet.
func (t *tool) say(w io.Writer, format string, args ...any) {
	if !t.o.quiet {
		fmt.Fprintf(w, format+"\n", args...)
	}
}
