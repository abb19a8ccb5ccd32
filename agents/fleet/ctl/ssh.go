package ctl

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/coracle-os/coracle/agents/fleet/api/schema"
	"github.com/coracle-os/coracle/agents/fleet/ctl/remote"
	"github.com/coracle-os/coracle/agents/fleet/unitfile"
	"github.com/coracle-os/coracle/rootfs/program"
)

// onMachine runs a shell command on a machine, here if it is this one, and
// gives its exit code. Its output goes where fleetctl's goes; it has no input.
func (t *tool) onMachine(ctx context.Context, m schema.Machine, port int, command string) (int, error) {
	streams := program.Stdio{Out: t.Out, Err: t.Err}
	if own := t.ownID(); own != "" && own == m.ID {
		cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
		cmd.Stdout, cmd.Stderr = streams.Out, streams.Err
		var exit *exec.ExitError
		switch err := cmd.Run(); {
		case errors.As(err, &exit) && exit.ExitCode() >= 0:
			return exit.ExitCode(), nil
		case errors.As(err, &exit): // a signal, as when who reads has had enough: a shell's code for it
			status, _ := exit.Sys().(syscall.WaitStatus)
			return 128 + int(status.Signal()), nil
		case err != nil:
			return 1, fmt.Errorf("run %q: %w", command, err)
		}
		return 0, nil
	}
	client, err := t.dial(ctx, m, port)
	if err != nil {
		return 1, err
	}
	defer client.Close()
	return client.Run(ctx, command, false, streams)
}

func (t *tool) dial(ctx context.Context, m schema.Machine, port int) (*remote.Client, error) {
	if m.PrimaryIP == "" {
		return nil, fmt.Errorf("the machine %s has no known address; its fleet.conf can give public_ip", short(m.ID, false))
	}
	return t.remote().Dial(ctx, net.JoinHostPort(m.PrimaryIP, fmt.Sprint(port)))
}

// places are the machines where a unit is, or is said to be.
func (t *tool) places(ctx context.Context, name string) ([]schema.Machine, *schema.Unit, error) {
	u, err := t.api.Unit(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	states, err := t.api.States(ctx, name, "")
	if err != nil {
		return nil, nil, fmt.Errorf("find the machine of %s: %w", name, err)
	}
	var ids []string
	if u.MachineID != "" {
		ids = append(ids, u.MachineID)
	}
	for _, s := range states {
		if !slices.Contains(ids, s.MachineID) {
			ids = append(ids, s.MachineID)
		}
	}
	var all []schema.Machine
	for _, id := range ids {
		all = append(all, t.machine(ctx, id))
	}
	return all, u, nil
}

func fdForward(t *tool, _ *flag.FlagSet) action {
	return func(ctx context.Context, args []string) error {
		if len(args) != 1 {
			return usageError{errors.New("fleetctl fd-forward: give the path of a socket")}
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", strings.TrimPrefix(args[0], "unix://"))
		if err != nil {
			return fmt.Errorf("fd-forward: %w", err)
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		go func() {
			io.Copy(conn, t.In) // its end is told, its errors are the other side's
			conn.(*net.UnixConn).CloseWrite()
		}()
		if _, err := io.Copy(t.Out, conn); err != nil && ctx.Err() == nil {
			return fmt.Errorf("fd-forward: %w", err)
		}
		return nil
	}
}

func sshCommand(t *tool, f *flag.FlagSet) action {
	machine := f.String("machine", "", "open it on this machine: id or its beginning")
	unit := f.String("unit", "", "open it where this unit is")
	forward := f.Bool("forward-agent", false, "let programs there use the own key agent")
	f.BoolVar(forward, "A", false, "the same as --forward-agent")
	port := f.Int("ssh-port", 22, "port of the machines' SSH")
	return func(ctx context.Context, args []string) error {
		if *machine != "" && *unit != "" {
			return usageError{errors.New("fleetctl ssh: give --machine or --unit, not both")}
		}
		word := ""
		if *machine == "" && *unit == "" {
			if len(args) == 0 {
				return usageError{errors.New("fleetctl ssh: give a machine or a unit")}
			}
			word, args = args[0], args[1:]
		}
		if len(args) > 0 && args[0] == "--" {
			args = args[1:]
		}
		if err := t.connect(ctx); err != nil {
			return err
		}
		m, err := t.find(ctx, word+*machine, word+*unit)
		if err != nil {
			return fmt.Errorf("Unable to proceed: %w", err) //nolint:staticcheck // fleet's text
		}
		client, err := t.dial(ctx, m, *port)
		if err != nil {
			return err
		}
		defer client.Close()
		if *forward {
			if err := client.ForwardAgent(); err != nil {
				return err
			}
		}
		code, err := client.Run(ctx, strings.Join(args, " "), *forward, t.Stdio)
		if err != nil {
			return fmt.Errorf("on %s: %w", legend(m, false), err)
		}
		return ended(code)
	}
}

// ended is the end of a command with its exit code.
func ended(code int) error {
	if code == 0 {
		return nil
	}
	return exitCode(code)
}

// find finds a machine by its own name or the name of a unit that it has; ""
// is not looked for.
func (t *tool) find(ctx context.Context, machine, unit string) (schema.Machine, error) {
	var err error
	if t.machines, err = t.api.Machines(ctx); err != nil {
		return schema.Machine{}, err
	}
	if machine != "" {
		m, err := lookup(t.machines, machine)
		if err == nil || !errors.Is(err, errNoMachine) {
			return m, err
		}
	}
	if unit == "" {
		return schema.Machine{}, errNoMachine
	}
	all, u, err := t.places(ctx, unitfile.CompleteName(unit))
	switch {
	case notFound(err):
		return schema.Machine{}, errNoMachine
	case err != nil:
		return schema.Machine{}, err
	case len(all) == 0:
		return schema.Machine{}, fmt.Errorf("unit %s is on no machine%s", u.Name, because(u.Reason))
	case len(all) > 1:
		return schema.Machine{}, fmt.Errorf("unit %s is on %d machines; name one of them, see fleetctl list-units", u.Name, len(all))
	}
	return all[0], nil
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

func status(t *tool, f *flag.FlagSet) action {
	port := f.Int("ssh-port", 22, "port of the machines' SSH")
	return func(ctx context.Context, args []string) error {
		if len(args) == 0 {
			t.warn("No units given")
			return nil
		}
		if err := t.connect(ctx); err != nil {
			return err
		}
		worst := 0
		for i, arg := range args {
			if i > 0 {
				fmt.Fprintln(t.Out)
			}
			err := t.status(ctx, unitfile.CompleteName(arg), *port)
			var code exitCode
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.As(err, &code):
				worst = max(worst, int(code))
			case err != nil && len(args) == 1:
				return err
			case err != nil: // the others are shown all the same
				t.warn("%v", err)
				worst = max(worst, 1)
			}
		}
		return ended(worst)
	}
}

// status shows one unit on all machines that have it.
func (t *tool) status(ctx context.Context, name string, port int) error {
	all, u, err := t.places(ctx, name)
	switch {
	case notFound(err):
		return fmt.Errorf("Unit %s does not exist.", name) //nolint:staticcheck // fleet's text
	case err != nil:
		return fmt.Errorf("find unit %s: %w", name, err)
	}
	if u.Reason != "" {
		t.warn("%s: %s", name, u.Reason)
	}
	if len(all) == 0 {
		return fmt.Errorf("Unit %s does not appear to be loaded.", name) //nolint:staticcheck // fleet's text
	}
	worst := 0
	for i, m := range all {
		if len(all) > 1 {
			if i > 0 {
				fmt.Fprintln(t.Out)
			}
			fmt.Fprintf(t.Out, "On %s:\n", legend(m, false))
		}
		code, err := t.onMachine(ctx, m, port, "systemctl status -l "+quote(name))
		if err != nil {
			return fmt.Errorf("status of %s on %s: %w", name, legend(m, false), err)
		}
		worst = max(worst, code)
	}
	return ended(worst)
}

func journal(t *tool, f *flag.FlagSet) action {
	lines := f.Int("lines", 10, "how many of the last lines")
	follow := f.Bool("follow", false, "go on with what comes")
	f.BoolVar(follow, "f", false, "the same as --follow")
	sudo := f.Bool("sudo", false, "read the journal as root")
	output := f.String("output", "short", "form of the lines, as of journalctl -o")
	port := f.Int("ssh-port", 22, "port of the machines' SSH")
	return func(ctx context.Context, args []string) error {
		if len(args) != 1 {
			return errOne
		}
		if err := t.connect(ctx); err != nil {
			return err
		}
		name := unitfile.CompleteName(args[0])
		m, err := t.find(ctx, "", name)
		if errors.Is(err, errNoMachine) {
			return fmt.Errorf("Unit %s does not exist.", name) //nolint:staticcheck // fleet's text
		}
		if err != nil {
			return err
		}
		command := fmt.Sprintf("journalctl --unit %s --no-pager -n %d --output %s", quote(name), *lines, quote(*output))
		if *follow {
			command += " -f"
		}
		if *sudo {
			command = "sudo " + command
		}
		code, err := t.onMachine(ctx, m, *port, command)
		if err != nil {
			return fmt.Errorf("journal of %s on %s: %w", name, legend(m, false), err)
		}
		return ended(code)
	}
}
