// Package fleetd is the scheduler's daemon: one per machine, each of them engine,
// agent and API at once. It is fleet's for its owners: fleet.conf, FLEET_*, the
// unit files' names, signals. It puts together packages registry (the KV),
// engine (decides, on one machine at a time), agent (drives this machine's PID 1)
// and api, and decides nothing itself.
//
// SIGTERM stops and unloads the cluster's units that run here and leaves the
// cluster. SIGHUP reads the settings anew: the program is executed again in its
// process with the sockets that it has, which is what an agent that crashed does
// too, and leaves units and lease alone. SIGUSR1 writes what this machine knows
// to the standard output as JSON.
//
// Left out on purpose is what fleet had besides: gRPC between fleetds, the
// user fleet (PID 1 takes changes from root only), and polling.
package fleetd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/agent/units"
	"github.com/coracle-os/coracle/agents/fleet/config"
	"github.com/coracle-os/coracle/agents/kv/pki"
	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/program"
)

// gcPercent keeps fleetd small: its heap is what it mirrors of the cluster, and
// what it makes besides is short-lived.
const gcPercent = 50

// paths are where things of the machine are.
type paths struct {
	machineID, bootID string
	memory            string // of the agent
	pki               string // directory of the certificates of the machine's own etcd
	proc              string
}

func onMachine() paths {
	return paths{machineID: "/etc/machine-id", bootID: "/proc/sys/kernel/random/boot_id", memory: "/var/lib/fleet/agent.db", pki: pki.Local, proc: "/proc"}
}

// Main is fleetd.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	system := func(unitsDir string) units.Init { return units.System{Control: control.Client{}, Dir: unitsDir} }
	return start(ctx, args, onMachine(), system, stdio)
}

// start runs the daemon on a machine whose PID 1 init reaches.
func start(ctx context.Context, args []string, p paths, init func(unitsDir string) units.Init, stdio program.Stdio) int {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1) // early: they would end the process
	defer signal.Stop(signals)
	cfg, err := settings(args[1:], os.Environ(), stdio)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintf(stdio.Err, "fleetd: %v\n", err)
		return 2
	case err != nil:
		fmt.Fprintf(stdio.Err, "fleetd: %v\n", err)
		return 1
	}
	log := newLog(stdio.Err, cfg.Verbosity)
	for _, w := range cfg.Warnings {
		log.Warn(w)
	}
	d := daemon{cfg: cfg, log: log, paths: p, init: init(cfg.UnitsDir), out: stdio.Out, signals: signals,
		check: func() error {
			_, err := settings(args[1:], os.Environ(), program.Stdio{Out: io.Discard, Err: io.Discard})
			return err
		}}
	if err := d.run(ctx); err != nil {
		fmt.Fprintf(stdio.Err, "fleetd: %v\n", err)
		return 1
	}
	return 0
}

var errUsage = errors.New("see fleetd --help")

// settings reads flags, environment and file. flag.ErrHelp is that all is done.
func settings(args, environ []string, stdio program.Stdio) (config.Config, error) {
	set := flag.NewFlagSet("fleetd", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	file := set.String("config", "", "settings are read from `FILE` (default "+config.DefaultFile+", if it is there)")
	version := set.Bool("version", false, "print the version and exit")
	var flags config.Source
	for _, key := range config.Keys() {
		set.Func(key, "as `VALUE` in the file", func(value string) error {
			flags = append(flags, config.Setting{Key: key, Value: value, Where: "--" + key})
			return nil
		})
	}
	switch err := set.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(stdio.Out, "Usage: fleetd [--config FILE] [--KEY VALUE]...\nThe settings of fleet.conf; FLEET_KEY in the environment wins over the file, and a flag over both.")
		set.SetOutput(stdio.Out)
		set.PrintDefaults()
		return config.Config{}, flag.ErrHelp
	case err != nil:
		return config.Config{}, fmt.Errorf("%w; %w", err, errUsage)
	case set.NArg() > 0:
		return config.Config{}, fmt.Errorf("%q is not a flag; %w", set.Arg(0), errUsage)
	case *version:
		fmt.Fprintln(stdio.Out, "fleetd version "+fleet.Version)
		return config.Config{}, flag.ErrHelp
	}
	source, err := readFile(*file)
	if err != nil {
		return config.Config{}, err
	}
	return config.Read(source, config.Environment(environ), flags)
}

// readFile reads the file that is named, which must be there, or the default.
func readFile(name string) (config.Source, error) {
	given := name != ""
	if !given {
		name = config.DefaultFile
	}
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) && !given {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	return config.File(name, data)
}

// newLog writes lines without a time, which the journal adds.
func newLog(w io.Writer, verbosity int) *slog.Logger {
	level := slog.LevelInfo
	if verbosity > 0 {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey && len(groups) == 0 {
			return slog.Attr{}
		}
		return a
	}}))
}

// readID reads a file of one word.
func readID(path, what string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("unable to determine %s: %w", what, err)
	}
	id := strings.TrimSpace(string(data))
	if id == "" {
		return "", fmt.Errorf("unable to determine %s: %s is empty", what, path)
	}
	return id, nil
}
