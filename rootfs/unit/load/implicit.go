package load

import (
	"path"
	"strings"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/name"
)

// The units of systemd.special(7) that dependencies lead to.
const (
	sysinit  = "sysinit.target"
	basic    = "basic.target"
	shutdown = "shutdown.target"
	umount   = "umount.target"
	journal  = "systemd-journald.socket"
)

// implicit adds the dependencies that follow from a unit's settings; exists
// tells if there is a file for a unit.
func implicit(u *unit.Unit, exists func(string) bool) {
	addSlice(u)
	addTriggers(u)
	u.RequiresMountsFor = mountPaths(u)
	for _, p := range u.RequiresMountsFor {
		addMounts(u, p, exists)
	}
	if e := execContext(u); e != nil && u.Kind != unit.KindSocket {
		if e.Sandbox.PrivateTmp {
			u.Deps.Add(unit.Wants, "tmp.mount")
			u.Deps.Add(unit.After, "tmp.mount")
		}
		if usesJournal(e.StandardOutput) || usesJournal(e.StandardError) {
			u.Deps.Add(unit.After, journal)
		}
	}
	if u.DefaultDependencies {
		addDefaults(u)
	}
}

// addDefaults adds what DefaultDependencies=yes means for the kind.
func addDefaults(u *unit.Unit) {
	d := u.Deps
	early := func(before string) {
		d.Add(unit.Requires, sysinit)
		d.Add(unit.After, sysinit)
		if before != "" {
			d.Add(unit.Before, before)
		}
	}
	end := shutdown
	switch u.Kind {
	case unit.KindService:
		early("")
		d.Add(unit.After, basic)
	case unit.KindSocket:
		early("sockets.target")
	case unit.KindTimer:
		early("timers.target")
		if len(u.Timer.OnCalendar) > 0 {
			d.Add(unit.After, "time-set.target", "time-sync.target")
		}
	case unit.KindPath:
		early("paths.target")
	case unit.KindMount:
		if Extrinsic(u.Mount.Where) {
			return
		}
		addMountDefaults(u)
		end = umount
	case unit.KindAutomount:
		d.Add(unit.After, "local-fs-pre.target")
		d.Add(unit.Before, "local-fs.target")
		end = umount
	case unit.KindScope, unit.KindSlice, unit.KindTarget:
	default:
		return
	}
	if u.Name != end {
		d.Add(unit.Conflicts, end)
		d.Add(unit.Before, end)
	}
}

// Extrinsic tells of mount points that belong to the kernel or to stage 1:
// they stay until the end, and nothing waits for them.
func Extrinsic(where string) bool {
	switch where {
	case "/", "/usr", "/etc":
		return true
	}
	for _, dir := range []string{"/run/initramfs", "/proc", "/sys", "/dev"} {
		if where == dir || strings.HasPrefix(where, dir+"/") {
			return true
		}
	}
	return false
}

var networkTypes = map[string]bool{"nfs": true, "nfs4": true, "cifs": true, "smb3": true, "ceph": true, "glusterfs": true,
	"9p": true, "afs": true, "sshfs": true, "fuse.sshfs": true, "fuse.glusterfs": true, "ncpfs": true, "ocfs2": true, "gfs2": true}

func addMountDefaults(u *unit.Unit) {
	before, after := "local-fs.target", []string{"local-fs-pre.target"}
	if networkTypes[u.Mount.FSType] || strings.Contains(","+u.Mount.Options+",", ",_netdev,") {
		before, after = "remote-fs.target", []string{"remote-fs-pre.target", "network.target"}
		u.Deps.Add(unit.Wants, "network-online.target")
		u.Deps.Add(unit.After, "network-online.target")
	}
	u.Deps.Add(unit.After, after...)
	u.Deps.Add(unit.Before, before)
}

// addSlice ties a unit to the slice that its cgroup is in, and a slice to its
// parent.
func addSlice(u *unit.Unit) {
	slice := u.Slice
	if u.Kind == unit.KindSlice {
		slice = ParentSlice(u.Name)
	}
	if slice != "" {
		u.Deps.Add(unit.Requires, slice)
		u.Deps.Add(unit.After, slice)
	}
}

// ParentSlice returns the slice that a slice is in, "" for the root: "a.slice"
// for "a-b.slice".
func ParentSlice(slice string) string {
	base := name.Base(slice)
	switch i := strings.LastIndexByte(base, '-'); {
	case base == "-":
		return ""
	case i <= 0:
		return "-.slice"
	default:
		return base[:i] + ".slice"
	}
}

// addTriggers ties sockets, timers and paths to what they start.
func addTriggers(u *unit.Unit) {
	var to string
	switch u.Kind {
	case unit.KindSocket:
		if u.Socket.Accept {
			return
		}
		to = u.Socket.Service
	case unit.KindTimer:
		to = u.Timer.Unit
	case unit.KindPath:
		to = u.Path.Unit
	case unit.KindAutomount:
		to = name.WithKind(u.Name, "mount")
	default:
		return
	}
	u.Deps.Add(unit.Triggers, to)
	u.Deps.Add(unit.Before, to)
}

func execContext(u *unit.Unit) *unit.ExecContext {
	switch {
	case u.Service != nil:
		return &u.Service.ExecContext
	case u.Socket != nil:
		return &u.Socket.ExecContext
	case u.Mount != nil:
		return &u.Mount.ExecContext
	}
	return nil
}

func usesJournal(s unit.Stream) bool {
	return s.Kind == unit.StreamJournal || s.Kind == unit.StreamJournalConsole
}

// mountPaths returns the paths that must be mounted before the unit starts.
func mountPaths(u *unit.Unit) []string {
	list := append([]string(nil), u.RequiresMountsFor...)
	if e := execContext(u); e != nil {
		if strings.HasPrefix(e.WorkingDirectory, "/") && !e.WorkingDirectoryOptional {
			list = append(list, e.WorkingDirectory)
		}
		if e.RootDirectory != "" {
			list = append(list, e.RootDirectory)
		}
		list = append(list, below("/run", e.RuntimeDirectory)...)
		list = append(list, below("/var/lib", e.StateDirectory)...)
		list = append(list, below("/var/cache", e.CacheDirectory)...)
		list = append(list, below("/var/log", e.LogsDirectory)...)
		list = append(list, below("/etc", e.ConfigurationDirectory)...)
		if e.Sandbox.PrivateTmp {
			list = append(list, "/var/tmp")
		}
	}
	switch {
	case u.Socket != nil:
		for _, l := range u.Socket.Listen {
			if strings.HasPrefix(l.Address, "/") {
				list = append(list, l.Address)
			}
		}
	case u.Mount != nil:
		list = append(list, path.Dir(u.Mount.Where))
		if strings.HasPrefix(u.Mount.What, "/") && !strings.HasPrefix(u.Mount.What, "/dev/") {
			list = append(list, u.Mount.What)
		}
	case u.Automount != nil:
		list = append(list, path.Dir(u.Automount.Where))
	case u.Path != nil:
		for _, w := range u.Path.Watch {
			list = append(list, w.Path)
		}
	case u.Timer != nil:
		if u.Timer.Persistent {
			list = append(list, "/var/lib/systemd/timers")
		}
	}
	return list
}

func below(base string, dirs []string) []string {
	var list []string
	for _, d := range dirs {
		list = append(list, path.Join(base, d))
	}
	return list
}

// addMounts adds the mount units of a path and of the directories above it, as
// far as they have files; the root directory is always mounted.
func addMounts(u *unit.Unit, p string, exists func(string) bool) {
	for ; p != "/" && p != "."; p = path.Dir(p) {
		escaped, err := name.EscapePath(p)
		if err != nil {
			return
		}
		mount := escaped + ".mount"
		if mount != u.Name && exists(mount) {
			u.Deps.Add(unit.Requires, mount)
			u.Deps.Add(unit.After, mount)
		}
	}
}
