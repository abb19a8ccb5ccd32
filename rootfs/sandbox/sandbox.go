// Package sandbox gives a process a view of the machine of its own: what it may
// write, what it does not see, its own /tmp and /dev, and which capabilities are
// left; systemd.exec(5), "Sandboxing" and "Capabilities". The shim of
// rootfs/spawn calls it between clone and execve.
//
// New is pure and says what is to be done; Apply does it. Left out on purpose:
// user namespaces, images and device rules of control groups.
package sandbox

import (
	"path"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/rootfs/unit"
)

// Plan is what has to be done to the process. The zero Plan is nothing.
type Plan struct {
	Rules    []Rule   `json:",omitempty"` // the outer ones first
	Binds    []Bind   `json:",omitempty"` // done before the rules
	Private  []string `json:",omitempty"` // directories that become /tmp and /var/tmp
	Devices  bool     `json:",omitempty"` // a /dev of its own
	Network  bool     `json:",omitempty"` // no network but a loopback of its own
	Hostname bool     `json:",omitempty"` // changes of the host name stay inside
	Mounts   bool     `json:",omitempty"` // a mount namespace, even without rules
	Drop     uint64   `json:",omitempty"` // capabilities to drop from the bounding set
	Ambient  uint64   `json:",omitempty"` // capabilities that another user keeps
	IPC      bool     `json:",omitempty"` // System V IPC and message queues of its own
	Proc     string   `json:",omitempty"` // options of a /proc of its own; "" for that of the machine
	Programs [][]byte `json:",omitempty"` // for seccomp(2), in the order of loading
}

// Access is what a process may do with a path and all below it.
type Access string

// The accesses.
const (
	Write  Access = "write"
	Read   Access = "read"
	Hidden Access = "hidden"
	Empty  Access = "empty" // an empty directory is there instead
)

// Rule says what a process may do with a path.
type Rule struct {
	Path     string
	Access   Access
	Optional bool `json:",omitempty"` // a path that does not exist is no error
}

// Bind shows a path at another place.
type Bind struct {
	From, To           string
	ReadOnly, Optional bool `json:",omitempty"`
}

// Zero tells if there is nothing to do.
func (p Plan) Zero() bool {
	return !p.namespaces() && p.Drop == 0 && p.Ambient == 0 && len(p.Programs) == 0
}

func (p Plan) namespaces() bool { return p.mountNamespace() || p.Network || p.Hostname || p.IPC }

func (p Plan) mountNamespace() bool {
	return len(p.Rules)+len(p.Binds)+len(p.Private) > 0 || p.Devices || p.Mounts || p.Proc != ""
}

// New plans the sandbox of a unit. private are the directories that become
// /tmp and /var/tmp, where PrivateTmp= is set; writable are those that the unit
// owns, such as StateDirectory=.
func New(s unit.Sandbox, private, writable []string) Plan {
	p := Plan{Devices: s.PrivateDevices, Network: s.PrivateNetwork, Hostname: s.ProtectHostname, Mounts: s.PrivateMounts,
		Drop: s.Dropped(), Ambient: s.AmbientCapabilities, IPC: s.PrivateIPC, Proc: procOptions(s)}
	for _, c := range s.Restricted().Compile() {
		p.Programs = append(p.Programs, c.Bytes())
	}
	add := func(a Access, list ...string) {
		for _, f := range list {
			p.Rules = append(p.Rules, Rule{Path: f, Access: a, Optional: true})
		}
	}
	if s.PrivateTmp {
		p.Private = private
		writable = append(slices.Clone(writable), "/tmp", "/var/tmp")
	}
	switch s.ProtectSystem {
	case "strict":
		add(Read, "/")
		add(Write, "/dev", "/proc", "/sys")
	case "full":
		add(Read, "/usr", "/boot", "/efi", "/etc")
	case "yes":
		add(Read, "/usr", "/boot", "/efi")
	}
	homes := []string{"/home", "/root", "/run/user"}
	switch s.ProtectHome {
	case "yes":
		add(Hidden, homes...)
	case "read-only":
		add(Read, homes...)
	case "tmpfs":
		add(Empty, homes...)
	}
	if s.ProtectKernelTunables {
		add(Read, "/proc/sys", "/proc/sysrq-trigger", "/proc/latency_stats", "/proc/mtrr", "/proc/acpi", "/proc/irq", "/proc/bus", "/proc/fs", "/sys")
		add(Write, "/sys/fs/cgroup")
	}
	if s.ProtectControlGroups {
		add(Read, "/sys/fs/cgroup")
	}
	if s.ProtectKernelModules {
		add(Hidden, "/usr/lib/modules")
	}
	if s.ProtectKernelLogs {
		add(Hidden, "/proc/kmsg", "/dev/kmsg")
	}
	if s.ProtectSystem == "strict" {
		add(Write, writable...)
	}
	for _, l := range []struct {
		access Access
		list   []string
	}{{Write, s.ReadWritePaths}, {Read, s.ReadOnlyPaths}, {Hidden, s.InaccessiblePaths}, {Empty, s.TemporaryFileSystem}} {
		for _, f := range l.list {
			f, optional := strings.CutPrefix(f, "-")
			p.Rules = append(p.Rules, Rule{path.Clean(strings.TrimPrefix(f, "+")), l.access, optional})
		}
	}
	for _, b := range s.Binds {
		p.Binds = append(p.Binds, Bind{b.From, b.To, b.ReadOnly, b.Optional})
	}
	p.Rules = order(p.Rules)
	return p
}

// procOptions are the mount options of ProtectProc= and ProcSubset=.
func procOptions(s unit.Sandbox) string {
	var list []string
	if s.ProtectProc != "" && s.ProtectProc != "default" {
		list = append(list, "hidepid="+s.ProtectProc)
	}
	if s.ProcSubset == "pid" {
		list = append(list, "subset=pid")
	}
	return strings.Join(list, ",")
}

// order puts the outer paths first. Of several rules for one path the strictest
// holds: hidden, then empty, then read, then write.
func order(rules []Rule) []Rule {
	rank := map[Access]int{Hidden: 0, Empty: 1, Read: 2, Write: 3}
	slices.SortStableFunc(rules, func(a, b Rule) int {
		if c := strings.Compare(a.Path, b.Path); c != 0 {
			return c
		}
		return rank[a.Access] - rank[b.Access]
	})
	return slices.CompactFunc(rules, func(a, b Rule) bool { return a.Path == b.Path })
}

// at returns the rule that decides for a path: the one with the longest path
// above it.
func at(rules []Rule, p string) (Rule, bool) {
	best, found := Rule{}, false
	for _, r := range rules {
		if (r.Path == "/" || r.Path == p || strings.HasPrefix(p, r.Path+"/")) && (!found || len(r.Path) > len(best.Path)) {
			best, found = r, true
		}
	}
	return best, found
}
