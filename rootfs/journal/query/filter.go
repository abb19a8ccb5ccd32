package query

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/journal/segment"
)

// Filter says which records are wanted; all conditions must hold. The zero
// value wants all.
type Filter struct {
	Boot        *journal.ID
	Units       []string // names or globs; "foo" is foo.service
	UserUnits   []string // of users' service managers: _SYSTEMD_USER_UNIT
	Identifiers []string // SYSLOG_IDENTIFIER
	Priorities  [2]int   // most and least severe wanted, e.g. {0, 3}; {0, 0} with AnyPriority
	ByPriority  bool     // Priorities is set
	Facilities  []string // SYSLOG_FACILITY numbers
	Kernel      bool     // only _TRANSPORT=kernel
	Since       uint64   // microseconds since 1970, 0 = no limit
	Until       uint64   // the same
	AfterSeq    uint64   // only records with a greater number
	BeforeSeq   uint64   // only records with a smaller number, 0 = no limit
	Grep        *regexp.Regexp
	Fields      [][]string // groups of FIELD=VALUE: see ParseMatches
}

// wants reports whether a segment can have matching records.
func (f *Filter) wants(h segment.Header) bool {
	return f == nil || f.Boot == nil || *f.Boot == h.Boot
}

// Match reports whether the record is wanted.
func (f *Filter) Match(r *journal.Record) bool {
	if f == nil {
		return true
	}
	switch {
	case f.Boot != nil && r.Boot != *f.Boot,
		f.Since != 0 && r.Realtime < f.Since,
		f.Until != 0 && r.Realtime > f.Until,
		r.Seq <= f.AfterSeq && f.AfterSeq != 0,
		f.BeforeSeq != 0 && r.Seq >= f.BeforeSeq,
		f.Kernel && r.Get("_TRANSPORT") != "kernel",
		f.ByPriority && !f.priority(r),
		len(f.Identifiers) > 0 && !slices.Contains(f.Identifiers, r.Get("SYSLOG_IDENTIFIER")),
		len(f.Facilities) > 0 && !slices.Contains(f.Facilities, r.Get("SYSLOG_FACILITY")),
		(len(f.Units) > 0 || len(f.UserUnits) > 0) && !f.unit(r),
		len(f.Fields) > 0 && !f.fields(r):
		return false
	}
	return f.Grep == nil || f.Grep.MatchString(r.Get("MESSAGE"))
}

func (f *Filter) priority(r *journal.Record) bool {
	p := r.Get("PRIORITY")
	if p == "" {
		return false
	}
	n := r.Priority()
	return n >= f.Priorities[0] && n <= f.Priorities[1]
}

// unit matches what the unit wrote, and what PID 1 or another root process
// wrote about it.
func (f *Filter) unit(r *journal.Record) bool {
	if MatchUnit(f.Units, r.Get("_SYSTEMD_UNIT")) || MatchUnit(f.UserUnits, r.Get("_SYSTEMD_USER_UNIT")) {
		return true
	}
	if about := r.Get("UNIT"); about != "" && r.Get("_PID") == "1" {
		return MatchUnit(f.Units, about)
	}
	if about := r.Get("OBJECT_SYSTEMD_UNIT"); about != "" && r.Get("_UID") == "0" {
		return MatchUnit(f.Units, about)
	}
	return false
}

// MatchUnit reports whether a unit name is one of the names or globs.
func MatchUnit(patterns []string, unit string) bool {
	if unit == "" {
		return false
	}
	for _, pattern := range patterns {
		pattern = MangleUnit(pattern)
		if pattern == unit {
			return true
		}
		if ok, err := path.Match(pattern, unit); ok && err == nil {
			return true
		}
	}
	return false
}

var unitSuffixes = []string{".service", ".socket", ".target", ".timer", ".path", ".mount", ".automount", ".slice", ".scope", ".swap", ".device"}

// MangleUnit makes a unit name of what a person typed, as systemctl does.
func MangleUnit(name string) string {
	if strings.ContainsAny(name, "*?[") {
		return name
	}
	for _, suffix := range unitSuffixes {
		if strings.HasSuffix(name, suffix) {
			return name
		}
	}
	if strings.HasPrefix(name, "/dev/") {
		return strings.ReplaceAll(strings.Trim(name, "/"), "/", "-") + ".device"
	}
	if strings.HasPrefix(name, "/") {
		return strings.ReplaceAll(strings.Trim(name, "/"), "/", "-") + ".mount"
	}
	return name + ".service"
}

// ParseMatches reads the FIELD=VALUE arguments of journalctl: values of one
// field are alternatives, different fields must all match, "+" begins an
// alternative group. A path means _EXE=path.
func ParseMatches(args []string) (groups [][]string, err error) {
	group := []string{}
	for _, arg := range args {
		switch {
		case arg == "+":
			if len(group) == 0 {
				return nil, fmt.Errorf("\"+\" can only be used between terms")
			}
			groups, group = append(groups, group), nil
		case strings.HasPrefix(arg, "/"):
			group = append(group, "_EXE="+arg)
		default:
			name, _, ok := strings.Cut(arg, "=")
			if !ok || !journal.ValidName(name) {
				return nil, fmt.Errorf("Failed to add match '%s': Invalid argument", arg)
			}
			group = append(group, arg)
		}
	}
	if len(group) > 0 {
		groups = append(groups, group)
	} else if len(groups) > 0 {
		return nil, fmt.Errorf("\"+\" can only be used between terms")
	}
	return groups, nil
}

func (f *Filter) fields(r *journal.Record) bool {
	for _, group := range f.Fields {
		if matchGroup(group, r) {
			return true
		}
	}
	return false
}

func matchGroup(group []string, r *journal.Record) bool {
	matched := map[string]bool{}
	for _, term := range group {
		name, value, _ := strings.Cut(term, "=")
		matched[name] = matched[name] || r.Has(name, value)
	}
	for _, ok := range matched {
		if !ok {
			return false
		}
	}
	return true
}
