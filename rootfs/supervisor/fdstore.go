package supervisor

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/service"
)

// maxFDs is how many descriptors one notification can carry (SCM_MAX_FD).
const maxFDs = 253

// keptFD is a descriptor that PID 1 keeps for a service over its restarts
// (FileDescriptorStoreMax=, sd_pid_notify_with_fds(3)).
type keptFD struct {
	fd   int
	name string
}

// keepFDs stores or removes descriptors as a notification asks. Descriptors
// that cannot be stored are closed.
func (d *serviceDriver) keepFDs(m message) {
	store, remove, name := false, false, "stored"
	for _, f := range m.fields {
		switch f[0] {
		case "FDSTORE":
			store = f[1] == "1"
		case "FDSTOREREMOVE":
			remove = f[1] == "1"
		case "FDNAME":
			if validFDName(f[1]) {
				name = f[1]
			}
		}
	}
	if remove {
		d.removeFDs(name)
	}
	if store && len(d.kept)+len(m.fds) > d.cfg.FileDescriptorStoreMax {
		d.purgeFDs()
	}
	for _, fd := range m.fds {
		if !store || len(d.kept) >= d.cfg.FileDescriptorStoreMax || d.keeps(fd) {
			unix.Close(fd)
			continue
		}
		d.kept = append(d.kept, keptFD{fd, name})
		d.watchFD(fd)
	}
}

// watchFD lets go of a stored descriptor when its other end is closed; while the
// service is down that waits, because what was sent last may not be read yet.
// Files cannot be watched, and need not be.
func (d *serviceDriver) watchFD(fd int) {
	_ = d.s.cfg.Sockets.ArmHangup(fd, func() {
		d.s.Post(func() {
			if d.m.State() == service.Running {
				d.purgeFDs()
			}
		})
	})
}

// close lets go of a stored descriptor.
func (d *serviceDriver) close(fd int) {
	d.s.cfg.Sockets.Disarm(fd)
	unix.Close(fd)
}

// keeps reports whether the same open file is stored already.
func (d *serviceDriver) keeps(fd int) bool {
	var a, b unix.Stat_t
	if unix.Fstat(fd, &a) != nil {
		return true // of no use
	}
	for _, k := range d.kept {
		if unix.Fstat(k.fd, &b) == nil && a.Dev == b.Dev && a.Ino == b.Ino && a.Mode&unix.S_IFMT == unix.S_IFSOCK {
			return true
		}
	}
	return false
}

func validFDName(s string) bool {
	return s != "" && len(s) <= 255 && !strings.ContainsAny(s, ":\x00\n")
}

func (d *serviceDriver) removeFDs(name string) {
	kept := d.kept[:0]
	for _, k := range d.kept {
		if k.name == name {
			d.close(k.fd)
		} else {
			kept = append(kept, k)
		}
	}
	d.kept = kept
}

// purgeFDs closes stored descriptors whose other end is gone.
func (d *serviceDriver) purgeFDs() {
	kept := d.kept[:0]
	for _, k := range d.kept {
		p := []unix.PollFd{{Fd: int32(k.fd)}}
		if n, err := unix.Poll(p, 0); err == nil && n == 1 && p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0 {
			d.close(k.fd)
		} else {
			kept = append(kept, k)
		}
	}
	d.kept = kept
}

// dropFDs closes everything that is stored, when the service is down for good.
func (d *serviceDriver) dropFDs() {
	for _, k := range d.kept {
		d.close(k.fd)
	}
	d.kept = nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
