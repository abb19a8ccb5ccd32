// Package ctl is fleetctl: people's and scripts' way to the scheduler, with
// the commands, flags, variables, tables, texts and exit codes of fleet's
// fleetctl 0.10 to 1.0 (github.com/coreos/fleet), and commands for what fleet
// did not have: drain, undrain, plan, rebalance, rollback, top and rolling
// replacement. It speaks HTTP with a machine's scheduler (package client) and
// SSH with machines (package remote).
//
// Flags are read by the standard library, which takes both spellings, -flag
// and --flag, and may stand before and after the command's other arguments.
//
// Not copied: in fleet 1.0 -l did not work and an unknown command exited with
// 0. Left out on purpose: the driver "etcd" (the layout in the KV is the
// scheduler's own; --tunnel and --endpoint reach every machine's API), signed
// units and verify.
package ctl

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/api/client"
	"github.com/coracle-os/coracle/agents/fleet/api/schema"
	"github.com/coracle-os/coracle/rootfs/program"
)

// tool is one call of fleetctl.
type tool struct {
	program.Stdio
	getenv    func(string) string
	home      string        // the user's
	machineID string        // path of the file with the machine's own id
	tick      time.Duration // between two looks while waiting
	patience  time.Duration // for a scheduler that does not answer while waiting

	options  options
	api      *client.Client
	machines []schema.Machine // once asked for
	close    []func()
}

// Main is fleetctl. It exits with 1 when something failed and with 2 for a
// wrong call; ssh and status exit as the command on the machine does.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/"
	}
	t := &tool{Stdio: stdio, getenv: os.Getenv, home: home, machineID: "/etc/machine-id", tick: 500 * time.Millisecond, patience: 30 * time.Second}
	return t.main(ctx, args[1:])
}

// exitCode is the error of a call that has said everything.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// usageError is the error of a wrong call.
type usageError struct{ error }

func (t *tool) main(ctx context.Context, args []string) int {
	defer func() {
		for _, f := range slices.Backward(t.close) {
			f()
		}
	}()
	err := t.call(ctx, args)
	var code exitCode
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage):
		fmt.Fprintf(t.Err, "%v\nRun 'fleetctl help' for usage.\n", err)
		return 2
	case ctx.Err() != nil:
		fmt.Fprintln(t.Err, "fleetctl: interrupted")
		return 130
	case errors.Is(err, syscall.EPIPE): // the reader has seen enough
		return 1
	}
	fmt.Fprintf(t.Err, "%v%s\n", err, t.hint(err))
	return 1
}

// hint is what to do when the scheduler is not to be reached.
func (t *tool) hint(err error) string {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "dial" || op.Net == "tcp" && t.options.endpoint == client.DefaultEndpoint {
		return ""
	}
	if op.Net == "unix" {
		return "\nIs the scheduler running here (systemctl status fleet)? --endpoint and --tunnel name another machine's."
	}
	return fmt.Sprintf("\nDoes a scheduler listen at %s? --endpoint and --tunnel name a machine's.", t.options.endpoint)
}

// call parses the arguments and runs the command.
func (t *tool) call(ctx context.Context, args []string) error {
	global := t.options.flags("fleetctl")
	if err := t.options.environment(global, t.getenv); err != nil {
		return usageError{err}
	}
	switch err := global.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return t.help(nil)
	case err != nil:
		return usageError{err}
	case t.options.version:
		return t.version()
	}
	if args = global.Args(); len(args) == 0 {
		return t.help(nil)
	}
	c := find(args[0])
	if c == nil {
		return usageError{fmt.Errorf("fleetctl: unknown command %q", args[0])}
	}
	f := t.options.flags(c.name)
	run := c.bind(t, f)
	args, err := parse(f, args[1:], c.command)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return t.help([]string{c.name})
	case err != nil:
		return usageError{fmt.Errorf("fleetctl %s: %w", c.name, err)}
	case t.options.version:
		return t.version()
	}
	return run(ctx, args)
}

// parse reads flags wherever they stand before "--"; when the arguments are
// a command for a machine only those before its first word.
func parse(f *flag.FlagSet, args []string, command bool) (rest []string, err error) {
	for {
		if err := f.Parse(args); err != nil {
			return nil, err
		}
		read := len(args) - f.NArg()
		ended := read > 0 && args[read-1] == "--"
		args = f.Args()
		if len(args) == 0 || ended || command {
			return append(rest, args...), nil
		}
		rest, args = append(rest, args[0]), args[1:]
	}
}

func (t *tool) version() error {
	fmt.Fprintf(t.Out, "fleetctl version %s\n", fleet.Version)
	return nil
}

// warn tells a person something that is not the result.
func (t *tool) warn(format string, args ...any) { fmt.Fprintf(t.Err, format+"\n", args...) }

// machine finds a machine by its id; one that is not there has only the id.
func (t *tool) machine(ctx context.Context, id string) schema.Machine {
	if t.machines == nil {
		// Without the list people see ids instead of addresses.
		t.machines, _ = t.api.Machines(ctx)
	}
	return t.known(id)
}

// short is a machine's id as people see it.
func short(id string, full bool) string {
	if full || len(id) <= 8 {
		return id
	}
	return id[:8] + "..."
}

// legend is a machine as people see it: id and address.
func legend(m schema.Machine, full bool) string {
	if m.PrimaryIP == "" {
		return short(m.ID, full)
	}
	return short(m.ID, full) + "/" + m.PrimaryIP
}

// lookup finds the one machine that a full id, its beginning or an address
// names.
func lookup(machines []schema.Machine, word string) (schema.Machine, error) {
	var found []schema.Machine
	for _, m := range machines {
		switch {
		case m.ID == word || m.PrimaryIP == word && word != "":
			return m, nil
		case word != "" && len(word) <= len(m.ID) && m.ID[:len(word)] == word:
			found = append(found, m)
		}
	}
	switch len(found) {
	case 0:
		return schema.Machine{}, errNoMachine
	case 1:
		return found[0], nil
	}
	return schema.Machine{}, fmt.Errorf("found more than one machine: %q begins %s and %s; give more of the id", word, found[0].ID, found[1].ID)
}

var errNoMachine = errors.New("could not find matching unit or machine")

// ownID is the id of the machine that this runs on, "" if it has none.
func (t *tool) ownID() string {
	data, err := os.ReadFile(t.machineID)
	if err != nil || len(data) < 32 {
		return ""
	}
	return string(data[:32])
}

// path is a path in which ~ is the user's home.
func (t *tool) path(p string) string {
	if len(p) > 1 && p[:2] == "~/" {
		return filepath.Join(t.home, p[2:])
	}
	return p
}

// ask asks a person and reads a line; no byte after it is taken.
func (t *tool) ask(question string) string {
	fmt.Fprint(t.Err, question)
	var line []byte
	for b := make([]byte, 1); ; {
		n, err := io.ReadFull(t.In, b)
		if n == 0 || err != nil || b[0] == '\n' {
			return string(line)
		}
		if b[0] != '\r' && len(line) < 80 {
			line = append(line, b[0])
		}
	}
}
