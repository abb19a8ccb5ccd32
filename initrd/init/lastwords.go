package main

import (
	"os"

	"github.com/coracle-os/coracle/initrd/modules"
)

// keepLastWords has the kernel store its log in the firmware's memory (pstore)
// when the machine restarts, so that the release that the loader falls back to
// can tell why this one failed. It is the last thing before a restart; nothing
// depends on it, and not all firmware can.
func keepLastWords() error {
	loader, err := modules.New("/")
	if err != nil {
		return err
	}
	if err := loader.Load("efi_pstore"); err != nil {
		return err
	}
	return os.WriteFile("/sys/module/printk/parameters/always_kmsg_dump", []byte("Y"), 0o644)
}
