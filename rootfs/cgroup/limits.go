package cgroup

import (
	"errors"
	"strconv"

	"github.com/coracle-os/coracle/rootfs/unit"
)

// Apply writes a unit's resource settings to its group. memory and tasks are
// the totals (bytes, processes) that relative values refer to. It sets all it
// can; the errors of the others are joined, ErrNoController among them when a
// controller is not there.
func (g Group) Apply(c unit.Cgroup, memory, tasks uint64) error {
	var errs []error
	set := func(file string, v unit.Value, of uint64, prefix string) {
		if v.Set {
			errs = append(errs, g.Set(file, prefix+number(v, of)))
		}
	}
	set("cpu.weight", c.CPUWeight, 0, "")
	if c.CPUQuota.Set {
		errs = append(errs, g.Set("cpu.max", number(c.CPUQuota, 0)+" 100000"))
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
