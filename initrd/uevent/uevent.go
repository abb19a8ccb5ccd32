// Package uevent hears of devices as the kernel finds them: the kernel's
// kobject uevents over netlink (Documentation/ABI/testing/sysfs-uevent,
// lib/kobject_uevent.c). Stage 1 uses it to load drivers and to look again for
// disks that appear late.
//
// The netlink library that we keep speaks rtnetlink and decodes its messages;
// uevents are plain text, so the socket is opened here.
package uevent

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Event is one message of the kernel about a device.
type Event struct {
	Action    string // "add", "change", "remove", "bind", ...
	DevPath   string // path below /sys
	Subsystem string // "block", "virtio", ...
	Modalias  string // what its driver is looked up by; "" if it has none
	DevName   string // name below /dev; "" if it has none
}

// Parse reads the text of one message. ok is false if it is not one of the
// kernel's, such as one of udev's.
func Parse(message []byte) (event Event, ok bool) {
	head, rest, found := bytes.Cut(message, []byte{0})
	if !found || !bytes.Contains(head, []byte("@/")) {
		return event, false
	}
	for field := range bytes.SplitSeq(rest, []byte{0}) {
		key, value, _ := bytes.Cut(field, []byte("="))
		switch string(key) {
		case "ACTION":
			event.Action = string(value)
		case "DEVPATH":
			event.DevPath = string(value)
		case "SUBSYSTEM":
			event.Subsystem = string(value)
		case "MODALIAS":
			event.Modalias = string(value)
		case "DEVNAME":
			event.DevName = string(value)
		}
	}
	return event, event.Action != ""
}

// Conn is a subscription to the kernel's events.
type Conn struct {
	fd     int
	buffer [16 << 10]byte
}

// ErrLost says that the kernel dropped events, because they came faster than
// they were read: look at all devices again.
var ErrLost = errors.New("the kernel dropped device events")

// Listen subscribes. Events from then on are kept until they are read.
func Listen() (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("listen for device events: %w", err)
	}
	// Group 1 is the kernel's own, group 2 udev's. The buffer is larger than
	// the default since a whole bus may be found at once.
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen for device events: %w", err)
	}
	return &Conn{fd: fd}, nil
}

// Next waits for an event, at most for the given time. ok is false if none
// came. The error is ErrLost or one of the socket's.
func (c *Conn) Next(wait time.Duration) (event Event, ok bool, err error) {
	deadline := time.Now().Add(wait)
	for {
		left := max(0, time.Until(deadline))
		// Rounded up, so that the last part of a millisecond is not a busy loop.
		millis := int((left + time.Millisecond - 1) / time.Millisecond)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}, millis)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return Event{}, false, fmt.Errorf("wait for device events: %w", err)
		}
		if n == 0 {
			return Event{}, false, nil
		}
		size, from, err := unix.Recvfrom(c.fd, c.buffer[:], unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			return Event{}, false, ErrLost
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return Event{}, false, fmt.Errorf("read a device event: %w", err)
		}
		// Only the kernel has port 0; other processes may send to the group.
		if peer, isNetlink := from.(*unix.SockaddrNetlink); !isNetlink || peer.Pid != 0 {
			continue
		}
		if event, ok := Parse(c.buffer[:size]); ok {
			return event, true, nil
		}
	}
}

// Close ends the subscription.
func (c *Conn) Close() error { return unix.Close(c.fd) }
