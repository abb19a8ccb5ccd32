package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/initrd/modules"
	"github.com/coracle-os/coracle/initrd/partition"
	"golang.org/x/sys/unix"
)

func sortedNames(table map[string]command) []string {
	return slices.Sorted(maps.Keys(table))
}

// commands are those of the debug shell.
func commands() map[string]command {
	return map[string]command{
		"ls":       {"list directories", list},
		"cat":      {"show files", concatenate},
		"dmesg":    {"the kernel's log", kernelLog},
		"disks":    {"the disks and their partitions", showDisks},
		"modprobe": {"load kernel modules: modprobe NAME...", loadByName},
		"mount":    {"mount TYPE DEVICE DIRECTORY, or what is mounted", mountByHand},
	}
}

func list(out io.Writer, args []string) error {
	if len(args) == 0 {
		args = []string{"/"}
	}
	for _, path := range args {
		entries, err := os.ReadDir(path)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if info, err := entry.Info(); err == nil {
				fmt.Fprintf(out, "%v %10d %s\n", info.Mode(), info.Size(), entry.Name())
			}
		}
	}
	return nil
}

func concatenate(out io.Writer, args []string) error {
	for _, path := range args {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, file)
		file.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func kernelLog(out io.Writer, _ []string) error {
	const readAll, size = 3, 1 << 20 // SYSLOG_ACTION_READ_ALL
	buffer := make([]byte, size)
	n, err := unix.Klogctl(readAll, buffer)
	if err != nil {
		return err
	}
	_, err = out.Write(buffer[:n])
	return err
}

func showDisks(out io.Writer, _ []string) error {
	disks, err := partition.Scan("/sys", "/dev")
	if err != nil {
		return err
	}
	for _, disk := range disks {
		fmt.Fprintf(out, "%s %d bytes", disk.Device, disk.Size)
		if disk.Problem != nil {
			fmt.Fprintf(out, ": %v", disk.Problem)
		}
		fmt.Fprintln(out)
		for _, part := range disk.Partitions {
			fmt.Fprintf(out, "  %2d %-16s %s %12d %s\n", part.Index, part.Name, part.UUID, part.Size, part.Device)
		}
	}
	return nil
}

func loadByName(_ io.Writer, args []string) error {
	loader, err := modules.New("/")
	if err != nil {
		return err
	}
	for _, name := range args {
		if err := loader.Load(name); err != nil {
			return err
		}
	}
	return nil
}

func mountByHand(out io.Writer, args []string) error {
	if len(args) != 3 {
		return concatenate(out, []string{"/proc/mounts"})
	}
	if err := os.MkdirAll(args[2], 0o755); err != nil {
		return err
	}
	if err := unix.Mount(args[1], args[2], args[0], unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount %s: %w", strings.Join(args, " "), err)
	}
	return nil
}
