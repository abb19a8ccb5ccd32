package writelog

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCuts lets QEMU's own tool write a log and looks at the disks made of it.
func TestCuts(t *testing.T) {
	dir := t.TempDir()
	disk, log := filepath.Join(dir, "disk"), filepath.Join(dir, "log")
	for name, size := range map[string]int64{disk: 1 << 20, log: 0, filepath.Join(dir, "replayed"): 1 << 20} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, size); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("qemu-io", "--image-opts",
		"driver=blklogwrites,file.driver=file,file.filename="+disk+",log.driver=file,log.filename="+log+",log-super-update-interval=1",
		"-c", "write -P 1 0 1024", "-c", "flush", "-c", "write -P 2 0 512", "-c", "write -P 3 4096 512", "-c", "discard 0 512").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	file, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	entries, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		survives []bool
		want     []string // first byte of three sectors, after each entry
	}{
		{[]bool{true}, []string{"1 1 0", "1 1 0", "2 1 0", "2 1 3", "2 1 3", "2 1 3", "2 1 3"}},
		{[]bool{false}, []string{"0 0 0", "1 1 0", "1 1 0", "1 1 0", "2 1 3", "2 1 3", "2 1 3"}},
		{[]bool{true, true, false, true}, []string{"1 1 0", "1 1 0", "2 1 0", "1 1 3", "2 1 3", "2 1 3", "2 1 3"}},
	} {
		replayed, err := os.OpenFile(filepath.Join(dir, "replayed"), os.O_RDWR|os.O_TRUNC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer replayed.Close()
		if err := replayed.Truncate(1 << 20); err != nil {
			t.Fatal(err)
		}
		var got []string
		n := 0
		err = Disk{replayed, file}.Cuts(entries, func(int) bool { return true },
			func() bool { n++; return c.survives[(n-1)%len(c.survives)] },
			func(int) error {
				var b [3]byte
				for i, at := range []int64{0, 512, 4096} {
					if _, err := replayed.ReadAt(b[i:i+1], at); err != nil {
						return err
					}
				}
				got = append(got, fmt.Sprint(b[0], b[1], b[2]))
				return nil
			})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("survives %v: -want +got\n%s", c.survives, diff)
		}
	}
}
