package tmpfiles

import (
	"fmt"
	"os"
	"strings"

	"github.com/coracle-os/coracle/rootfs/user"
	"golang.org/x/sys/unix"
)

// adjustDefault sets mode and owner of something that this package may have
// made just now; with no mode in the line a new one gets fallback.
func (a applier) adjustDefault(item Item, path string, fallback uint32, fresh bool) error {
	if item.Mode == nil && fresh {
		item.Mode = &fallback
	}
	return a.adjust(item, path, fresh)
}

// adjust sets the mode and owner that the line names, through a file
// descriptor so that no link is followed.
func (a applier) adjust(item Item, path string, fresh bool) error {
	if item.Fresh && !fresh {
		return nil
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", path, err)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("look at %q: %w", path, err)
	}
	if err := a.own(item, fd, stat, fresh); err != nil {
		return fmt.Errorf("set owner of %q: %w", path, err)
	}
	if item.Mode == nil || stat.Mode&unix.S_IFMT == unix.S_IFLNK {
		return nil
	}
	mode := *item.Mode
	if item.Masked {
		mode = masked(mode, stat.Mode)
	}
	if stat.Mode&0o7777 == mode && !fresh {
		return nil
	}
	if err := os.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), fileMode(mode)); err != nil {
		return fmt.Errorf("set mode of %q: %w", path, err)
	}
	return nil
}

// own changes the owner when the line names one, or when this is a new file.
func (a applier) own(item Item, fd int, stat unix.Stat_t, fresh bool) error {
	uid, gid := -1, -1
	if item.User != "" {
		account, err := user.Lookup(a.root, item.User)
		if err != nil {
			return err
		}
		uid = account.UID
	}
	if item.Group != "" {
		id, err := user.LookupGroup(a.root, item.Group)
		if err != nil {
			return err
		}
		gid = id
	}
	if (uid < 0 || uint32(uid) == stat.Uid) && (gid < 0 || uint32(gid) == stat.Gid) {
		return nil
	}
	return unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH)
}

// masked is tmpfiles.d(5)'s "~": execute bits only where the file has some (or
// is a directory), write bits only if it has some, special bits for directories.
func masked(mode, present uint32) uint32 {
	directory := present&unix.S_IFMT == unix.S_IFDIR
	if present&0o111 == 0 && !directory {
		mode &^= 0o111
	}
	if present&0o222 == 0 {
		mode &^= 0o222
	}
	if present&0o444 == 0 {
		mode &^= 0o444
	}
	if !directory {
		mode &^= 0o7000
	}
	return mode
}

// fileMode translates the special bits of chmod(2) to Go's.
func fileMode(mode uint32) os.FileMode {
	m := os.FileMode(mode & 0o777)
	for bit, goBit := range map[uint32]os.FileMode{unix.S_ISUID: os.ModeSetuid, unix.S_ISGID: os.ModeSetgid, unix.S_ISVTX: os.ModeSticky} {
		if mode&bit != 0 {
			m |= goBit
		}
	}
	return m
}

// expand replaces the specifiers of a path or an argument.
func (e Env) expand(s string) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	values := map[byte]string{'b': e.BootID, 'm': e.MachineID, 'H': e.Host, 'v': e.Kernel, '%': "%",
		'S': "/var/lib", 'C': "/var/cache", 'L': "/var/log", 't': "/run", 'T': "/tmp", 'V': "/var/tmp"}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		value, ok := values[s[i]]
		if !ok || value == "" {
			return "", fmt.Errorf("specifier %%%c in %q has no value here", s[i], s)
		}
		b.WriteString(value)
	}
	return b.String(), nil
}
