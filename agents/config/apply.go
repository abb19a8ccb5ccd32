package config

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/provision/apply"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
	"github.com/coracle-os/coracle/rootfs/provision/try"
)

// Where the guard runs and what it says.
const (
	guardUnit = "coracle-config-try.service"
	logPath   = "/run/coracle/config-try.log"
)

const guardService = `[Unit]
Description=Change the configuration of this machine, and back unless it is confirmed
DefaultDependencies=no

[Service]
ExecStart=/usr/lib/coracle/coracled config guard
Restart=on-failure
RestartSec=1
`

// guardTimeout is how long the guard may be gone, between two starts, before it
// is said.
const guardTimeout = 15 * time.Second

// interval is how often the guard's work is looked at.
const interval = 100 * time.Millisecond

// apply begins a change and follows the guard until it is applied.
func (t *tool) apply(ctx context.Context, o options) error {
	p, document, err := t.compile(o.file)
	if err != nil && !(o.force && errors.Is(err, errMistakes)) {
		return err
	}
	if o.save && cloudconfig.Detect(document) == cloudconfig.KindIgnition {
		return errors.New("--save: an Ignition config is read on a first boot only; leave --save out, what it changes stays")
	}
	if o.try > 0 {
		if err := try.Check(p); err != nil {
			return fmt.Errorf("try %s: %w; leave --try out to change it for good", o.file, err)
		}
	}
	different := t.show(ctx, p)
	if !different && !hasCommands(p) {
		return nil
	}
	peer, server := t.connection()
	head := try.Head{Name: o.file, Since: t.now().UTC(), Limit: o.try, Peer: peer, Server: server}
	if o.save {
		head.Save = SavePath
	}
	tried, err := try.Begin(filepath.Join(t.root, try.Dir), head, document)
	if err != nil {
		return err
	}
	if err := t.startGuard(ctx); err != nil {
		return errors.Join(err, tried.Revert(context.WithoutCancel(ctx), t.executor, false, func(apply.Outcome) {}))
	}
	return t.follow(ctx, o)
}

func hasCommands(p plan.Plan) bool {
	for _, step := range p.Steps {
		switch step.Action.(type) {
		case plan.UnitCommand, plan.RunScript:
			return true
		}
	}
	return false
}

func (t *tool) startGuard(ctx context.Context) (err error) {
	if err := os.Remove(filepath.Join(t.root, logPath)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("start %s: %w", guardUnit, err)
	}
	unit := plan.PlaceUnit{Path: "/run/systemd/system/" + guardUnit, Content: []byte(guardService)}
	steps := []plan.Step{{Action: unit}, {Action: plan.ReloadUnits{}}}
	t.executor.Apply(ctx, plan.Plan{Steps: steps}, func(o apply.Outcome) {
		if o.Result == apply.Failed {
			err = errors.Join(err, o.Err)
		}
	})
	if err == nil {
		err = t.executor.Machine.Start(ctx, guardUnit)
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", guardUnit, err)
	}
	return nil
}

// follow prints what the guard says until all is applied or taken back.
func (t *tool) follow(ctx context.Context, o options) error {
	said, alive := 0, t.now()
	for {
		if active, err := t.executor.Active(ctx, guardUnit); err != nil || active {
			alive = t.now()
		}
		tried, err := try.Open(filepath.Join(t.root, try.Dir))
		said += t.sayLog(said)
		switch {
		case errors.Is(err, fs.ErrNotExist) && o.try == 0:
			return t.logFailure()
		case errors.Is(err, fs.ErrNotExist):
			return errors.New("the change was taken back")
		case err != nil:
			return err
		case tried.Head.Applied && o.try > 0:
			fmt.Fprintf(t.stdio.Out, "applied; it is taken back after %v unless you see that all is well and say\n\tcoracled config confirm\n", o.try)
			return nil
		case t.now().Sub(alive) > guardTimeout:
			return fmt.Errorf("%s does not run: see journalctl -u %s; coracled config revert takes back what was applied", guardUnit, guardUnit)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s goes on with the change: %w", guardUnit, ctx.Err())
		case <-time.After(interval):
		}
	}
}

// sayLog prints the guard's log from an offset and returns its length.
func (t *tool) sayLog(from int) int {
	data, err := os.ReadFile(filepath.Join(t.root, logPath))
	if err != nil || len(data) <= from {
		return 0
	}
	fmt.Fprint(t.stdio.Out, string(data[from:]))
	return len(data) - from
}

// logFailure is an error when a step of a change for good has failed.
func (t *tool) logFailure() error {
	data, _ := os.ReadFile(filepath.Join(t.root, logPath))
	if strings.Contains("\n"+string(data), "\nfailed") {
		return errors.New("not all of it could be applied")
	}
	return nil
}

func (t *tool) confirm() error {
	tried, err := try.Open(filepath.Join(t.root, try.Dir))
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("nothing is being tried; see coracled config status")
	}
	if err != nil {
		return err
	}
	if err := tried.Confirm(t.root); err != nil {
		return err
	}
	fmt.Fprintf(t.stdio.Out, "%s is kept\n", tried.Head.Name)
	if tried.Head.Save == "" {
		fmt.Fprintln(t.stdio.Out, "the next boot applies this machine's user-data again: change it there, too, or apply with --save")
	}
	return nil
}

// revert takes the try back now.
func (t *tool) revert(ctx context.Context) error {
	tried, err := try.Open(filepath.Join(t.root, try.Dir))
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("nothing is being tried")
	}
	if err != nil {
		return err
	}
	unlock, err := t.lock() // it may be being applied
	if err != nil {
		return err
	}
	defer unlock()
	err = tried.Revert(context.WithoutCancel(ctx), t.executor, false, func(o apply.Outcome) { sayOutcome(t.stdio.Out, o) })
	if err == nil {
		fmt.Fprintf(t.stdio.Out, "%s is taken back\n", tried.Head.Name)
	}
	return err
}

func (t *tool) status() error {
	tried, err := try.Open(filepath.Join(t.root, try.Dir))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintln(t.stdio.Out, "nothing is being tried")
		return nil
	case err != nil:
		return err
	case !tried.Head.Applied:
		fmt.Fprintf(t.stdio.Out, "%s is being applied or taken back\n", tried.Head.Name)
	default:
		fmt.Fprintf(t.stdio.Out, "%s is applied since %s and is taken back after %v unless it is confirmed\n",
			tried.Head.Name, tried.Head.Since.Format(time.RFC3339), tried.Head.Limit)
	}
	return nil
}

// connection returns the ends of the owner's SSH connection: the peer's address
// and the server's address and port. sudo takes the variable away, so it is
// looked for in the processes above this one.
func (t *tool) connection() (peer, server string) {
	environment, process := t.environment(), t.parent
	for range 20 {
		for _, variable := range environment {
			if value, ok := strings.CutPrefix(variable, "SSH_CONNECTION="); ok {
				return parseConnection(value)
			}
		}
		if process <= 1 {
			break
		}
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", process))
		environment = strings.Split(string(data), "\x00")
		process = parentOf(process)
	}
	return "", ""
}

func parentOf(process int) int {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", process))
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "PPid:"); ok {
			parent, _ := strconv.Atoi(strings.TrimSpace(value))
			return parent
		}
	}
	return 0
}

// parseConnection reads "peer port server port" as OpenSSH's sshd sets it.
func parseConnection(value string) (peer, server string) {
	fields := strings.Fields(value)
	if len(fields) != 4 {
		return "", ""
	}
	if a, err := netip.ParseAddr(fields[0]); err == nil {
		peer = a.Unmap().String()
	}
	a, addressErr := netip.ParseAddr(fields[2])
	port, portErr := strconv.ParseUint(fields[3], 10, 16)
	if addressErr == nil && portErr == nil {
		server = netip.AddrPortFrom(a.Unmap(), uint16(port)).String()
	}
	return peer, server
}
