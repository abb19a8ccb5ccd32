// Package systemdrun is the program systemd-run(1): it runs a command as a unit
// that lives until the command ends, at once or when a timer elapses.
//
// systemd takes such units over D-Bus; here they are files in
// /run/systemd/transient, which PID 1 removes when it forgets the unit. Left out
// on purpose, and refused by name: scopes, for a unit's processes are PID 1's own
// here, and the managers of users.
package systemdrun

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/rootfs/unit/name"
)

var _ program.Main = Main

// Directory is where the units are written, below the root.
const Directory = "run/systemd/transient"

// Machine is what the program sees of the machine; tests replace it.
type Machine struct {
	Root   string
	Client interface {
		Do(ctx context.Context, req control.Request, each func(control.Response) error) error
	}
}

// Main is the program on the running machine.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	return Machine{Root: "/"}.with(control.Client{}).Run(ctx, args, stdio)
}

func (m Machine) with(c control.Client) Machine { m.Client = c; return m }

type options struct {
	unit, description, slice, workDir, uid, gid, kind string
	properties, timerProperties, env                  []string
	remain, wait, noBlock, quiet, collect             bool
	pipe, pty, scope, user                            bool
	nice                                              int
	on                                                map[string]*[]string
}

// timers are the options that make a timer, and their settings.
var timers = map[string]string{"on-active": "OnActiveSec", "on-boot": "OnBootSec", "on-startup": "OnStartupSec",
	"on-unit-active": "OnUnitActiveSec", "on-unit-inactive": "OnUnitInactiveSec", "on-calendar": "OnCalendar"}

func (o *options) flags() *pflag.FlagSet {
	f := pflag.NewFlagSet("systemd-run", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.SetInterspersed(false)
	f.StringVarP(&o.unit, "unit", "u", "", "the unit's name")
	f.StringVar(&o.description, "description", "", "the unit's description")
	f.StringVar(&o.slice, "slice", "", "the slice to run in")
	f.StringArrayVarP(&o.properties, "property", "p", nil, "a setting of the service")
	f.StringArrayVar(&o.timerProperties, "timer-property", nil, "a setting of the timer")
	f.StringArrayVarP(&o.env, "setenv", "E", nil, "a variable, NAME=VALUE or NAME")
	f.StringVar(&o.workDir, "working-directory", "", "the directory to run in")
	f.StringVar(&o.uid, "uid", "", "the user to run as")
	f.StringVar(&o.gid, "gid", "", "the group to run as")
	f.StringVar(&o.kind, "service-type", "", "the type of the service")
	f.IntVar(&o.nice, "nice", 0, "the nice level")
	f.BoolVarP(&o.remain, "remain-after-exit", "r", false, "leave the unit active after the command ended")
	f.BoolVar(&o.wait, "wait", false, "wait until the command has ended, and end as it did")
	f.BoolVar(&o.noBlock, "no-block", false, "do not wait until the command runs")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "do not say which unit it is")
	f.BoolVarP(&o.collect, "collect", "G", false, "with --wait: forget the unit even if it failed")
	f.BoolVarP(&o.pipe, "pipe", "P", false, "the command reads and writes what this program would")
	f.BoolVarP(&o.pty, "pty", "t", false, "the command has a terminal, which leads to this one")
	f.BoolVar(&o.scope, "scope", false, "not supported")
	f.BoolVar(&o.user, "user", false, "not supported")
	f.Bool("no-ask-password", false, "accepted for compatibility")
	f.Bool("system", false, "accepted for compatibility")
	o.on = map[string]*[]string{}
	for flag, setting := range timers {
		o.on[flag] = f.StringArray(flag, nil, "run when a timer with "+setting+"= elapses")
	}
	return f
}

// Run runs the program and returns its exit code.
func (m Machine) Run(ctx context.Context, args []string, stdio program.Stdio) int {
	var o options
	f := o.flags()
	switch err := f.Parse(args[1:]); {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprint(stdio.Out, "systemd-run [OPTIONS...] COMMAND [ARGUMENTS...]\n\n", f.FlagUsages())
		return 0
	case err != nil:
		fmt.Fprintf(stdio.Err, "systemd-run: %v: see systemd-run --help\n", err)
		return 1
	}
	code, err := m.run(ctx, o, f, stdio)
	if err != nil {
		fmt.Fprintf(stdio.Err, "systemd-run: %v\n", err)
		return 1
	}
	return code
}

func (m Machine) run(ctx context.Context, o options, f *pflag.FlagSet, stdio program.Stdio) (int, error) {
	timer := o.timer()
	if f.NArg() == 0 {
		return 0, errors.New("no command to run: give one after the options")
	}
	if err := o.check(timer != ""); err != nil {
		return 0, err
	}
	s, err := o.streams(m.Root, stdio)
	if err != nil {
		return 0, err
	}
	if s != nil {
		defer s.finish()
		o.properties = append(s.settings, o.properties...)
	}
	service := o.unit
	if service == "" {
		var b [8]byte
		_, _ = rand.Read(b[:])
		service = "run-r" + hex.EncodeToString(b[:])
	}
	service = name.Mangle(strings.TrimSuffix(service, ".timer"), "service")
	text, err := o.service(f.Args(), f.Changed("nice"))
	if err != nil {
		return 0, err
	}
	units := map[string]string{service: text}
	start := service
	if timer != "" {
		start = name.WithKind(service, "timer")
		units[start] = timer
	}
	if err := m.write(units); err != nil {
		return 0, err
	}
	if err := m.start(ctx, start, o.noBlock); err != nil {
		for n := range units {
			_ = os.Remove(filepath.Join(m.Root, Directory, n))
		}
		return 0, err
	}
	switch {
	case o.quiet:
	case timer != "":
		fmt.Fprintf(stdio.Err, "Running timer as unit: %s\nWill run service as unit: %s\n", start, service)
	default:
		fmt.Fprintf(stdio.Err, "Running as unit: %s\n", service)
	}
	if s != nil {
		s.begin()
		defer s.copies.Wait()
	}
	if !o.wait && s == nil {
		return 0, nil
	}
	return m.wait(ctx, service, o.collect)
}

// check refuses what does not go together, or is not there.
func (o options) check(timer bool) error {
	switch {
	case o.scope:
		return errors.New("--scope is not supported by Coracle: PID 1 starts every process of a unit itself; leave it out and add --pipe or --pty")
	case o.user:
		return errors.New("--user is not supported by Coracle: there is only the system's manager; use --uid to run as a user")
	case timer && o.wait:
		return errors.New("--wait cannot be used with a timer")
	case timer && (o.pipe || o.pty):
		return errors.New("--pipe and --pty cannot be used with a timer: nobody is there when it elapses")
	case o.noBlock && (o.wait || o.pipe || o.pty):
		return errors.New("--no-block does not wait: leave it out with --wait, --pipe and --pty")
	}
	return nil
}

// streams makes what --pipe and --pty ask for, or nothing. With both, it is a
// terminal if the caller has one.
func (o options) streams(root string, stdio program.Stdio) (*streams, error) {
	in, ok := stdio.In.(*os.File)
	switch terminal := ok && term.IsTerminal(int(in.Fd())); {
	case o.pty && (!o.pipe || terminal):
		return newTerminal(stdio)
	case o.pipe:
		return newPipes(filepath.Join(root, "run"), stdio)
	}
	return nil, nil
}

// quote writes a word so that a unit file gives it back as it is.
func quote(word string) string {
	return strings.NewReplacer("%", "%%", "$", "$$").Replace(strconv.Quote(word))
}

// service writes the service's unit file.
func (o options) service(command []string, nice bool) (string, error) {
	var b strings.Builder
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s=%s\n", key, value)
		}
	}
	var words []string
	for _, w := range command {
		words = append(words, quote(w))
	}
	description := o.description
	if description == "" {
		description = strings.Join(command, " ")
	}
	b.WriteString("[Unit]\n")
	line("Description", strings.ReplaceAll(strings.ReplaceAll(description, "\n", " "), "%", "%%"))
	b.WriteString("[Service]\n")
	line("Type", o.kind)
	line("Slice", o.slice)
	line("User", o.uid)
	line("Group", o.gid)
	line("WorkingDirectory", o.workDir)
	if nice {
		line("Nice", strconv.Itoa(o.nice))
	}
	if o.remain {
		line("RemainAfterExit", "yes")
	}
	for _, e := range o.env {
		if !strings.Contains(e, "=") {
			e += "=" + os.Getenv(e)
		}
		line("Environment", strings.ReplaceAll(strconv.Quote(e), "%", "%%"))
	}
	line("ExecStart", strings.Join(words, " "))
	for _, p := range o.properties {
		if key, _, ok := strings.Cut(p, "="); !ok || key == "" || strings.ContainsAny(p, "\n[") {
			return "", fmt.Errorf("read the property %q: write NAME=VALUE, on one line", p)
		}
		fmt.Fprintln(&b, p)
	}
	return b.String(), nil
}

// timer writes the timer's unit file, "" if no option makes one.
func (o options) timer() string {
	var b strings.Builder
	for flag, setting := range timers {
		for _, v := range *o.on[flag] {
			fmt.Fprintf(&b, "%s=%s\n", setting, strings.ReplaceAll(v, "%", "%%"))
		}
	}
	if b.Len() == 0 {
		return ""
	}
	for _, p := range o.timerProperties {
		fmt.Fprintln(&b, strings.ReplaceAll(p, "\n", " "))
	}
	return "[Timer]\nRemainAfterElapse=no\n" + b.String()
}

// write writes new units; one that is there already is left alone.
func (m Machine) write(units map[string]string) error {
	dir := filepath.Join(m.Root, Directory)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the unit: %w", err)
	}
	for n, text := range units {
		f, err := os.OpenFile(filepath.Join(dir, n), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make the unit: Unit %s was already loaded or has a fragment file: stop it, or choose another --unit", n)
		}
		if err != nil {
			return fmt.Errorf("make the unit: %w", err)
		}
		_, err = f.WriteString(text)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("make the unit: %w", err)
		}
	}
	return nil
}

func (m Machine) start(ctx context.Context, unitName string, noBlock bool) error {
	return m.Client.Do(ctx, control.Request{Verb: control.Start, Units: []string{unitName}, Flags: control.Flags{NoBlock: noBlock}}, func(r control.Response) error {
		for _, res := range r.Results {
			switch {
			case res.Error != nil:
				return res.Error
			case res.Job != "done" && res.Job != "queued":
				return fmt.Errorf("start %s: the job ended with %q (%s): see journalctl -u %s", unitName, res.Job, res.Detail, unitName)
			}
		}
		return nil
	})
}

// waitInterval is how often --wait looks whether the command has ended.
const waitInterval = 100 * time.Millisecond

// wait returns the command's exit code once it has ended. A unit that is not
// there any more has ended well.
func (m Machine) wait(ctx context.Context, unitName string, collect bool) (int, error) {
	tick := time.NewTicker(waitInterval)
	defer tick.Stop()
	for {
		var u control.Unit
		err := m.Client.Do(ctx, control.Request{Verb: control.Show, Units: []string{unitName}}, func(r control.Response) error {
			for _, x := range r.Units {
				u = x
			}
			return nil
		})
		switch {
		case err != nil:
			return 0, err
		case u.Active == "inactive":
			return 0, nil
		case u.Active == "failed":
			code, _ := strconv.Atoi(u.Properties["ExecMainStatus"])
			if u.Properties["ExecMainCode"] != "1" {
				code += 128 // by a signal, as a shell tells it
			}
			if collect {
				err = m.Client.Do(ctx, control.Request{Verb: control.ResetFailed, Units: []string{unitName}}, nil)
			}
			return max(code, 1), err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}
