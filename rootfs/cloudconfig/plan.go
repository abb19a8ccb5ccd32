package cloudconfig

import (
	"bytes"
	"fmt"
	"io/fs"
	"strings"
)

// Plan is what a document asks for: steps in the order in which they are
// applied, and messages about what it asks for that can not be done.
type Plan struct {
	Steps    []Step
	Problems Report
}

// Step is one action with its reason and the line of the document that it comes
// from; line 0 is an action that every run takes.
type Step struct {
	Action Action
	Reason string
	Line   int
}

// String returns the step as one line for a dry run. It holds no secret.
func (s Step) String() string {
	if s.Line == 0 {
		return fmt.Sprintf("%s (%s)", s.Action, s.Reason)
	}
	return fmt.Sprintf("%s (%s, line %d)", s.Action, s.Reason, s.Line)
}

// Action is one of the types below.
type Action interface {
	fmt.Stringer
	action()
}

// SetHostname names the machine, now and after a restart.
type SetHostname struct{ Name string }

// EnsureUser creates a user; of one that exists only the password is set.
type EnsureUser struct{ User User }

// AuthorizeKeys replaces the SSH keys that provisioning gave a user.
type AuthorizeKeys struct {
	User string
	Keys []string
}

// WriteFile replaces a file. Owner is user[:group], "" is root.
type WriteFile struct {
	Path    string
	Content []byte
	Mode    fs.FileMode
	Owner   string
}

// MergeEnvironment sets variables in a file of KEY=value lines and keeps its
// other lines.
type MergeEnvironment struct {
	Path   string
	Values map[string]string
}

// PlaceUnit writes a unit, network or drop-in file.
type PlaceUnit struct {
	Path    string
	Content []byte
	DropIn  bool
}

// Mode is 0600 for a file with the secret that machines join a cluster with,
// and 0644 for every other.
func (a PlaceUnit) Mode() fs.FileMode {
	if bytes.Contains(a.Content, []byte("ETCD_JOIN_TOKEN=")) {
		return 0o600
	}
	return 0o644
}

// MaskUnit replaces the file at Path by a link to /dev/null.
type MaskUnit struct{ Path string }

// UnmaskUnit removes the file at Path when it is a link to /dev/null or empty.
type UnmaskUnit struct{ Path string }

// EnableUnit enables a unit by its [Install] section.
type EnableUnit struct {
	Name    string
	Runtime bool
}

// ReloadUnits makes PID 1 read the unit files again.
type ReloadUnits struct{}

// RestartNetwork restarts systemd-networkd.service, for changed network files.
type RestartNetwork struct{}

// UnitCommand starts, stops, ... a unit and waits for it.
type UnitCommand struct{ Verb, Unit string }

// RunScript runs a script as a unit of its own.
type RunScript struct{ Content []byte }

func (SetHostname) action()      {}
func (EnsureUser) action()       {}
func (AuthorizeKeys) action()    {}
func (WriteFile) action()        {}
func (MergeEnvironment) action() {}
func (PlaceUnit) action()        {}
func (MaskUnit) action()         {}
func (UnmaskUnit) action()       {}
func (EnableUnit) action()       {}
func (ReloadUnits) action()      {}
func (RestartNetwork) action()   {}
func (UnitCommand) action()      {}
func (RunScript) action()        {}

func (a SetHostname) String() string { return "set hostname " + a.Name }
func (a EnsureUser) String() string  { return "user " + a.User.Name }
func (a AuthorizeKeys) String() string {
	return fmt.Sprintf("authorize %d keys for %s", len(a.Keys), a.User)
}
func (a WriteFile) String() string {
	owner := a.Owner
	if owner == "" {
		owner = "root"
	}
	return fmt.Sprintf("write %s (%d bytes, %s, mode %04o)", a.Path, len(a.Content), owner, unixMode(a.Mode))
}
func (a MergeEnvironment) String() string { return "envfile " + a.Path }
func (a PlaceUnit) String() string {
	if a.DropIn {
		return "dropin " + a.Path
	}
	return "place " + a.Path
}
func (a MaskUnit) String() string     { return "mask " + a.Path }
func (a UnmaskUnit) String() string   { return "unmask " + a.Path }
func (a EnableUnit) String() string   { return fmt.Sprintf("enable %s runtime=%t", a.Name, a.Runtime) }
func (ReloadUnits) String() string    { return "daemon-reload" }
func (RestartNetwork) String() string { return "restart systemd-networkd.service" }
func (a UnitCommand) String() string  { return a.Verb + " " + a.Unit }
func (a RunScript) String() string {
	first, _, _ := strings.Cut(string(a.Content), "\n")
	return fmt.Sprintf("run script %q", strings.TrimSpace(first))
}

// fileMode turns permission bits as chmod takes them into a FileMode, and
// unixMode turns them back.
func fileMode(bits uint64) fs.FileMode {
	mode := fs.FileMode(bits & 0o777)
	for _, special := range specialBits {
		if bits&special.bit != 0 {
			mode |= special.mode
		}
	}
	return mode
}

func unixMode(mode fs.FileMode) uint64 {
	bits := uint64(mode.Perm())
	for _, special := range specialBits {
		if mode&special.mode != 0 {
			bits |= special.bit
		}
	}
	return bits
}

var specialBits = []struct {
	bit  uint64
	mode fs.FileMode
}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}}
