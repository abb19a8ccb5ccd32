package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

var errInitrd = errors.New("the initrd is damaged, on the disk or in memory")

// checkInitrd ends the boot of a release whose initrd the kernel could not
// unpack to its end: it goes on with what came before the damage, and nothing
// but Secure Boot or GRUB looks at an initrd before.
func checkInitrd(_ context.Context, b *boot) error {
	why, err := damagedInitrd()
	switch {
	case err != nil || why == "":
		return err
	case b.info.Live != "":
		b.notice("the initrd is damaged: " + why)
		return nil
	}
	return because(errors.New("not all of it is there"), why)
}

// because adds to an error that files of the initrd are missing, if they are: an
// earlier step may be the first to miss one.
func because(err error, why string) error {
	if why == "" || errors.Is(err, errInitrd) {
		return err
	}
	return fmt.Errorf("%w; %w: %s", err, errInitrd, why)
}

// damagedInitrd is why the kernel could not unpack the initrd, "" if it could.
func damagedInitrd() (why string, err error) {
	const wholeLog = 3 // SYSLOG_ACTION_READ_ALL
	log := make([]byte, 1<<20)
	n, err := unix.Klogctl(wholeLog, log)
	if err != nil {
		return "", fmt.Errorf("read the kernel's log: %w", err)
	}
	return unpackProblem(log[:n]), nil
}

// unpackProblem is what the kernel's log says of the initrd (init/initramfs.c),
// "" if all of it was unpacked.
func unpackProblem(log []byte) string {
	_, rest, found := bytes.Cut(log, []byte("Initramfs unpacking failed: "))
	if !found {
		return ""
	}
	why, _, _ := bytes.Cut(rest, []byte("\n"))
	return string(why)
}
