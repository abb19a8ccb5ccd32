package settings

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
	"github.com/coracle-os/coracle/rootfs/unit/words"
)

// schedulingOf returns the part of a unit that few units have.
func schedulingOf(u *unit.Unit) *unit.Scheduling {
	e := execOf(u)
	if e.Scheduling == nil {
		e.Scheduling = &unit.Scheduling{}
	}
	return e.Scheduling
}

// Numbers of Linux by their names in unit files.
var (
	policies  = map[string]int{"other": 0, "fifo": 1, "rr": 2, "batch": 3, "idle": 5}
	ioClasses = map[string]int{"none": 2, "0": 2, "realtime": 1, "1": 1, "best-effort": 2, "2": 2, "idle": 3, "3": 3}
	coreDump  = []string{"private-anonymous", "shared-anonymous", "private-file-backed", "shared-file-backed", "elf-headers",
		"private-huge", "shared-huge", "private-dax", "shared-dax"}
)

var schedulingSettings = map[string]setting{
	"CPUSchedulingPolicy":      named(func(u *unit.Unit) **int { return &schedulingOf(u).Policy }, policies),
	"CPUSchedulingPriority":    number(func(u *unit.Unit) *int { return &schedulingOf(u).Priority }, 0, 99),
	"CPUSchedulingResetOnFork": boolean(func(u *unit.Unit) *bool { return &schedulingOf(u).ResetOnFork }),
	"IOSchedulingClass":        named(func(u *unit.Unit) **int { return &schedulingOf(u).IOClass }, ioClasses),
	"IOSchedulingPriority":     optional(func(u *unit.Unit) **int { return &schedulingOf(u).IOPriority }, 0, 7),
	"CPUAffinity":              affinity,
	"TimerSlackNSec":           timerSlack,
	"CoredumpFilter":           coredumpFilter,
	"LoadCredential":           loadCredential,
	"SetCredential":            setCredential,
	"ExecSearchPath":           searchPath,
}

// named takes a name of a table; an empty value resets it.
func named(f field[*int], table map[string]int) setting {
	return func(p *pass, value string) error {
		n, ok := table[value]
		switch {
		case value == "":
			*f(p.u) = nil
		case !ok:
			return fmt.Errorf("Failed to parse %q, ignoring", value)
		default:
			*f(p.u) = &n
		}
		return nil
	}
}

// affinity takes numbers of processors and ranges of them; an empty value
// resets the set, and "numa" is not known here.
func affinity(p *pass, value string) error {
	s := schedulingOf(p.u)
	if value == "" {
		s.CPUs = nil
		return nil
	}
	for _, w := range strings.FieldsFunc(value, func(r rune) bool { return r == ' ' || r == '\t' || r == ',' }) {
		first, last, isRange := strings.Cut(w, "-")
		a, err := strconv.Atoi(first)
		b := a
		if err == nil && isRange {
			b, err = strconv.Atoi(last)
		}
		if err != nil || a < 0 || b < a || b > 1023 {
			return fmt.Errorf("Failed to parse CPU affinity %q, ignoring: write numbers and ranges, for example 0 2-3", value)
		}
		for ; a <= b; a++ {
			if !slices.Contains(s.CPUs, a) {
				s.CPUs = append(s.CPUs, a)
			}
		}
	}
	slices.Sort(s.CPUs)
	return nil
}

func timerSlack(p *pass, value string) error {
	d, err := timespan.Parse(value, time.Nanosecond)
	if err != nil {
		return err
	}
	n := int64(d)
	schedulingOf(p.u).TimerSlack = &n
	return nil
}

// coredumpFilter takes names, hexadecimal numbers, "all" and "default".
func coredumpFilter(p *pass, value string) error {
	s := schedulingOf(p.u)
	if value == "" {
		s.CoreDump = nil
		return nil
	}
	bits := 0
	if s.CoreDump != nil {
		bits = *s.CoreDump
	}
	for _, w := range strings.Fields(value) {
		switch i := slices.Index(coreDump, w); {
		case w == "all":
			bits = math.MaxInt32
		case w == "default":
			bits |= 0x33
		case i >= 0:
			bits |= 1 << i
		default:
			n, err := strconv.ParseUint(strings.TrimPrefix(w, "0x"), 16, 31)
			if err != nil {
				return fmt.Errorf("Failed to parse %q, ignoring: it is one of %v, default or all", w, coreDump)
			}
			bits |= int(n)
		}
	}
	s.CoreDump = &bits
	return nil
}

// searchPath takes directories in which programs are looked for.
func searchPath(p *pass, value string) error {
	e := execOf(p.u)
	if value == "" {
		e.SearchPath = nil
		return nil
	}
	v, err := p.x.Expand(value)
	if err != nil {
		return err
	}
	for _, dir := range strings.Split(v, ":") {
		if dir, err = absolute(dir); err != nil {
			return err
		}
		e.SearchPath = append(e.SearchPath, dir)
	}
	return nil
}

// validCredential tells if a credential can have the name, which is a file's.
func validCredential(id string) bool {
	return id != "" && id != "." && id != ".." && len(id) < 256 && !strings.ContainsAny(id, "/:\x00")
}

func credentialID(value string) (id, rest string, err error) {
	id, rest, found := strings.Cut(value, ":")
	if !validCredential(id) {
		return "", "", fmt.Errorf("Credential name %q not valid, ignoring", id)
	}
	if !found {
		rest = id
	}
	return id, rest, nil
}

// loadCredential takes ID:PATH; an empty value resets the list.
func loadCredential(p *pass, value string) error {
	e := execOf(p.u)
	if value == "" {
		e.Credentials = slices.DeleteFunc(e.Credentials, func(c unit.Credential) bool { return c.Path != "" })
		return nil
	}
	v, err := p.x.Expand(value)
	if err != nil {
		return err
	}
	id, from, err := credentialID(v)
	if err != nil {
		return err
	}
	if strings.HasPrefix(from, "/") {
		if from, err = absolute(from); err != nil {
			return err
		}
	} else if !validCredential(from) {
		return fmt.Errorf("Credential source %q not valid, ignoring: write a path or a name", from)
	}
	e.Credentials = slices.DeleteFunc(e.Credentials, func(c unit.Credential) bool { return c.ID == id && c.Path != "" })
	e.Credentials = append(e.Credentials, unit.Credential{ID: id, Path: from})
	return nil
}

// setCredential takes ID:VALUE, with escapes; an empty value resets the list.
func setCredential(p *pass, value string) error {
	e := execOf(p.u)
	if value == "" {
		e.Credentials = slices.DeleteFunc(e.Credentials, func(c unit.Credential) bool { return c.Path == "" })
		return nil
	}
	id, data, found := strings.Cut(value, ":")
	if !found || !validCredential(id) {
		return fmt.Errorf("Credential %q not valid, ignoring: write NAME:VALUE", value)
	}
	data, err := p.x.Expand(data)
	if err != nil {
		return err
	}
	data = unescapeAll(data)
	e.Credentials = slices.DeleteFunc(e.Credentials, func(c unit.Credential) bool { return c.ID == id && c.Path == "" })
	e.Credentials = append(e.Credentials, unit.Credential{ID: id, Data: data})
	return nil
}

// unescapeAll undoes C escapes.
func unescapeAll(v string) string {
	var b strings.Builder
	for v != "" {
		before, after, found := strings.Cut(v, "\\")
		b.WriteString(before)
		if v = after; found {
			t, n := words.Unescape(v)
			b.WriteString(t)
			v = v[n:]
		}
	}
	return b.String()
}
