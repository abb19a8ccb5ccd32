package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/coracle-os/coracle/rootfs/unit"
)

// Apply writes a unit's resource settings to its group. memory and tasks are
// the totals (bytes, processes) that relative values refer to. It sets all it
// can; the errors of the others are joined, ErrNoController among them when a
// controller is not there.
func (g Group) Apply(c unit.Cgroup, memory, tasks uint64) error {
	return g.apply(c, memory, tasks, false)
}

// Reapply is Apply for a group that has settings already: those that c does not
// have become the kernel's.
func (g Group) Reapply(c unit.Cgroup, memory, tasks uint64) error {
	return g.apply(c, memory, tasks, true)
}

func (g Group) apply(c unit.Cgroup, memory, tasks uint64, again bool) error {
	var errs []error
	set := func(file string, v unit.Value, of uint64, prefix string) {
		if v.Set {
			errs = append(errs, g.Set(file, prefix+number(v, of)))
		} else if again {
			_ = g.reset(file)
		}
	}
	set("cpu.weight", c.CPUWeight, 0, "")
	if c.CPUQuota.Set {
		errs = append(errs, g.Set("cpu.max", number(c.CPUQuota, 0)+" 100000"))
	} else if again {
		_ = g.reset("cpu.max")
	}
	set("memory.min", c.MemoryMin, memory, "")
	set("memory.low", c.MemoryLow, memory, "")
	set("memory.high", c.MemoryHigh, memory, "")
	set("memory.max", c.MemoryMax, memory, "")
	set("memory.swap.max", c.MemorySwapMax, memory, "")
	set("pids.max", c.TasksMax, tasks, "")
	set("io.weight", c.IOWeight, 0, "default ")
	if c.AllowedCPUs != "" {
		errs = append(errs, g.Set("cpuset.cpus", c.AllowedCPUs))
	}
	return errors.Join(errs...)
}

// defaults are what the kernel gives a new group.
var defaults = map[string]string{"cpu.weight": "100", "cpu.max": "max 100000", "memory.min": "0", "memory.low": "0",
	"memory.high": "max", "memory.max": "max", "memory.swap.max": "max", "pids.max": "max", "io.weight": "default 100"}

// reset writes the kernel's default to a file that has something else, from the
// unit's text before the present one. A file that is not there needs nothing.
func (g Group) reset(file string) error {
	b, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil || strings.HasPrefix(strings.TrimSpace(string(b)), defaults[file]) {
		return nil
	}
	return g.Set(file, defaults[file])
}

// number renders a value as the kernel's files want it.
func number(v unit.Value, of uint64) string {
	switch {
	case v.Infinity:
		return "max"
	case v.Permyriad:
		return strconv.FormatUint(of/10000*v.N+of%10000*v.N/10000, 10)
	default:
		return strconv.FormatUint(v.N, 10)
	}
}
