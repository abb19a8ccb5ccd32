package agent

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Reserve is the memory that a machine keeps for itself, in bytes: the system
// and its agents need it.
const Reserve = 256 << 20

// Resources reads what units may use from the kernel: thousandths of a
// processor (those that this process may run on), and bytes of memory less
// Reserve. proc is where procfs is, "/proc".
func Resources(proc string) (cpu, memory int64, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 0, 0, fmt.Errorf("count processors: %w", err)
	}
	data, err := os.ReadFile(proc + "/meminfo")
	if err != nil {
		return 0, 0, fmt.Errorf("measure memory: %w", err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) == 3 && f[0] == "MemTotal:" && f[2] == "kB" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return 0, 0, fmt.Errorf("measure memory: %w", err)
			}
			return int64(set.Count()) * 1000, max(0, kib<<10-Reserve), nil
		}
	}
	return 0, 0, fmt.Errorf("measure memory: %s/meminfo has no MemTotal", proc)
}
