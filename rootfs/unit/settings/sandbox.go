package settings

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/rootfs/seccomp"
	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/syntax"
)

// sandboxOf is the sandbox of units that have one.
func sandboxOf(u *unit.Unit) *unit.Sandbox { return &execOf(u).Sandbox }

var sandboxSettings = map[string]setting{
	"ProtectSystem":         level(func(u *unit.Unit) *string { return &sandboxOf(u).ProtectSystem }, "full", "strict"),
	"ProtectHome":           level(func(u *unit.Unit) *string { return &sandboxOf(u).ProtectHome }, "read-only", "tmpfs"),
	"PrivateTmp":            boolean(func(u *unit.Unit) *bool { return &sandboxOf(u).PrivateTmp }),
	"PrivateDevices":        boolean(func(u *unit.Unit) *bool { return &sandboxOf(u).PrivateDevices }),
	"PrivateNetwork":        boolean(func(u *unit.Unit) *bool { return &sandboxOf(u).PrivateNetwork }),
	"PrivateMounts":         boolean(func(u *unit.Unit) *bool { return &sandboxOf(u).PrivateMounts }),
	"ProtectKernelTunables": boolean(func(u *unit.Unit) *bool { return &sandboxOf(u).ProtectKernelTunables }),
	"ProtectKernelModules":  boolean(func(u *unit.Unit) *bool { return &sandboxOf(u).ProtectKernelModules }),
	"ProtectKernelLogs":     boolean(func(u *unit.Unit) *bool { return &sandboxOf(u).ProtectKernelLogs }),
	"ProtectControlGroups":  boolean(func(u *unit.Unit) *bool { return &sandboxOf(u).ProtectControlGroups }),
	"ProtectHostname":       boolean(func(u *unit.Unit) *bool { return &sandboxOf(u).ProtectHostname }),
	"ProtectClock":          boolean(func(u *unit.Unit) *bool { return &sandboxOf(u).ProtectClock }),
	"ReadWritePaths":        paths(readWritePaths),
	"ReadWriteDirectories":  paths(readWritePaths),
	"ReadOnlyPaths":         paths(readOnlyPaths),
	"ReadOnlyDirectories":   paths(readOnlyPaths),
	"InaccessiblePaths":     paths(inaccessiblePaths),

	"InaccessibleDirectories": paths(inaccessiblePaths),
	"TemporaryFileSystem":     temporary,
	"BindPaths":               binds(false),
	"BindReadOnlyPaths":       binds(true),
	"CapabilityBoundingSet":   boundingSet,
	"AmbientCapabilities":     ambient,
}

func readWritePaths(u *unit.Unit) *[]string    { return &sandboxOf(u).ReadWritePaths }
func readOnlyPaths(u *unit.Unit) *[]string     { return &sandboxOf(u).ReadOnlyPaths }
func inaccessiblePaths(u *unit.Unit) *[]string { return &sandboxOf(u).InaccessiblePaths }

// level takes a boolean or one of the words.
func level(f field[string], words ...string) setting {
	return func(p *pass, value string) error {
		if slices.Contains(words, value) || value == "" {
			*f(p.u) = value
			return nil
		}
		on, err := syntax.Bool(value)
		if err != nil {
			return fmt.Errorf("Failed to parse %q, ignoring: it is a boolean or one of %v", value, words)
		}
		*f(p.u) = "no"
		if on {
			*f(p.u) = "yes"
		}
		return nil
	}
}

// paths takes absolute paths; "-" says that one may be missing.
func paths(f field[[]string]) setting {
	return func(p *pass, value string) error {
		if value == "" {
			*f(p.u) = nil
			return nil
		}
		return p.each(value, func(w string) error {
			bare := strings.TrimPrefix(strings.TrimPrefix(w, "-"), "+")
			clean, err := absolute(bare)
			if err == nil {
				*f(p.u) = append(*f(p.u), strings.TrimSuffix(w, bare)+clean)
			}
			return err
		})
	}
}

// temporary takes paths; options after a colon are those of tmpfs, and ignored.
func temporary(p *pass, value string) error {
	s := sandboxOf(p.u)
	if value == "" {
		s.TemporaryFileSystem = nil
		return nil
	}
	return p.each(value, func(w string) error {
		w, options, _ := strings.Cut(w, ":")
		file, err := absolute(w)
		if err != nil {
			return err
		}
		if options != "" {
			p.warn("TemporaryFileSystem=: the options %q are not supported by Coracle, ignoring them.", options)
		}
		s.TemporaryFileSystem = append(s.TemporaryFileSystem, file)
		return nil
	})
}

// binds takes words FROM[:TO[:OPTIONS]].
func binds(readOnly bool) setting {
	return func(p *pass, value string) error {
		s := sandboxOf(p.u)
		if value == "" {
			s.Binds = nil
			return nil
		}
		return p.each(value, func(w string) error {
			w, optional := strings.CutPrefix(w, "-")
			part := strings.SplitN(w, ":", 3)
			from, err := absolute(part[0])
			to := from
			if err == nil && len(part) > 1 && part[1] != "" {
				to, err = absolute(part[1])
			}
			if err == nil {
				s.Binds = append(s.Binds, unit.Bind{From: from, To: to, ReadOnly: readOnly, Optional: optional})
			}
			return err
		})
	}
}

// capabilitySet reads names of capabilities; "~" before them means all others.
func capabilitySet(value string) (set uint64, inverted bool, err error) {
	value, inverted = strings.CutPrefix(value, "~")
	for _, w := range strings.Fields(value) {
		n, ok := unit.Capability(w)
		if !ok {
			err = errors.Join(err, fmt.Errorf("Failed to parse capability %q, ignoring: write for example CAP_NET_ADMIN", w))
			continue
		}
		set |= 1 << n
	}
	return set, inverted, err
}

// boundingSet keeps the capabilities that it names. Lines add up: what one of
// them names is kept, what one names after "~" is not.
func boundingSet(p *pass, value string) error {
	s := sandboxOf(p.u)
	set, inverted, err := capabilitySet(value)
	switch {
	case inverted && set == 0:
		s.DropCapabilities = 0
	case inverted:
		s.DropCapabilities |= set
	case value == "" || s.DropCapabilities == 0:
		s.DropCapabilities = unit.AllCapabilities &^ set
	default:
		s.DropCapabilities &^= set
	}
	return err
}

func ambient(p *pass, value string) error {
	s := sandboxOf(p.u)
	set, inverted, err := capabilitySet(value)
	switch {
	case value == "":
		s.AmbientCapabilities = 0
	case inverted && s.AmbientCapabilities == 0:
		s.AmbientCapabilities = unit.AllCapabilities &^ set
	case inverted:
		s.AmbientCapabilities &^= set
	default:
		s.AmbientCapabilities |= set
	}
	return err
}

// finishDynamicUser adds what DynamicUser= means besides the user.
func finishDynamicUser(e *unit.ExecContext, unitName string) {
	if !e.DynamicUser {
		return
	}
	if e.User == "" {
		e.User = strings.NewReplacer("@", "_", ".", "_").Replace(strings.TrimSuffix(unitName, ".service"))
	}
	s := &e.Sandbox
	e.NoNewPrivileges, s.PrivateTmp = true, true
	if s.Calls == nil {
		s.Calls = &seccomp.Rules{}
	}
	s.Calls.SetID = true
	if s.ProtectSystem != "strict" {
		s.ProtectSystem = "strict"
	}
	if s.ProtectHome == "" || s.ProtectHome == "no" {
		s.ProtectHome = "read-only"
	}
}
