// Package autofs makes mount points that ask for their file system when they are
// first used: the kernel's autofs, protocol 5, direct mounts; kernel
// documentation filesystems/autofs.rst. PID 1 uses it for automount units.
//
// Who is in the process group of the program that mounted it is not held up by
// the mount point, so it can mount over it. The file system is talked to through
// its root directory, not through /dev/autofs, which containers do not have.
// Left out on purpose: indirect mounts (maps), which automount units do not use.
package autofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of linux/auto_fs.h.
const (
	iocReady       = 0x9360
	iocFail        = 0x9361
	iocSetTimeout  = 0xc0089364
	iocExpireMulti = 0x40049366
)

// packetSize is sizeof(struct autofs_v5_packet) on machines with 64 bits.
const packetSize = 304

// Types of packets.
const (
	missingDirect = 5
	expireDirect  = 6
)

// Request is something that the kernel waits for until Ready or Fail is called
// with its token.
type Request struct {
	Token  uint32
	Expire bool // it is idle and is to be unmounted; otherwise somebody uses it and it is to be mounted
	PID    int  // who uses it
}

// Point is one mount point.
type Point struct {
	Where string
	pipe  *os.File
	root  int
}

// Mount makes a mount point at a directory. idle, when positive, is after how
// long without use Expire finds it idle; the kernel counts in seconds.
func Mount(where string, idle time.Duration) (*Point, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("automount %q: %w", where, err)
	}
	defer w.Close()
	fd, err := duplicate(w) // os.File would hand out one that blocks
	if err != nil {
		r.Close()
		return nil, err
	}
	defer unix.Close(fd)
	options := fmt.Sprintf("fd=%d,minproto=5,maxproto=5,direct", fd)
	if err := unix.Mount("systemd-1", where, "autofs", 0, options); err != nil {
		r.Close()
		return nil, fmt.Errorf("automount %q: %w", where, err)
	}
	p := &Point{Where: where, pipe: r}
	p.root, err = unix.Open(where, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		seconds := int64((idle + time.Second - 1) / time.Second)
		err = p.ioctlPointer(iocSetTimeout, unsafe.Pointer(&seconds))
	}
	if err != nil {
		r.Close()
		_ = unix.Unmount(where, unix.MNT_DETACH)
		return nil, fmt.Errorf("automount %q: %w", where, err)
	}
	return p, nil
}

func duplicate(f *os.File) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd = -1
	if cerr := raw.Control(func(have uintptr) { fd, err = unix.FcntlInt(have, unix.F_DUPFD_CLOEXEC, 3) }); cerr != nil {
		return -1, cerr
	}
	return fd, err
}

// Inherit takes over a mount point from the program that was executed before;
// pipe and root are what FDs returned there.
func Inherit(where string, pipe, root int) *Point {
	_ = unix.SetNonblock(pipe, true)
	return &Point{Where: where, pipe: os.NewFile(uintptr(pipe), "autofs"), root: root}
}

// FDs returns the descriptors that make up the point.
func (p *Point) FDs() (pipe, root int) {
	if raw, err := p.pipe.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { pipe = int(fd) })
	}
	return pipe, p.root
}

// Run hands over requests until the point is closed or unmounted by somebody
// else, which is io.EOF.
func (p *Point) Run(handle func(Request)) error {
	b := make([]byte, packetSize)
	for {
		if _, err := io.ReadFull(p.pipe, b); err != nil {
			return err
		}
		order := binary.NativeEndian
		r := Request{Token: order.Uint32(b[8:]), PID: int(order.Uint32(b[32:]))}
		switch order.Uint32(b[4:]) {
		case missingDirect:
		case expireDirect:
			r.Expire = true
		default:
			return fmt.Errorf("automount %q: the kernel sent a packet of type %d", p.Where, order.Uint32(b[4:]))
		}
		handle(r)
	}
}

// Ready lets those go on who wait for the request with the token.
func (p *Point) Ready(token uint32) error { return p.ioctl(iocReady, uintptr(token)) }

// Fail lets them go on with an error (ENOENT); a mount point that was to expire
// stays in use.
func (p *Point) Fail(token uint32) error { return p.ioctl(iocFail, uintptr(token)) }

// Expire asks the kernel to request the unmounting if the point is idle, and
// returns when that request was answered; false if it is in use.
func (p *Point) Expire() (bool, error) {
	how := int32(0)
	err := p.ioctlPointer(iocExpireMulti, unsafe.Pointer(&how))
	if errors.Is(err, unix.EAGAIN) {
		return false, nil
	}
	return err == nil, err
}

func (p *Point) ioctl(request uint, arg uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(p.root), uintptr(request), arg); errno != 0 {
		return errno
	}
	return nil
}

func (p *Point) ioctlPointer(request uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(p.root), uintptr(request), uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// Close lets go of the point; the mount stays.
func (p *Point) Close() {
	p.pipe.Close()
	unix.Close(p.root)
}

// Unmount takes away the point and all that is mounted on it, whether or not it
// is in use, and closes it.
func (p *Point) Unmount() error {
	defer p.Close()
	for {
		err := unix.Unmount(p.Where, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		switch {
		case errors.Is(err, unix.EINVAL): // nothing is mounted there any more
			return nil
		case err != nil:
			return fmt.Errorf("unmount %q: %w", p.Where, err)
		}
	}
}
