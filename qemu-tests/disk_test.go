package qemutests

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/qemu-tests/machine"
)

// diskCopy makes a sparse raw copy of the image for a test that damages it
// with the usual tools.
func diskCopy(t testing.TB) string {
	t.Helper()
	disk := filepath.Join(filepath.Dir(machine.Image(t)), "qemu-tests", strings.ReplaceAll(t.Name(), "/", "-")+".raw")
	must(t, os.MkdirAll(filepath.Dir(disk), 0o755))
	t.Cleanup(func() { os.Remove(disk) })
	run(t, "cp", "--sparse=always", "--reflink=auto", machine.Image(t), disk)
	return disk
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// partition is one line of sfdisk's table, in 512-byte sectors.
type partition struct {
	Number      int
	Start, Size int64
	Name, UUID  string
}

func findPartition(t testing.TB, disk, name string) partition {
	t.Helper()
	var table struct {
		PartitionTable struct {
			Partitions []partition
		}
	}
	if err := json.Unmarshal([]byte(run(t, "sfdisk", "-J", disk)), &table); err != nil {
		t.Fatal(err)
	}
	for i, p := range table.PartitionTable.Partitions {
		if p.Name == name {
			p.Number = i + 1
			return p
		}
	}
	t.Fatalf("%s has no partition %q", disk, name)
	return partition{}
}

// onESP runs an mtools command on the disk's ESP.
func onESP(t testing.TB, disk, tool string, args ...string) string {
	t.Helper()
	esp := findPartition(t, disk, "ESP")
	return run(t, tool, append([]string{"-i", fmt.Sprintf("%s@@%d", disk, esp.Start*512)}, args...)...)
}

// flip inverts one byte of a file.
func flip(t testing.TB, file string, offset int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, offset)
	must(t, err)
	b[0] ^= 0xff
	_, err = f.WriteAt(b, offset)
	must(t, err)
}
