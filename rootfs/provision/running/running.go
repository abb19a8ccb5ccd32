// Package running is the running machine as package apply sees it: the kernel's
// host name, and PID 1 by its control socket. coreos-cloudinit, ignition and
// coracled config apply their plans to it.
package running

import (
	"context"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
)

// Machine is an apply.Machine and an apply.Inspector.
type Machine struct{}

// Hostname returns the kernel's host name.
func (Machine) Hostname() (string, error) { return os.Hostname() }

// SetHostname changes it until the next boot.
func (Machine) SetHostname(name string) error { return unix.Sethostname([]byte(name)) }

// Reload makes PID 1 read the unit files again.
func (Machine) Reload(ctx context.Context) error {
	_, err := control.Client{}.Collect(ctx, control.Request{Verb: control.DaemonReload})
	return err
}

// Active tells whether a unit is active or becomes it.
func (Machine) Active(ctx context.Context, unit string) (bool, error) {
	return state(ctx, unit, "active", "activating", "reloading")
}

// Up tells whether a unit is active now.
func (Machine) Up(ctx context.Context, unit string) (bool, error) { return state(ctx, unit, "active") }

func state(ctx context.Context, unit string, states ...string) (bool, error) {
	all, err := control.Client{}.Collect(ctx, control.Request{Verb: control.Show, Units: []string{unit}})
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(all.Units, func(u control.Unit) bool { return slices.Contains(states, u.Active) }), nil
}

// Start begins to start a unit and does not wait for it.
func (Machine) Start(ctx context.Context, unit string) error {
	return ask(ctx, control.Request{Verb: control.Start, Units: []string{unit}, Flags: control.Flags{NoBlock: true}})
}

// Command is a verb of systemctl for one unit; it waits for the job, and one
// that does not end well is an error.
func (Machine) Command(ctx context.Context, verb, unit string) error {
	verbs := map[string]control.Verb{
		"start": control.Start, "stop": control.Stop, "restart": control.Restart, "reload": control.Reload,
		"try-restart": control.TryRestart, "reload-or-restart": control.ReloadOrRestart,
		"reload-or-try-restart": control.TryReloadRestart,
	}
	v, ok := verbs[verb]
	if !ok {
		return fmt.Errorf("%q is not a command of a unit", verb)
	}
	return ask(ctx, control.Request{Verb: v, Units: []string{unit}})
}

func ask(ctx context.Context, req control.Request) error {
	all, err := control.Client{}.Collect(ctx, req)
	if err != nil {
		return err
	}
	for _, result := range all.Results {
		switch {
		case result.Error != nil:
			return result.Error
		case slices.Contains([]string{"done", "queued", "skipped"}, result.Job):
		default:
			return fmt.Errorf("the job ended as %q %s: see systemctl status %s", result.Job, result.Detail, result.Unit)
		}
	}
	return nil
}

// Host is what the specifiers of an [Install] section stand for.
func Host() specifier.Host { return specifier.ReadHost(os.DirFS("/")) }
