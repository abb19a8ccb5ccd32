package execcontext

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/sandbox"
	"github.com/coracle-os/coracle/rootfs/spawn"
	"github.com/coracle-os/coracle/rootfs/unit"
)

// sandbox plans what a command sees of the machine. Commands with "+" see all
// of it.
func (sys System) sandbox(r Request) (sandbox.Plan, error) {
	c := r.Context
	if r.Command.FullPrivilege || r.AsRoot {
		return sandbox.Plan{}, nil
	}
	var private, own []string
	if c.Sandbox.PrivateTmp {
		for _, base := range tmpBases {
			dir := sys.privateTmp(base, cmp.Or(r.TmpOf, r.Unit))
			if err := makePrivate(dir); err != nil {
				return sandbox.Plan{}, &spawn.Error{Status: spawn.StatusNamespace, Err: err}
			}
			private = append(private, filepath.Join(dir, "tmp"))
		}
	}
	for _, d := range directoriesOf(c) {
		for _, name := range d.names {
			name, _, _ = strings.Cut(name, ":")
			own = append(own, filepath.Join(d.base, name))
		}
	}
	return sandbox.New(c.Sandbox, private, own), nil
}

var tmpBases = []string{"/tmp", "/var/tmp"}

func (sys System) privateTmp(base, unitName string) string {
	return filepath.Join(sys.Root, base, "systemd-private-"+strings.ReplaceAll(unitName, "/", "-"))
}

// makePrivate makes a directory for root with one for everybody in it. Anybody
// may write above it, so one that is not root's is not taken.
func makePrivate(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make a private /tmp: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Getuid() || st.Mode&0o077 != 0 {
		return fmt.Errorf("make a private /tmp: %q is not a directory of root alone: remove it", dir)
	}
	inner := filepath.Join(dir, "tmp")
	if err := os.Mkdir(inner, 0o777); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make a private /tmp: %w", err)
	}
	if err := os.Chmod(inner, 0o777|os.ModeSticky); err != nil {
		return fmt.Errorf("make a private /tmp: %w", err)
	}
	return nil
}

// RemovePrivateTmp removes the directories of PrivateTmp=. It takes them away at
// once and returns a function that deletes what was in them, which may take
// long; nil if there is nothing.
func (sys System) RemovePrivateTmp(c *unit.ExecContext, unitName string) func() {
	if !c.Sandbox.PrivateTmp {
		return nil
	}
	var gone []string
	for _, base := range tmpBases {
		dir := sys.privateTmp(base, unitName)
		trash, err := os.MkdirTemp(filepath.Dir(dir), "systemd-private-gone-")
		if err == nil && os.Rename(dir, filepath.Join(trash, "old")) == nil {
			gone = append(gone, trash)
		} else if err == nil {
			_ = os.Remove(trash)
		}
	}
	return func() {
		for _, dir := range gone {
			_ = os.RemoveAll(dir)
		}
	}
}

// Numbers that systemd gives to users of DynamicUser=.
const (
	dynamicFirst = 61184
	dynamicLast  = 65519
)

// dynamic makes up a user for DynamicUser=. The number follows from the name, so
// that the unit's directories are its own again after a restart.
func (id *identity) dynamic(passwd [][]string, name string) {
	h := fnv.New32a()
	h.Write([]byte(name))
	const count = dynamicLast - dynamicFirst + 1
	n := int(h.Sum32() % count)
	for range count {
		id.uid = dynamicFirst + n
		if !taken(passwd, fmt.Sprint(id.uid)) {
			break
		}
		n = (n + 1) % count
	}
	id.name, id.gid, id.home, id.shell = name, id.uid, "/", "/usr/sbin/nologin"
}

func taken(passwd [][]string, uid string) bool {
	for _, e := range passwd {
		if len(e) > 2 && e[2] == uid {
			return true
		}
	}
	return false
}

// dynamicName is the name of the user of a unit without User=.
func dynamicName(unitName string) string {
	return strings.NewReplacer("@", "_", ".", "_").Replace(strings.TrimSuffix(unitName, ".service"))
}
