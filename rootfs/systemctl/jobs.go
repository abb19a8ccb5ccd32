package systemctl

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/unit/name"
)

// jobs asks for a job for each unit and waits for them.
func (t *tool) jobs(v control.Verb, word string, args []string) error {
	names, err := t.units(args)
	if v == control.Start && !t.o.all && slices.ContainsFunc(args, isPattern) {
		t.say(t.Err, "Warning: systemctl start called with a glob pattern.\n"+
			"Hint: unit globs expand to loaded units, so start will usually have no effect.")
	}
	if err != nil || len(names) == 0 {
		return err
	}
	code := 0
	fail := func(c int) {
		if code == 0 {
			code = c
		}
	}
	req := control.Request{Verb: v, Units: names, Flags: control.Flags{NoBlock: t.o.noBlock, Mode: t.o.jobMode}}
	err = t.Client.Do(t.ctx, req, func(r control.Response) error {
		for _, w := range r.Warnings {
			t.say(t.Err, "%s", w)
		}
		for _, res := range r.Results {
			if res.Error != nil {
				t.jobRefused(word, res)
				fail(exitCode(res.Error))
			} else if !t.jobEnded(res) {
				fail(exitFailure)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("Failed to %s %s: %w", word, strings.Join(names, " "), err)
	}
	t.warn(v, names)
	switch {
	case code != 0:
		return errExit(code)
	case t.o.wait:
		return t.waitInactive(names)
	}
	return nil
}

func isPattern(arg string) bool { return strings.ContainsAny(arg, "*?[") }

// changedText is said of a unit with files that are newer than what PID 1 knows.
const changedText = "Warning: The unit file, source configuration file or drop-ins of %s changed on disk. Run 'systemctl daemon-reload' to reload units.\n"

// warn says which units have other files by now, and which can start those again
// that were stopped.
func (t *tool) warn(v control.Verb, names []string) {
	r, err := t.collect(control.Request{Verb: control.Show, Units: names})
	if err != nil {
		return // the units were stopped all the same
	}
	for _, u := range r.Units {
		if u.Properties["NeedDaemonReload"] == "yes" {
			fmt.Fprintf(t.Err, changedText, u.Name)
		}
		if v != control.Stop {
			continue
		}
		var by []string
		for _, n := range strings.Fields(u.Properties["TriggeredBy"]) {
			if slices.Contains(names, n) {
				continue
			}
			if r, err := t.collect(control.Request{Verb: control.Show, Units: []string{n}}); err == nil && len(r.Units) == 1 && r.Units[0].Active == "active" {
				by = append(by, n)
			}
		}
		if len(by) > 0 {
			t.say(t.Err, "Warning: Stopping %s, but it can still be activated by:\n  %s", u.Name, strings.Join(by, "\n  "))
		}
	}
}

func (t *tool) isolate() error {
	var names []string
	for _, a := range t.args {
		names = append(names, t.unitName(a, "target"))
	}
	return t.jobs(control.Isolate, "start", names)
}

// jobRefused says why there is no job for a unit.
func (t *tool) jobRefused(word string, res control.Result) {
	if res.Error.Code == control.NotActive {
		fmt.Fprintln(t.Err, res.Error.Text)
		return
	}
	fmt.Fprintf(t.Err, "Failed to %s %s: %s\n", word, res.Unit, res.Error.Text)
	switch res.Error.Code {
	case control.NotFound, control.NotLoaded, control.Masked, control.NotApplicable, control.ShuttingDown, control.Denied:
	default:
		fmt.Fprintf(t.Err, "See system logs and 'systemctl status %s' for details.\n", res.Unit)
	}
}

// causes say what the Result property of a service means.
var causes = map[string]string{
	"resources":       "of unavailable resources or another system error",
	"protocol":        "the service did not take the steps required by its unit configuration",
	"timeout":         "a timeout was exceeded",
	"exit-code":       "the control process exited with error code",
	"signal":          "a fatal signal was delivered to the control process",
	"core-dump":       "a fatal signal was delivered causing the control process to dump core",
	"watchdog":        "the service failed to send watchdog ping",
	"start-limit-hit": "start of the service was attempted too often",
	"oom-kill":        "of an out-of-memory (OOM) situation",
}

// jobEnded says how a job ended unless that is well, and tells if it is.
func (t *tool) jobEnded(res control.Result) bool {
	u := res.Unit
	switch res.Job {
	case "done", "skipped", "queued", "":
		return true
	case "canceled":
		t.say(t.Err, "Job for %s canceled.", u)
	case "timeout":
		t.say(t.Err, "Job for %s timed out.", u)
	case "dependency":
		t.say(t.Err, "A dependency job for %s failed. See 'journalctl -xe' for details.", u)
	case "invalid":
		t.say(t.Err, "%s is not active, cannot reload.", u)
	case "assert":
		t.say(t.Err, "Assertion failed on job for %s.", u)
	case "unsupported":
		t.say(t.Err, "Operation on or unit type of %s not supported on this system.", u)
	case "collected":
		t.say(t.Err, "Queued job for %s was garbage collected.", u)
	default:
		t.jobFailed(u, res.Detail)
	}
	return false
}

func (t *tool) jobFailed(u, detail string) {
	switch cause := causes[detail]; {
	case name.Kind(u) != "service":
		t.say(t.Err, "Job failed. See \"journalctl -xe\" for details.")
		return
	case cause != "":
		t.say(t.Err, "Job for %s failed because %s.", u, cause)
	default:
		t.say(t.Err, "Job for %s failed.", u)
	}
	t.say(t.Err, "See \"systemctl status %s\" and \"journalctl -xeu %s\" for details.", u, u)
	if detail == "start-limit-hit" {
		t.say(t.Err, "To force a start use \"systemctl reset-failed %s\"\nfollowed by \"systemctl start %s\" again.", u, u)
	}
}

// waitInactive waits until none of the units is active; PID 1 is asked every
// quarter of a second.
func (t *tool) waitInactive(names []string) error {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := t.collect(control.Request{Verb: control.Show, Units: names})
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(r.Units, func(u control.Unit) bool { return u.Active != "inactive" && u.Active != "failed" }) {
			if slices.ContainsFunc(r.Units, func(u control.Unit) bool { return u.Active == "failed" }) {
				return errExit(exitFailure)
			}
			return nil
		}
		select {
		case <-tick.C:
		case <-t.ctx.Done():
			return t.ctx.Err()
		}
	}
}

func (t *tool) kill() error {
	names, err := t.units(t.args)
	if err != nil {
		return err
	}
	code := 0
	for _, n := range names {
		r, err := t.collect(control.Request{Verb: control.Kill, Units: []string{n}, Flags: control.Flags{Signal: t.o.signal, KillWhom: t.o.killWhom}})
		for _, res := range r.Results {
			if res.Error != nil && err == nil {
				err = res.Error
			}
		}
		if e := (*control.Error)(nil); errors.As(err, &e) && e.Code == control.BadRequest {
			return err
		}
		if err != nil {
			fmt.Fprintf(t.Err, "Failed to kill unit %s: %s\n", n, err)
			code = exitFailure
		}
	}
	if code != 0 {
		return errExit(code)
	}
	return nil
}

// each sends one request for each unit and prints the errors.
func (t *tool) each(v control.Verb, word string) error {
	names, err := t.units(t.args)
	if err != nil {
		return err
	}
	code := 0
	for _, n := range names {
		r, err := t.collect(control.Request{Verb: v, Units: []string{n}})
		for _, res := range r.Results {
			if res.Error != nil && err == nil {
				err = res.Error
			}
		}
		if err != nil {
			fmt.Fprintf(t.Err, "Failed to %s %s: %s\n", word, n, err)
			code = exitFailure
		}
	}
	if code != 0 {
		return errExit(code)
	}
	return nil
}

func (t *tool) resetFailed() error {
	if len(t.args) == 0 {
		_, err := t.collect(control.Request{Verb: control.ResetFailed})
		return err
	}
	return t.each(control.ResetFailed, "reset failed state of unit")
}

func (t *tool) cancel() error {
	_, err := t.collect(control.Request{Verb: control.Cancel, Units: t.args})
	return err
}

func (t *tool) daemonReload() error {
	if _, err := t.collect(control.Request{Verb: control.DaemonReload}); err != nil {
		return fmt.Errorf("Failed to reload daemon: %w", err)
	}
	return nil
}

func (t *tool) daemonReexec() error {
	if _, err := t.collect(control.Request{Verb: control.DaemonReexec}); err != nil {
		return fmt.Errorf("Failed to reexecute daemon: %w", err)
	}
	return nil
}

// power ends the machine through PID 1, or without it if forced.
func (t *tool) power(v control.Verb) error {
	if t.o.forceCount > 1 {
		return t.Force(string(v), false)
	}
	_, err := t.collect(control.Request{Verb: v, Flags: control.Flags{Force: t.o.forceCount}})
	e := (*control.Error)(nil)
	if err != nil && !errors.As(err, &e) && t.o.forceCount > 0 {
		return t.Force(string(v), true)
	}
	if err != nil {
		return fmt.Errorf("Failed to %s: %w", v, err)
	}
	return nil
}

// shutdown is the program when called as poweroff, reboot, halt or shutdown.
func (t *tool) shutdown(called string, args []string) error {
	verb := map[string]control.Verb{"poweroff": control.PowerOff, "shutdown": control.PowerOff, "reboot": control.Reboot, "halt": control.Halt}[called]
	for _, a := range args {
		switch a {
		case "-f", "--force":
			t.o.forceCount++
		case "-ff":
			t.o.forceCount += 2
		case "-p", "--poweroff", "-P":
			verb = control.PowerOff
		case "-r", "--reboot":
			verb = control.Reboot
		case "-h":
			if called != "shutdown" {
				fmt.Fprintf(t.Out, "%s [--force]: %s the machine in order; --force kills the units at once, twice skips everything.\n", called, verb)
				return nil
			}
		case "-H", "--halt":
			verb = control.Halt
		case "--help":
			fmt.Fprintf(t.Out, "%s [-f] [-p|-r|-H] [now]: end the machine.\n", called)
			return nil
		case "now", "+0", "-w", "--wtmp-only", "-d", "--no-wtmp", "-n", "--no-sync", "--no-wall":
		default:
			return fmt.Errorf("%s: cannot understand %q: use %q; a later time is not supported", called, a, "now")
		}
	}
	return t.power(verb)
}

// force asks the kernel itself.
func force(how string, sync bool) error {
	if os.Geteuid() != 0 {
		return errors.New("This needs root; use sudo.")
	}
	if sync {
		unix.Sync()
	}
	what := map[string]int{"poweroff": unix.LINUX_REBOOT_CMD_POWER_OFF, "reboot": unix.LINUX_REBOOT_CMD_RESTART, "halt": unix.LINUX_REBOOT_CMD_HALT}[how]
	if err := unix.Reboot(what); err != nil {
		return fmt.Errorf("%s: %w", how, err)
	}
	return nil
}
