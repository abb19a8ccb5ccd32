package pid1

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// trim gives back memory that start-up or a reload needed and that a resting
// PID 1 does not: what is free in the heap, and the pages of the program's own
// code and constants. The kernel keeps those in its page cache, where PID 1
// finds again the few that it goes on using; only they count as its memory.
func trim() error {
	debug.FreeOSMemory()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("give back memory: %w", err)
	}
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("give back memory: %w", err)
	}
	for _, r := range constantRanges(string(maps), program) {
		// The system call itself: the slice that unix.Madvise wants would have
		// to be made of memory that is not Go's.
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, r[0], r[1]-r[0], unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("give back memory: madvise: %w", errno)
		}
	}
	return nil
}

// constantRanges returns the ranges of memory, from and to, at which maps (the
// text of proc_pid_maps(5)) has the program's file so that it cannot be written
// to: what is dropped of them comes back from the file unchanged.
func constantRanges(maps, program string) [][2]uintptr {
	var ranges [][2]uintptr
	for line := range strings.Lines(maps) {
		fields := strings.Fields(line)
		if len(fields) != 6 || fields[5] != program || fields[1] != "r-xp" && fields[1] != "r--p" {
			continue
		}
		var r [2]uintptr
		if _, err := fmt.Sscanf(fields[0], "%x-%x", &r[0], &r[1]); err == nil && r[0] < r[1] {
			ranges = append(ranges, r)
		}
	}
	return ranges
}
