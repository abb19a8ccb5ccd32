package spawn

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/unit"
)

// schedule applies the settings to the calling process, or the calling thread
// where the kernel knows threads only; that becomes the program. On failure the
// status says which part failed.
func schedule(s unit.Scheduling) (int, error) {
	if s.CoreDump != nil {
		text := "0x" + strconv.FormatInt(int64(*s.CoreDump), 16)
		if err := os.WriteFile("/proc/self/coredump_filter", []byte(text), 0); err != nil {
			return StatusLimits, fmt.Errorf("set what a core dump holds: %w", err)
		}
	}
	if s.Policy != nil || s.ResetOnFork {
		attr := unix.SchedAttr{Size: unix.SizeofSchedAttr}
		if s.Policy != nil {
			attr.Policy = uint32(*s.Policy)
		}
		if attr.Policy == unix.SCHED_FIFO || attr.Policy == unix.SCHED_RR {
			attr.Priority = uint32(max(s.Priority, 1))
		}
		if s.ResetOnFork {
			attr.Flags = unix.SCHED_FLAG_RESET_ON_FORK
		}
		if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
			return StatusScheduler, fmt.Errorf("set the scheduling policy: %w", err)
		}
	}
	if len(s.CPUs) > 0 {
		var set unix.CPUSet
		for _, c := range s.CPUs {
			set.Set(c)
		}
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return StatusAffinity, fmt.Errorf("set the CPU affinity: %w", err)
		}
	}
	if s.IOClass != nil || s.IOPriority != nil {
		class, priority := 2, 4
		if s.IOClass != nil {
			class = *s.IOClass
		}
		if s.IOPriority != nil {
			priority = *s.IOPriority
		}
		const process, classShift = 1, 13
		if _, _, err := unix.Syscall(unix.SYS_IOPRIO_SET, process, 0, uintptr(class<<classShift|priority)); err != 0 {
			return StatusIOPriority, fmt.Errorf("set the I/O priority: %w", err)
		}
	}
	if s.TimerSlack != nil {
		if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(*s.TimerSlack), 0, 0, 0); err != nil {
			return StatusLimits, fmt.Errorf("set the timer slack: %w", err)
		}
	}
	return 0, nil
}
