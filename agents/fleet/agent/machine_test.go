package agent

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestResources(t *testing.T) {
	cpu, memory, err := Resources("/proc")
	if err != nil || cpu != int64(runtime.NumCPU())*1000 || memory <= 0 {
		t.Errorf("this machine has %d, %d, %v", cpu, memory, err)
	}
	for text, want := range map[string]int64{"MemTotal:        1048576 kB\n": 1<<30 - Reserve, "MemTotal: 1000 kB\n": 0, "MemFree: 5 kB\n": -1, "MemTotal: x kB\n": -1, "": -1} {
		proc := t.TempDir()
		if err := os.WriteFile(filepath.Join(proc, "meminfo"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, memory, err := Resources(proc)
		if (err != nil) != (want < 0) || err == nil && memory != want {
			t.Errorf("%q: %d, %v, want %d", text, memory, err, want)
		}
	}
}
