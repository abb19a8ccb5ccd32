// Package condition decides Condition...= and Assert...= lines;
// systemd.unit(5), "Conditions and Asserts". PID 1 calls Test when the job of a
// unit runs, not before: units ordered earlier may make a condition true.
//
// Kinds that ask for something Coracle does not have (Security=, ACPower=,
// Capability=, CPUFeature=, pressure, credentials) are false, as they are on a
// machine without it.
package condition

import (
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
	"github.com/coracle-os/coracle/rootfs/unit/syntax"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

// System is what conditions ask about. Paths are relative to the root of FS.
type System interface {
	fs.FS
	IsMountPoint(path string) bool
	IsReadWrite(path string) bool // on a file system that is not read-only
	CommandLine() string          // the kernel's
	Virtualization() string       // "none", or for example "kvm", "qemu", "docker"
	InContainer() bool            // Virtualization is a container's
	FirstBoot() bool
	Host() specifier.Host
	Getenv(name string) (string, bool) // of the manager
	MemoryBytes() uint64
	CPUs() int
}

// Result is what became of a unit's conditions.
type Result struct {
	OK     bool
	Failed unit.Condition // the one that decided, if not OK
}

// Test decides a list: all plain conditions must hold, and of those marked
// with "|" at least one.
func Test(list []unit.Condition, sys System) Result {
	triggers, triggered := 0, false
	var lastTrigger unit.Condition
	for _, c := range list {
		ok := holds(c, sys) != c.Negate
		switch {
		case c.Trigger:
			triggers++
			triggered = triggered || ok
			lastTrigger = c
		case !ok:
			return Result{Failed: c}
		}
	}
	if triggers > 0 && !triggered {
		return Result{Failed: lastTrigger}
	}
	return Result{OK: true}
}

// String says why a unit is skipped, in systemd's words.
func (r Result) String() string {
	if r.OK {
		return "all conditions hold"
	}
	return fmt.Sprintf("skipped because of an unmet condition check (Condition%s)", r.Failed)
}

func holds(c unit.Condition, sys System) bool {
	if strings.HasPrefix(c.Value, "/") {
		if ok, known := pathHolds(c.Kind, path.Clean(c.Value), sys); known {
			return ok
		}
	}
	h := sys.Host()
	switch c.Kind {
	case "KernelCommandLine":
		return onCommandLine(sys.CommandLine(), c.Value)
	case "Virtualization":
		return virtualization(c.Value, sys)
	case "Host":
		return strings.EqualFold(strings.ReplaceAll(c.Value, "-", ""), h.MachineID) || match(c.Value, h.Hostname)
	case "Architecture":
		return c.Value == h.Arch || c.Value == "native"
	case "KernelVersion":
		return compareAll(c.Value, h.Kernel)
	case "FirstBoot":
		want, err := syntax.Bool(c.Value)
		return err == nil && want == sys.FirstBoot()
	case "User":
		return c.Value == "root" || c.Value == "0" || c.Value == "@system"
	case "Group":
		return c.Value == "root" || c.Value == "0"
	case "Environment":
		name, want, hasValue := strings.Cut(c.Value, "=")
		v, ok := sys.Getenv(name)
		return ok && (!hasValue || v == want)
	case "Memory":
		return compareNumber(c.Value, sys.MemoryBytes(), timespan.ParseSize)
	case "CPUs":
		return compareNumber(c.Value, uint64(sys.CPUs()), func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) })
	case "Firmware":
		_, err := fs.Stat(sys, "sys/firmware/efi")
		return c.Value == "uefi" && err == nil
	case "ControlGroupController":
		b, _ := fs.ReadFile(sys, "sys/fs/cgroup/cgroup.controllers")
		return c.Value == "v2" || strings.Contains(" "+strings.TrimSpace(string(b))+" ", " "+c.Value+" ")
	}
	return false
}

// pathHolds decides the kinds whose value is a path; known is false for others.
func pathHolds(kind, p string, sys System) (ok, known bool) {
	rel := strings.TrimPrefix(p, "/")
	if rel == "" {
		rel = "."
	}
	info, err := fs.Stat(sys, rel)
	exists := err == nil
	switch kind {
	case "PathExists":
		return exists, true
	case "PathExistsGlob":
		list, err := fs.Glob(sys, rel)
		return err == nil && len(list) > 0, true
	case "PathIsDirectory":
		return exists && info.IsDir(), true
	case "PathIsSymbolicLink":
		info, err := fs.Lstat(sys, rel)
		return err == nil && info.Mode()&fs.ModeSymlink != 0, true
	case "PathIsMountPoint":
		return exists && sys.IsMountPoint(p), true
	case "PathIsReadWrite":
		return exists && sys.IsReadWrite(p), true
	case "DirectoryNotEmpty":
		list, err := fs.ReadDir(sys, rel)
		return err == nil && len(list) > 0, true
	case "FileNotEmpty":
		return exists && info.Mode().IsRegular() && info.Size() > 0, true
	case "FileIsExecutable":
		return exists && info.Mode().IsRegular() && info.Mode()&0o111 != 0, true
	case "NeedsUpdate", "PathIsEncrypted":
		return false, true
	}
	return false, false
}

// onCommandLine looks for a word, or a word and its value, on a kernel command
// line; quotes group there.
func onCommandLine(line, want string) bool {
	quoted := false
	list := strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && strings.ContainsRune(" \t\n", r)
	})
	for _, w := range list {
		w = strings.ReplaceAll(w, "\"", "")
		key, _, _ := strings.Cut(w, "=")
		if w == want || !strings.Contains(want, "=") && key == want {
			return true
		}
	}
	return false
}

func virtualization(want string, sys System) bool {
	v := sys.Virtualization()
	switch want {
	case "vm":
		return v != "none" && !sys.InContainer()
	case "container":
		return sys.InContainer()
	}
	if b, err := syntax.Bool(want); err == nil {
		return b == (v != "none")
	}
	return v == want
}

func match(pattern, s string) bool {
	ok, err := path.Match(strings.ToLower(pattern), strings.ToLower(s))
	return err == nil && ok
}

// operators in the order in which they are tried.
var operators = []string{"<=", ">=", "!=", "<>", "==", "<", ">", "="}

func operator(s string) (op, rest string) {
	for _, op := range operators {
		if rest, ok := strings.CutPrefix(s, op); ok {
			return op, strings.TrimSpace(rest)
		}
	}
	return "", s
}

func decide(op string, cmp int) bool {
	switch op {
	case "<":
		return cmp < 0
	case "<=":
		return cmp <= 0
	case ">":
		return cmp > 0
	case ">=":
		return cmp >= 0
	case "!=", "<>":
		return cmp != 0
	}
	return cmp == 0
}

// compareNumber decides for example ">= 4"; without an operator it means ">=".
func compareNumber(s string, have uint64, parse func(string) (uint64, error)) bool {
	op, rest := operator(s)
	if op == "" {
		op = ">="
	}
	want, err := parse(rest)
	switch {
	case err != nil:
		return false
	case have < want:
		return decide(op, -1)
	case have > want:
		return decide(op, 1)
	}
	return decide(op, 0)
}

// compareAll decides a list of version comparisons or globs.
func compareAll(s, have string) bool {
	all := strings.Fields(s)
	for i := 0; i < len(all); i++ {
		op, rest := operator(all[i])
		if op != "" && rest == "" && i+1 < len(all) {
			i++
			rest = all[i]
		}
		if op == "" {
			if ok, err := path.Match(rest, have); err != nil || !ok {
				return false
			}
			continue
		}
		if !decide(op, compareVersions(have, rest)) {
			return false
		}
	}
	return true
}

// compareVersions compares numbers as numbers and the rest as text.
func compareVersions(a, b string) int {
	split := func(s string) []string {
		return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(".-_+~", r) })
	}
	x, y := split(a), split(b)
	for i := range min(len(x), len(y)) {
		m, err1 := strconv.Atoi(x[i])
		n, err2 := strconv.Atoi(y[i])
		c := strings.Compare(x[i], y[i])
		if err1 == nil && err2 == nil {
			c = m - n
		}
		if c != 0 {
			return c
		}
	}
	return len(x) - len(y)
}
