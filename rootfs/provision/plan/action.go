package plan

import (
	"bytes"
	"fmt"
	"io/fs"
	"strings"
)

// Action is one of the types below.
type Action interface {
	fmt.Stringer
	action()
}

// SetHostname names the machine, now and after a restart.
type SetHostname struct{ Name string }

// EnsureUser creates a user; of one that exists only the password is set.
type EnsureUser struct{ User User }

// User is an account as useradd takes it; the zero value of every field but
// Name is useradd's default.
type User struct {
	Name         string
	PasswordHash string // crypt(3); "" locks the password of a new user
	Gecos        string
	HomeDir      string
	NoCreateHome bool
	PrimaryGroup string
	Groups       []string
	NoUserGroup  bool
	System       bool
	NoLogInit    bool
	Shell        string
	UID          int // 0 = the next free one
}

// EnsureGroup makes a group; of one that exists its number is set, unless that
// is 0.
type EnsureGroup struct {
	Name   string
	GID    int // 0 = the next free one
	System bool
}

// RemoveUser removes an account that provisioning made, and its own group. Its
// home directory stays.
type RemoveUser struct{ Name string }

// AuthorizeKeys replaces the SSH keys that provisioning gave a user; none takes
// them away.
type AuthorizeKeys struct {
	User string
	Keys []string
	Set  string `json:",omitempty"` // of keys, by its name; "" is the executor's
}

// MakeDirectory makes a directory. Owner is user[:group], "" is root.
type MakeDirectory struct {
	Path  string
	Mode  fs.FileMode
	Owner string
}

// MakeLink makes a symbolic link, in place of a file or link that is there.
type MakeLink struct{ Path, Target string }

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

// Kind is what was at a path that is put back.
type Kind string

// The kinds.
const (
	Absent  Kind = "absent"
	Regular Kind = "file"
	Link    Kind = "link"
)

// PutBack makes a path what it was: a file, a link to Target, or nothing. It is
// how a change is taken back.
type PutBack struct {
	Path     string
	Kind     Kind
	Content  []byte      `json:",omitempty"`
	Mode     fs.FileMode `json:",omitempty"`
	UID, GID int
	Target   string `json:",omitempty"`
}

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
func (RemoveUser) action()       {}
func (PutBack) action()          {}
func (EnsureGroup) action()      {}
func (MakeDirectory) action()    {}
func (MakeLink) action()         {}

func (a SetHostname) String() string { return "set hostname " + a.Name }
func (a EnsureUser) String() string  { return "user " + a.User.Name }
func (a EnsureGroup) String() string { return "group " + a.Name }
func (a MakeDirectory) String() string {
	return fmt.Sprintf("directory %s (mode %04o)", a.Path, UnixMode(a.Mode))
}
func (a MakeLink) String() string   { return "link " + a.Path + " to " + a.Target }
func (a RemoveUser) String() string { return "remove user " + a.Name }
func (a PutBack) String() string    { return "put " + a.Path + " back (" + string(a.Kind) + ")" }
func (a AuthorizeKeys) String() string {
	return fmt.Sprintf("authorize %d keys for %s", len(a.Keys), a.User)
}
func (a WriteFile) String() string {
	owner := a.Owner
	if owner == "" {
		owner = "root"
	}
	return fmt.Sprintf("write %s (%d bytes, %s, mode %04o)", a.Path, len(a.Content), owner, UnixMode(a.Mode))
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

// FirstBoot makes the type that embeds it an Action: package ignition defines
// those that only a first boot takes, so that they are not in every program
// that knows this model.
type FirstBoot struct{}

func (FirstBoot) action() {}
