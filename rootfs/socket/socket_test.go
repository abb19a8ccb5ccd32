package socket

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/unit"
)

func TestListen(t *testing.T) {
	dir := t.TempDir()
	stream, fifo := filepath.Join(dir, "deep/er/s"), filepath.Join(dir, "f")
	cfg := &unit.Socket{SocketMode: 0o660, DirectoryMode: 0o700, RemoveOnStop: true, Symlinks: []string{filepath.Join(dir, "link")},
		Listen: []unit.Listen{
			{Kind: unit.ListenStream, Network: "unix", Address: stream},
			{Kind: unit.ListenDatagram, Network: "unix", Address: "@coracle-test-socket"},
			{Kind: unit.ListenStream, Network: "ip4", Address: "127.0.0.1:0"},
			{Kind: unit.ListenStream, Network: "ip", Address: ":0"},
			{Kind: unit.ListenFIFO, Address: fifo},
		}}
	fds, err := Open(cfg, Owner{UID: os.Getuid(), GID: os.Getgid()})
	if err != nil {
		t.Fatal(err)
	}
	if len(fds) != len(cfg.Listen) {
		t.Fatalf("%d descriptors", len(fds))
	}
	if info, err := os.Stat(stream); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", info, err)
	}
	if info, err := os.Stat(filepath.Dir(stream)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	w, err := NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	go w.Run()
	ready := make(chan struct{}, 8)
	for range 2 { // each Arm reports once
		if err := w.Arm(fds[0], func() { ready <- struct{}{} }); err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("unix", filepath.Join(dir, "link"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		select {
		case <-ready:
		case <-time.After(20 * time.Second):
			t.Fatal("no report")
		}
	}
	select {
	case <-ready:
		t.Error("a report without Arm")
	default:
	}
	w.Disarm(fds[0])
	Close(fds)
	Remove(cfg)
	for _, p := range []string{stream, cfg.Symlinks[0]} {
		if _, err := os.Lstat(p); err == nil {
			t.Errorf("%s is still there", p)
		}
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	cfg := &unit.Socket{SocketMode: 0o666, Listen: []unit.Listen{{Kind: unit.ListenStream, Network: "unix", Address: path}}}
	for range 2 {
		fds, err := Open(cfg, Owner{})
		if err != nil {
			t.Fatal(err)
		}
		Close(fds)
	}
}

func TestFailuresLeaveNothingOpen(t *testing.T) {
	before := open(t)
	tests := map[string]unit.Listen{
		"no such address":  {Kind: unit.ListenStream, Network: "ip4", Address: "192.0.2.1:80"},
		"bad port":         {Kind: unit.ListenStream, Network: "ip4", Address: "127.0.0.1:http"},
		"unsupported kind": {Kind: unit.ListenNetlink, Address: "route"},
		"file in the way":  {Kind: unit.ListenFIFO, Address: "/etc/passwd"},
	}
	for name, l := range tests {
		cfg := &unit.Socket{Listen: []unit.Listen{{Kind: unit.ListenStream, Network: "unix", Address: "@coracle-test-fail"}, l}}
		if _, err := Open(cfg, Owner{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if after := open(t); after != before {
		t.Errorf("%d descriptors open, %d before", after, before)
	}
}

// open counts this process's open sockets and pipes.
func open(t *testing.T) int {
	t.Helper()
	n := 0
	for fd := range 1024 {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK {
			n++
		}
	}
	return n
}
