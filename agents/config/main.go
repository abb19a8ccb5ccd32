// Package config is `coracled config`: the owner of a running machine shows what
// another user-data would change, tries it, and keeps it or not.
//
//	coracled config diff FILE               what would change
//	coracled config apply FILE              change it
//	coracled config apply FILE --try 2m     change it, and back unless confirmed
//	coracled config confirm | revert        keep it, or take it back now
//	coracled config status                  what is being tried
//
// A try is taken back when nobody confirms it in time, when the machine can no
// longer be reached (package reach), and at the next boot when the machine stops
// in the middle (package try). It is applied and watched by a unit of its own,
// so that it does not hang on the connection that it may cut.
//
// The document is that of a boot, in every format that a boot takes; it stands
// for the whole of the machine's user-data, with the platform's metadata beside
// it. As at a boot, files and units that leave the document stay, and users that
// it made go. Of an Ignition config, which no later boot reads, all but storage
// is applied (package live), and users stay.
package config

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/coracle-os/coracle/agents/config/reach"
	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/ignition/fetch"
	"github.com/coracle-os/coracle/rootfs/ignition/live"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/rootfs/provision"
	"github.com/coracle-os/coracle/rootfs/provision/apply"
	"github.com/coracle-os/coracle/rootfs/provision/format"
	"github.com/coracle-os/coracle/rootfs/provision/owned"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// Name is what coracled knows the program by.
const Name = "config"

const usage = `Usage: coracled config diff FILE
       coracled config apply FILE [--try TIME] [--save] [--force]
       coracled config confirm | revert | status
diff shows what the user-data in FILE ("-" is the standard input) would change on this machine; it
exits with 0 when nothing would, 1 when something would and 2 when it cannot tell. apply changes it.
FILE is cloud-config or Ignition, of which storage is left alone.
With --try the change is taken back after TIME (30s, 5m, ...), when the machine can no longer be
reached, or at the next boot, unless confirm says that it is well.
`

// SavePath is the user-data of an installed machine.
const SavePath = "/var/lib/coreos-install/user_data"

// options are the command line.
type options struct {
	command string
	file    string
	try     time.Duration
	save    bool
	force   bool
}

var errUsage = errors.New("usage")

// parse reads the command line; flags may stand on both sides of the file.
func parse(args []string, errOut io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("coracled config", flag.ContinueOnError)
	flags.SetOutput(errOut)
	flags.Usage = func() {
		fmt.Fprint(errOut, usage)
		flags.PrintDefaults()
	}
	flags.DurationVar(&o.try, "try", 0, "take the change back after `TIME` unless it is confirmed")
	flags.BoolVar(&o.save, "save", false, "make the document the machine's own, in "+SavePath+", when it is kept")
	flags.BoolVar(&o.force, "force", false, "apply what is valid of a document with mistakes")
	if len(args) == 0 {
		flags.Usage()
		return o, errUsage
	}
	o.command, args = args[0], args[1:]
	for {
		if err := flags.Parse(args); err != nil {
			return o, err
		}
		if flags.NArg() == 0 {
			break
		}
		if o.file != "" {
			return o, fmt.Errorf("unexpected argument %q: %w", flags.Arg(0), errUsage)
		}
		o.file, args = flags.Arg(0), flags.Args()[1:]
	}
	switch o.command {
	case "-h", "-help", "--help", "help":
		flags.Usage()
		return o, flag.ErrHelp
	case "diff", "apply":
		if o.file == "" {
			return o, fmt.Errorf("%s: name the file with the user-data: %w", o.command, errUsage)
		}
	case "confirm", "revert", "status", "guard":
		if o.file != "" {
			return o, fmt.Errorf("%s takes no file: %w", o.command, errUsage)
		}
	default:
		return o, fmt.Errorf("no command %q: %w", o.command, errUsage)
	}
	if o.try < 0 {
		return o, fmt.Errorf("--try %v: a time must not be negative: %w", o.try, errUsage)
	}
	return o, nil
}

// Main is the program.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	o, err := parse(args[1:], stdio.Err)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stdio.Err, "coracled config: %v\n", err)
		return 2
	}
	executor := provision.NewExecutor("/var/lib/coreos-cloudinit", "coreos-cloudinit")
	t := &tool{
		root: "/", executor: executor, facts: func() (cloudconfig.Facts, error) { return provision.Facts("/") },
		formats: format.Formats{cloudconfig.KindIgnition: live.Format(ctx, os.DirFS("/"), &fetch.Fetcher{})}, stdio: stdio, now: time.Now, environment: os.Environ, parent: os.Getppid(),
		lock: provision.Lock, grace: grace,
		well: func(ctx context.Context, want reach.Watch) watcher { return reach.Now(ctx, want, settle) },
	}
	different, err := t.run(ctx, o)
	switch {
	case err != nil:
		fmt.Fprintf(stdio.Err, "coracled config: %v\n", err)
		if o.command == "diff" {
			return 2
		}
		return 1
	case different:
		return 1
	}
	return 0
}

// tool is the program with its edges.
type tool struct {
	root     string
	executor *apply.Executor
	facts    func() (cloudconfig.Facts, error)
	formats  format.Formats
	stdio    program.Stdio
	now      func() time.Time
	// environment and parent are those of this process.
	environment func() []string
	parent      int
	// lock keeps this and coreos-cloudinit apart.
	lock func() (unlock func(), err error)
	// well returns what of a watch is well now; grace is how long the machine may
	// be out of reach.
	well  func(ctx context.Context, want reach.Watch) watcher
	grace time.Duration
}

// run returns, for diff, whether anything would change.
func (t *tool) run(ctx context.Context, o options) (different bool, err error) {
	switch o.command {
	case "diff":
		p, _, err := t.compile(o.file)
		if err != nil {
			return false, err
		}
		return t.show(ctx, p), nil
	case "apply":
		return false, t.apply(ctx, o)
	case "confirm":
		return false, t.confirm()
	case "revert":
		return false, t.revert(ctx)
	case "status":
		return false, t.status()
	}
	return false, t.guard(ctx)
}

// compile reads a document and makes its plan for this machine, with the removal
// of the users that are no longer in it.
func (t *tool) compile(file string) (plan.Plan, []byte, error) {
	data, err := cloudconfig.ReadFile(file, t.stdio.In)
	if err != nil {
		return plan.Plan{}, nil, err
	}
	p, mistakes, err := t.plan(file, data)
	if err == nil && mistakes > 0 {
		err = fmt.Errorf("%w: %d in %s; --force applies what is valid", errMistakes, mistakes, file)
	}
	return p, data, err
}

var errMistakes = errors.New("there are mistakes")

// plan makes the plan of a document and says what is wrong with it.
func (t *tool) plan(name string, data []byte) (p plan.Plan, mistakes int, err error) {
	facts, err := t.facts()
	if err != nil {
		return p, 0, err
	}
	kind, p, report := format.Compile(name, data, facts, t.formats)
	for _, problem := range report {
		if problem.Formal {
			continue
		}
		if problem.Severity == plan.Error {
			mistakes++
		}
		fmt.Fprintf(t.stdio.Err, "%s: %s\n", name, problem.WithHint())
	}
	users, err := owned.Load(t.root)
	if err != nil {
		fmt.Fprintf(t.stdio.Err, "warning: %v; no user is removed\n", err)
	}
	if mistakes == 0 && kind != cloudconfig.KindIgnition { // which never was all of a machine's user-data
		leaving := users.Leaving(func(source string) bool { return source != oemSource }, p)
		p.Steps = append(p.Steps, leaving...)
	}
	return p, mistakes, nil
}

// oemSource is the document beside the owner's, whose users are not the owner's.
const oemSource = "/usr/share/oem/cloud-config.yml"
