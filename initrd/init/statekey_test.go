package main

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/initrd/cmdline"
)

func TestReadEncryption(t *testing.T) {
	for line, want := range map[string]struct {
		wanted  bool
		notices int
	}{"quiet": {}, "coracle.encrypt=tpm2": {true, 0}, "coracle.encrypt": {false, 1}, "coracle.encrypt=luks": {false, 1}} {
		b := &boot{console: &console{out: os.Stderr}}
		b.readEncryption(cmdline.Parse(line))
		if b.lock.wanted != want.wanted || len(b.info.Notices) != want.notices {
			t.Errorf("%q: %t, notices %q", line, b.lock.wanted, b.info.Notices)
		}
	}
}

// TestHide types on a terminal of its own.
func TestHide(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	echoes := func() bool {
		now, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return now.Lflag&unix.ECHO != 0
	}
	show := hide(terminal)
	if echoes() {
		t.Error("what is typed is shown")
	}
	if show(); !echoes() {
		t.Error("it is not shown again")
	}
}
