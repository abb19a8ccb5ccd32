// Package mount mounts and unmounts what mount units say, and tells what is
// mounted; systemd.mount(5), mount(8) for the options. PID 1 uses it.
//
// It calls the kernel itself: the root has no mount program, and PID 1 starts
// no helpers. So a file system that needs one (mount.nfs, mount.cifs, fuse) has
// to be given the options that the kernel takes, and "loop" is refused.
package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/unit"
)

// flags are the options that the kernel has a bit for; a negative one clears it.
var flags = map[string]struct {
	bit uintptr
	off bool
}{
	"ro": {bit: unix.MS_RDONLY}, "rw": {unix.MS_RDONLY, true}, "nosuid": {bit: unix.MS_NOSUID}, "suid": {unix.MS_NOSUID, true},
	"nodev": {bit: unix.MS_NODEV}, "dev": {unix.MS_NODEV, true}, "noexec": {bit: unix.MS_NOEXEC}, "exec": {unix.MS_NOEXEC, true},
	"sync": {bit: unix.MS_SYNCHRONOUS}, "async": {unix.MS_SYNCHRONOUS, true}, "dirsync": {bit: unix.MS_DIRSYNC},
	"noatime": {bit: unix.MS_NOATIME}, "atime": {unix.MS_NOATIME, true}, "nodiratime": {bit: unix.MS_NODIRATIME},
	"diratime": {unix.MS_NODIRATIME, true}, "relatime": {bit: unix.MS_RELATIME}, "norelatime": {unix.MS_RELATIME, true},
	"strictatime": {bit: unix.MS_STRICTATIME}, "nostrictatime": {unix.MS_STRICTATIME, true}, "lazytime": {bit: unix.MS_LAZYTIME},
	"nolazytime": {unix.MS_LAZYTIME, true}, "silent": {bit: unix.MS_SILENT}, "loud": {unix.MS_SILENT, true},
	"bind": {bit: unix.MS_BIND}, "rbind": {bit: unix.MS_BIND | unix.MS_REC}, "move": {bit: unix.MS_MOVE}, "remount": {bit: unix.MS_REMOUNT},
	"mand": {bit: unix.MS_MANDLOCK}, "nomand": {unix.MS_MANDLOCK, true},
}

// propagations are the options that are set by a call of their own.
var propagations = map[string]uintptr{
	"shared": unix.MS_SHARED, "rshared": unix.MS_SHARED | unix.MS_REC, "private": unix.MS_PRIVATE, "rprivate": unix.MS_PRIVATE | unix.MS_REC,
	"slave": unix.MS_SLAVE, "rslave": unix.MS_SLAVE | unix.MS_REC, "unbindable": unix.MS_UNBINDABLE, "runbindable": unix.MS_UNBINDABLE | unix.MS_REC,
}

// forOthers are options for programs that read fstab.
var forOthers = []string{"", "defaults", "auto", "noauto", "user", "nouser", "users", "nousers", "owner", "noowner", "group", "nogroup", "_netdev", "nofail", "fail"}

// Plan is what one mount takes: one call of mount(2), and where a bit is set
// the others after it.
type Plan struct {
	Source, Target, Type string
	Flags                uintptr
	Data                 string
	Remount              uintptr // flags of a bind mount, which need a call of their own
	Propagation          uintptr
}

// Parse plans a mount. devices is "/dev", where tags are looked for.
func Parse(m *unit.Mount, devices string) (Plan, error) {
	p := Plan{Target: m.Where, Type: m.FSType}
	var data []string
	for _, o := range strings.Split(m.Options, ",") {
		name, _, _ := strings.Cut(o, "=")
		f, known := flags[o]
		switch {
		case known && f.off:
			p.Flags &^= f.bit
		case known:
			p.Flags |= f.bit
		case propagations[o] != 0:
			p.Propagation = propagations[o]
		case name == "loop":
			return p, errors.New("the option \"loop\" is not supported: set up the loop device in a service, and mount that")
		case slices.Contains(forOthers, o), name == "comment", strings.HasPrefix(o, "x-"):
		default:
			data = append(data, o)
		}
	}
	p.Data = strings.Join(data, ",")
	if p.Flags&unix.MS_BIND != 0 {
		if rest := p.Flags &^ (unix.MS_BIND | unix.MS_REC); rest != 0 {
			p.Remount = rest | unix.MS_BIND | unix.MS_REMOUNT
		}
		p.Flags &= unix.MS_BIND | unix.MS_REC
		p.Type = ""
	}
	var err error
	p.Source, err = source(m.What, devices)
	return p, err
}

// source finds the device of a tag.
func source(what, devices string) (string, error) {
	for tag, dir := range map[string]string{"UUID": "by-uuid", "LABEL": "by-label", "PARTUUID": "by-partuuid", "PARTLABEL": "by-partlabel"} {
		if value, ok := strings.CutPrefix(what, tag+"="); ok {
			link := filepath.Join(devices, "disk", dir, strings.Trim(value, "\""))
			if _, err := os.Stat(link); err != nil {
				return "", fmt.Errorf("find the device of %q: %w: name the device itself in What=", what, err)
			}
			return link, nil
		}
	}
	return what, nil
}

// Do carries the plan out. types are the file systems to try where none is
// named.
func (p Plan) Do(types []string) error {
	err := p.first(types)
	if err != nil {
		return err
	}
	if p.Remount != 0 {
		if err := unix.Mount("", p.Target, "", p.Remount, ""); err != nil {
			return fmt.Errorf("set the options of the bind mount on %q: %w", p.Target, err)
		}
	}
	if p.Propagation != 0 {
		if err := unix.Mount("", p.Target, "", p.Propagation, ""); err != nil {
			return fmt.Errorf("set the propagation of %q: %w", p.Target, err)
		}
	}
	return nil
}

func (p Plan) first(types []string) error {
	if p.Type != "" && p.Type != "auto" || p.Flags&(unix.MS_BIND|unix.MS_MOVE|unix.MS_REMOUNT) != 0 {
		types = []string{p.Type}
	}
	err := errors.New("no file system of this kernel is for devices")
	for _, t := range types {
		if err = unix.Mount(p.Source, p.Target, t, p.Flags, p.Data); err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINVAL) && len(types) > 1 {
			break
		}
	}
	hint := ""
	switch {
	case errors.Is(err, unix.ENODEV):
		hint = fmt.Sprintf(": this kernel has no file system %q", p.Type)
	case errors.Is(err, unix.EINVAL):
		hint = ": look in the kernel's log (journalctl -k); it may not know an option, or hold another file system"
	}
	return fmt.Errorf("mount %q on %q: %w%s", p.Source, p.Target, err, hint)
}

// Types returns the file systems for devices from the text of
// /proc/filesystems.
func Types(filesystems string) []string {
	var list []string
	for line := range strings.Lines(filesystems) {
		if t, ok := strings.CutPrefix(line, "\t"); ok {
			list = append(list, strings.TrimSpace(t))
		}
	}
	return list
}

// Undo unmounts all that is mounted at a path.
func Undo(m *unit.Mount, mounted func() bool) error {
	how := unix.UMOUNT_NOFOLLOW
	if m.LazyUnmount {
		how |= unix.MNT_DETACH
	}
	if m.ForceUnmount {
		how |= unix.MNT_FORCE
	}
	const layers = 32
	for range layers {
		if err := unix.Unmount(m.Where, how); err != nil {
			return fmt.Errorf("unmount %q: %w", m.Where, err)
		}
		if !mounted() {
			return nil
		}
	}
	return fmt.Errorf("unmount %q: more than %d file systems are mounted there", m.Where, layers)
}

// Entry is something that is mounted.
type Entry struct{ Where, Type, What, Options string }

// Table reads the text of /proc/self/mountinfo.
func Table(text string) []Entry {
	var list []Entry
	for line := range strings.Lines(text) {
		before, after, _ := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if len(f) >= 6 && len(g) >= 2 {
			options := f[5]
			if len(g) > 2 { // those of the file system, less what the mount says by itself
				for _, o := range strings.Split(g[2], ",") {
					if !slices.Contains(strings.Split(options, ","), o) && o != "rw" {
						options += "," + o
					}
				}
			}
			list = append(list, Entry{unescape(f[4]), g[0], unescape(g[1]), options})
		}
	}
	return list
}

// unescape undoes the octal escapes of the kernel's tables.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
