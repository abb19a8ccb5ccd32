package settings

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/seccomp"
	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/syntax"
)

// callsOf returns the part of a unit that few units have.
func callsOf(u *unit.Unit) *seccomp.Rules {
	s := sandboxOf(u)
	if s.Calls == nil {
		s.Calls = &seccomp.Rules{}
	}
	return s.Calls
}

var callSettings = map[string]setting{
	"SystemCallFilter":        callFilter,
	"SystemCallErrorNumber":   callErrno,
	"SystemCallArchitectures": callArchitectures,
	"RestrictAddressFamilies": addressFamilies,
	"RestrictNamespaces":      restrictNamespaces,
	"MemoryDenyWriteExecute":  boolean(func(u *unit.Unit) *bool { return &callsOf(u).WriteExecute }),
	"RestrictRealtime":        boolean(func(u *unit.Unit) *bool { return &callsOf(u).Realtime }),
	"RestrictSUIDSGID":        boolean(func(u *unit.Unit) *bool { return &callsOf(u).SetID }),
	"LockPersonality":         boolean(func(u *unit.Unit) *bool { return &callsOf(u).Personality }),
	"ProtectProc":             oneOf(func(u *unit.Unit) *string { return &sandboxOf(u).ProtectProc }, "default", "noaccess", "invisible", "ptraceable"),
	"ProcSubset":              oneOf(func(u *unit.Unit) *string { return &sandboxOf(u).ProcSubset }, "all", "pid"),
	"PrivateIPC":              boolean(func(u *unit.Unit) *bool { return &sandboxOf(u).PrivateIPC }),
}

// errno reads an error's name or number, or "kill".
func errno(word string) (int, error) {
	if word == "kill" {
		return seccomp.Kill, nil
	}
	if n, err := strconv.Atoi(word); err == nil && n > 0 && n < 4096 {
		return n, nil
	}
	for n := unix.Errno(1); n < 134; n++ {
		if unix.ErrnoName(n) == word {
			return int(n), nil
		}
	}
	return 0, fmt.Errorf("Failed to parse error number, ignoring: %s", word)
}

// callFilter takes calls and groups of them. The first line says whether the
// list is of what is allowed or, with "~", of what is not; later ones add to it
// or take away from it. An empty value resets it.
func callFilter(p *pass, value string) error {
	r := callsOf(p.u)
	if value == "" {
		r.Set, r.Allow, r.Filter = false, false, nil
		return nil
	}
	rest, invert := strings.CutPrefix(value, "~")
	if !r.Set {
		r.Set, r.Allow, r.Filter = true, !invert, map[string]int{}
		if r.Allow {
			always, _ := seccomp.Expand("@default")
			for _, n := range always {
				r.Filter[n] = 0
			}
		}
	}
	for _, w := range strings.Fields(rest) {
		word, action, hasAction := strings.Cut(w, ":")
		code := 0
		if hasAction {
			var err error
			if code, err = errno(action); err != nil {
				p.warn("%s", err)
				continue
			}
		}
		names, err := seccomp.Expand(word)
		if err != nil {
			p.warn("%s", err)
			continue
		}
		for _, n := range names {
			if invert == r.Allow {
				delete(r.Filter, n)
			} else {
				r.Filter[n] = code
			}
		}
	}
	return nil
}

func callErrno(p *pass, value string) error {
	r := callsOf(p.u)
	if value == "" || value == "kill" {
		r.Errno = 0
		return nil
	}
	n, err := errno(value)
	if err == nil {
		r.Errno = n
	}
	return err
}

// callArchitectures takes the names of systemd; only those of this machine mean
// anything.
func callArchitectures(p *pass, value string) error {
	r := callsOf(p.u)
	if value == "" {
		r.Native, r.X86, r.X32 = false, false, false
		return nil
	}
	for _, w := range strings.Fields(value) {
		r.Native = true
		switch w {
		case "x86":
			r.X86 = true
		case "x32":
			r.X32 = true
		case "native", "x86-64":
		default:
			p.warn("Failed to parse system call architecture %q, ignoring: it is one of native, x86-64, x86, x32", w)
		}
	}
	return nil
}

func addressFamilies(p *pass, value string) error {
	r := callsOf(p.u)
	switch value {
	case "":
		r.FamiliesOn, r.FamiliesAllow, r.Families = false, false, nil
		return nil
	case "none":
		r.FamiliesOn, r.FamiliesAllow, r.Families = true, true, nil
		return nil
	}
	rest, invert := strings.CutPrefix(value, "~")
	if !r.FamiliesOn {
		r.FamiliesOn, r.FamiliesAllow = true, !invert
	}
	for _, w := range strings.Fields(rest) {
		n, ok := seccomp.Family(w)
		if !ok {
			p.warn("Failed to parse address family, ignoring: %s", w)
			continue
		}
		r.Families = slices.DeleteFunc(r.Families, func(f int) bool { return f == n })
		if invert != r.FamiliesAllow {
			r.Families = append(r.Families, n)
		}
	}
	return nil
}

// restrictNamespaces takes a boolean, the kinds that are allowed, or with "~"
// those that are not.
func restrictNamespaces(p *pass, value string) error {
	r := callsOf(p.u)
	if value == "" {
		r.Namespaces = 0
		return nil
	}
	if on, err := syntax.Bool(value); err == nil {
		r.Namespaces = 0
		if on {
			r.Namespaces = seccomp.AllNamespaces
		}
		return nil
	}
	rest, invert := strings.CutPrefix(value, "~")
	var bits uint32
	for _, w := range strings.Fields(rest) {
		b, ok := seccomp.Namespace(w)
		if !ok {
			return fmt.Errorf("Failed to parse namespace type string, ignoring: %s", w)
		}
		bits |= b
	}
	switch {
	case invert:
		r.Namespaces |= bits
	case r.Namespaces == 0:
		r.Namespaces = seccomp.AllNamespaces &^ bits
	default: // a second line of what is allowed
		r.Namespaces &^= bits
	}
	return nil
}
