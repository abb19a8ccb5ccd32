package systemctl

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/coracle-os/coracle/initrd/bootinfo"
	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/firmware"
	"github.com/coracle-os/coracle/rootfs/unit/name"
	"github.com/coracle-os/coracle/rootfs/unit/signals"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

// status prints a block for each unit; without arguments one for the machine.
func (t *tool) status() error {
	if len(t.args) == 0 {
		return t.machineStatus()
	}
	names, err := t.shown(t.args)
	if err != nil {
		return err
	}
	code, printed := 0, false
	for _, n := range names {
		r, err := t.collect(control.Request{Verb: control.Show, Units: []string{n}})
		if err != nil || len(r.Units) != 1 {
			return err
		}
		u := r.Units[0]
		c := 0
		switch {
		case u.Load == "not-found" && u.Active == "inactive":
			fmt.Fprintf(t.Err, "Unit %s could not be found.\n", n)
			c = exitStatusUnknown
		default:
			if printed {
				fmt.Fprintln(t.Out)
			}
			printed = true
			if u.Properties["NeedDaemonReload"] == "yes" {
				fmt.Fprintf(t.Err, changedText, u.Name)
			}
			t.block(u)
			if u.Active != "active" && u.Active != "reloading" {
				c = exitStatusDead
			}
		}
		if code == 0 {
			code = c
		}
	}
	if code != 0 {
		return errExit(code)
	}
	return nil
}

// machineStatus prints the state of the machine.
func (t *tool) machineStatus() error {
	r, err := t.collect(control.Request{Verb: control.Show})
	if err != nil || len(r.Units) != 1 {
		return err
	}
	p := r.Units[0].Properties
	host, _ := os.Hostname()
	mark := "●"
	if p["SystemState"] == "degraded" {
		mark = "×"
	}
	fmt.Fprintf(t.Out, "%s %s\n", mark, host)
	trust := firmware.Read(os.DirFS("/"))
	info, _ := bootinfo.Read(bootinfo.Path) // there is none in a container
	for _, row := range [][2]string{{"State", p["SystemState"]}, {"Units", p["NNames"] + " loaded (incl. loaded aliases)"},
		{"Jobs", p["NJobs"] + " queued"}, {"Failed", p["NFailedUnits"] + " units"}, {"Since", p["UserspaceTimestamp"]},
		{"Secure Boot", trust.Boot()}, {"TPM", trust.Module()}, {"Encryption", info.Encryption()}} {
		fmt.Fprintf(t.Out, "%11s: %s\n", row[0], row[1])
	}
	return nil
}

// block prints one unit.
func (t *tool) block(u control.Unit) {
	p := u.Properties
	title := u.Name
	if u.Description != "" && u.Description != u.Name {
		title += " - " + u.Description
	}
	mark := dot(u.Active)
	if u.Load != "loaded" && u.Active == "inactive" {
		mark = "○"
	}
	fmt.Fprintf(t.Out, "%s %s\n", mark, title)
	t.field("Loaded", t.loaded(u))
	t.dropIns(strings.Fields(p["DropInPaths"]))
	t.field("Active", t.active(u))
	t.times(u)
	if by := p["TriggeredBy"]; by != "" {
		t.field("TriggeredBy", "● "+strings.Join(strings.Fields(by), "\n             ● "))
	}
	if triggers := p["Triggers"]; triggers != "" {
		t.field("Triggers", "● "+strings.Join(strings.Fields(triggers), "\n             ● "))
	}
	if docs := strings.Fields(p["Documentation"]); len(docs) > 0 {
		t.field("Docs", strings.Join(docs, "\n"+strings.Repeat(" ", 13)))
	}
	listens := false
	for _, l := range strings.Split(p["Listen"], "\n") {
		if address, kind, ok := strings.Cut(l, " ("); ok {
			if label := "Listen"; listens {
				label = ""
				fmt.Fprintf(t.Out, "%13s%s (%s\n", label, address, kind)
			} else {
				t.field(label, address+" ("+kind)
			}
			listens = true
		}
	}
	t.processes(p)
	if s := p["StatusText"]; s != "" {
		t.field("Status", strconv.Quote(s))
	}
	t.resources(p)
	t.cgroup(p["ControlGroup"])
	t.journal(u)
}

func (t *tool) field(label, value string) { fmt.Fprintf(t.Out, "%11s: %s\n", label, value) }

// loaded is the text after "Loaded:".
func (t *tool) loaded(u control.Unit) string {
	p := u.Properties
	if reason := p["LoadError"]; u.Load != "loaded" && reason != "" {
		if _, quoted, ok := strings.Cut(reason, " "); ok { // after the name of the error
			if text, err := strconv.Unquote(quoted); err == nil {
				reason = text
			}
		}
		return fmt.Sprintf("%s (Reason: %s)", u.Load, reason)
	}
	parts := []string{}
	if f := p["FragmentPath"]; f != "" {
		parts = append(parts, f)
	}
	t.o.properties = nil
	t.addFileState(u)
	if s := p["UnitFileState"]; s != "" {
		parts = append(parts, s)
		if s == "enabled" || s == "disabled" || s == "enabled-runtime" || s == "indirect" {
			parts = append(parts, "preset: "+p["UnitFilePreset"])
		}
	}
	if len(parts) == 0 {
		return u.Load
	}
	return fmt.Sprintf("%s (%s)", u.Load, strings.Join(parts, "; "))
}

func (t *tool) dropIns(files []string) {
	label, last := "Drop-In", ""
	for i, f := range files {
		if dir := path.Dir(f); dir != last {
			last = dir
			if label != "" {
				fmt.Fprintf(t.Out, "%11s: %s\n", label, dir)
				label = ""
			} else {
				fmt.Fprintf(t.Out, "%13s%s\n", "", dir)
			}
		}
		var same []string
		for j := i; j < len(files) && path.Dir(files[j]) == last; j++ {
			same = append(same, path.Base(files[j]))
		}
		if i == 0 || path.Dir(files[i-1]) != last {
			fmt.Fprintf(t.Out, "%13s└─%s\n", "", strings.Join(same, ", "))
		}
	}
}

// active is the text after "Active:".
func (t *tool) active(u control.Unit) string {
	p := u.Properties
	s := fmt.Sprintf("%s (%s)", u.Active, u.Sub)
	if u.Sub == u.Active {
		s = u.Active
	}
	if u.Active == "failed" || u.Sub != u.Active && p["Result"] != "" && p["Result"] != "success" && u.Active != "active" {
		s = fmt.Sprintf("%s (%s) (Result: %s)", u.Active, u.Sub, p["Result"])
		if u.Sub == u.Active {
			s = fmt.Sprintf("%s (Result: %s)", u.Active, p["Result"])
		}
	}
	stamp := map[string]string{"active": "ActiveEnter", "reloading": "ActiveEnter", "inactive": "InactiveEnter",
		"failed": "InactiveEnter", "activating": "InactiveExit", "deactivating": "ActiveExit"}[u.Active]
	when := p[stamp+"Timestamp"]
	if when == "" || when == "n/a" {
		return s
	}
	s += " since " + when
	if us, err := strconv.ParseInt(p[stamp+"TimestampMonotonic"], 10, 64); err == nil && us > 0 {
		s += "; " + ago(t.Monotonic()-time.Duration(us)*time.Microsecond)
	}
	return s
}

// times prints when the unit will end or was active, and when a timer elapses.
func (t *tool) times(u control.Unit) {
	p := u.Properties
	micros := func(property string) time.Duration {
		n, _ := strconv.ParseInt(p[property], 10, 64)
		return time.Duration(n) * time.Microsecond
	}
	begun, ended := micros("ActiveEnterTimestampMonotonic"), micros("ActiveExitTimestampMonotonic")
	most, err := timespan.Parse(p["RuntimeMaxUSec"], time.Second)
	now := time.Now()
	switch {
	case u.Active == "active" && begun > 0 && err == nil && most > 0 && most != timespan.Infinity:
		until := now.Add(begun + most - t.Monotonic())
		t.field("Until", until.UTC().Format(stampLayout)+"; "+timespan.Relative(until.Sub(now)))
	case (u.Active == "inactive" || u.Active == "failed") && begun > 0 && ended >= begun && name.Kind(u.Name) != "target":
		t.field("Duration", timespan.Format((ended - begun).Truncate(time.Millisecond)))
	}
	if name.Kind(u.Name) != "timer" {
		return
	}
	next := "n/a"
	if row := t.timerRow(u, now); u.Active == "active" && !row.next.IsZero() {
		next = row.next.UTC().Format(stampLayout) + "; " + timespan.Relative(row.next.Sub(now))
	}
	t.field("Trigger", next)
}

// ago writes how long something is past, with at most two units.
func ago(d time.Duration) string {
	switch {
	case d < 0:
		d = 0
	case d < time.Second:
		d = d.Truncate(time.Millisecond)
	default:
		d = d.Truncate(time.Second)
	}
	parts := strings.Fields(timespan.Format(d))
	if len(parts) > 2 {
		parts = parts[:2]
	}
	return strings.Join(parts, " ") + " ago"
}

// processes prints the processes that have ended, the main and the control
// process.
func (t *tool) processes(p map[string]string) {
	for _, phase := range []string{"ExecCondition", "ExecStartPre", "ExecStart", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost"} {
		for _, line := range strings.Split(p[phase], "\n") {
			if text := endedText(phase, line); text != "" {
				t.field("Process", text)
			}
		}
	}
	if pid := p["MainPID"]; pid != "" && pid != "0" {
		t.field("Main PID", fmt.Sprintf("%s (%s)", pid, t.comm(pid)))
	} else if pid := p["ExecMainPID"]; pid != "" && pid != "0" || p["ExecMainCode"] != "" && p["ExecMainCode"] != "0" {
		if pid == "0" {
			pid = ""
		}
		t.field("Main PID", strings.TrimSpace(fmt.Sprintf("%s (%s)", pid, exitText(p["ExecMainCode"], p["ExecMainStatus"]))))
	}
	if pid := p["ControlPID"]; pid != "" && pid != "0" {
		t.field("Cntrl PID", fmt.Sprintf("%s (%s)", pid, t.comm(pid)))
	}
}

// endedText writes a line of the property of a phase for people, "" if its
// command has not run or still does.
func endedText(phase, line string) string {
	part := func(key string) string {
		_, rest, _ := strings.Cut(line, " "+key+"=")
		v, _, _ := strings.Cut(rest, " ; ")
		return strings.TrimSuffix(v, " }")
	}
	code := map[string]string{"exited": "1", "killed": "2", "dumped": "3"}[part("code")]
	if code == "" || part("pid") == "0" {
		return ""
	}
	return fmt.Sprintf("%s %s=%s (%s)", part("pid"), phase, part("argv[]"), exitText(code, part("status")))
}

// exitText writes how a process ended; code is as in siginfo_t.
func exitText(code, status string) string {
	n, _ := strconv.Atoi(status)
	switch code {
	case "1":
		word := map[int]string{0: "SUCCESS", 1: "FAILURE", 2: "INVALIDARGUMENT", 200: "CHDIR", 203: "EXEC", 205: "LIMITS", 209: "STDOUT", 216: "GROUP", 217: "USER", 226: "NAMESPACE"}[n]
		if word == "" {
			return fmt.Sprintf("code=exited, status=%d", n)
		}
		return fmt.Sprintf("code=exited, status=%d/%s", n, word)
	case "2":
		return "code=killed, signal=" + signals.Name(syscall.Signal(n))
	case "3":
		return "code=dumped, signal=" + signals.Name(syscall.Signal(n))
	}
	return "code=n/a, status=" + status
}

func (t *tool) comm(pid string) string {
	b, err := os.ReadFile(filepath.Join(t.Root, "proc", pid, "comm"))
	if err != nil {
		return "n/a"
	}
	return strings.TrimSpace(string(b))
}

// resources prints what the unit uses.
func (t *tool) resources(p map[string]string) {
	if n := p["TasksCurrent"]; number(n) {
		s := n
		if limit := p["TasksMax"]; number(limit) {
			s += " (limit: " + limit + ")"
		}
		t.field("Tasks", s)
	}
	if n := p["MemoryCurrent"]; number(n) {
		b, _ := strconv.ParseUint(n, 10, 64)
		t.field("Memory", byteSize(b))
	}
	if n := p["CPUUsageNSec"]; number(n) {
		ns, _ := strconv.ParseInt(n, 10, 64)
		d := time.Duration(ns)
		if d >= time.Second {
			t.field("CPU", fmt.Sprintf("%.3fs", d.Seconds()))
		} else if d < time.Millisecond {
			t.field("CPU", fmt.Sprintf("%dus", d.Microseconds()))
		} else {
			t.field("CPU", fmt.Sprintf("%dms", d.Milliseconds()))
		}
	}
}

func number(s string) bool {
	_, err := strconv.ParseInt(s, 10, 64)
	return err == nil
}

func byteSize(n uint64) string {
	f, unit := float64(n), ""
	for _, u := range []string{"K", "M", "G", "T"} {
		if f < 1024 {
			break
		}
		f, unit = f/1024, u
	}
	if unit == "" {
		return fmt.Sprintf("%dB", n)
	}
	return fmt.Sprintf("%.1f%s", f, unit)
}

// cgroup prints the processes of a control group and of those below it.
func (t *tool) cgroup(group string) {
	if group == "" {
		return
	}
	dir := filepath.Join(t.Root, "sys/fs/cgroup", group)
	events, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
	if err == nil && strings.Contains(string(events), "populated 0") {
		return
	}
	t.field("CGroup", group)
	t.cgroupTree(dir, strings.Repeat(" ", 13))
}

func (t *tool) cgroupTree(dir, indent string) {
	var lines []func(twig, deeper string)
	procs, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	pids := strings.Fields(string(procs))
	sort.Slice(pids, func(i, j int) bool {
		return len(pids[i]) < len(pids[j]) || len(pids[i]) == len(pids[j]) && pids[i] < pids[j]
	})
	for _, pid := range pids {
		lines = append(lines, func(twig, _ string) { fmt.Fprintln(t.Out, t.fit(indent+twig+pid+" "+t.commandLine(pid))) })
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			lines = append(lines, func(twig, deeper string) {
				fmt.Fprintf(t.Out, "%s%s%s\n", indent, twig, e.Name())
				t.cgroupTree(filepath.Join(dir, e.Name()), indent+deeper)
			})
		}
	}
	for i, line := range lines {
		if i == len(lines)-1 {
			line("└─", "  ")
		} else {
			line("├─", "│ ")
		}
	}
}

func (t *tool) commandLine(pid string) string {
	b, err := os.ReadFile(filepath.Join(t.Root, "proc", pid, "cmdline"))
	words := slices.DeleteFunc(strings.Split(string(b), "\x00"), func(s string) bool { return s == "" })
	if err != nil || len(words) == 0 {
		return "[" + t.comm(pid) + "]"
	}
	return strings.Join(words, " ")
}

// fit shortens a line to the width of the terminal, unless --full says no.
func (t *tool) fit(line string) string {
	width := 0
	if f, ok := t.Out.(*os.File); ok && !t.o.full {
		width, _, _ = term.GetSize(int(f.Fd())) // not a terminal: no limit
	}
	return shorten(line, width)
}

// shorten cuts a line to so many columns; 0 is no limit.
func shorten(line string, width int) string {
	if r := []rune(line); width > 0 && len(r) > width {
		return string(r[:width-1]) + "…"
	}
	return line
}

// journal prints the last lines of the unit.
func (t *tool) journal(u control.Unit) {
	if t.o.lines <= 0 || t.Journal == nil {
		return
	}
	lines, err := t.Journal(u.Name, t.o.lines)
	if err != nil {
		fmt.Fprintf(t.Err, "\nThe journal cannot be read: %s\n", err)
		return
	}
	if len(lines) > 0 {
		fmt.Fprintln(t.Out)
	}
	for _, l := range lines {
		fmt.Fprintln(t.Out, t.fit(l))
	}
}
