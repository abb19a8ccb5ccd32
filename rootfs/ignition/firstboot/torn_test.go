package firstboot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/ignition/v2/config/v3_5/types"

	"github.com/coracle-os/coracle/rootfs/ignition/progress"
	"github.com/coracle-os/coracle/rootfs/ignition/storage"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// disks are what tornConfig sets up, and how Debian's programs check each.
var disks = []struct {
	name  string
	check []string
}{
	{"vdb", []string{"sgdisk", "-v"}},
	{"vdc", []string{"e2fsck", "-f", "-n"}},
	{"vdd", []string{"fsck.vfat", "-n"}},
	{"vde", nil},
}

// tornConfig wipes nothing: what is there counts as the owner's.
const tornConfig = `{"ignition": {"version": "3.4.0"}, "storage": {
 "disks": [{"device": "/dev/vdb", "partitions": [{"label": "a", "sizeMiB": 8}, {"label": "b"}]}],
 "filesystems": [{"device": "/dev/vdc", "format": "ext4", "label": "c"}, {"device": "/dev/vdd", "format": "vfat"},
  {"device": "/dev/vde", "format": "ext4", "label": "kept"}],
 "files": [{"path": "/etc/a", "contents": {"source": "data:,content"}}]}}`

// TestTornDisk cuts the power in the middle of each step that makes something on
// a disk, with some of what it writes on the disk and some not. The next boot
// makes it whole, and leaves alone what was there before the first.
func TestTornDisk(t *testing.T) {
	torn := map[string]func(block int) bool{
		"the beginning": func(block int) bool { return block == 0 },
		"every other":   func(block int) bool { return block%2 == 0 },
		"not the first": func(block int) bool { return block != 0 },
		"all":           func(int) bool { return true },
	}
	steps := []string{"partition /dev/vdb", "filesystem ext4 on /dev/vdc", "filesystem vfat on /dev/vdd"}
	for i, step := range steps {
		for name, reached := range torn {
			root := newRoot(t)
			for _, d := range disks {
				path := filepath.Join(root, "dev", d.name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.MkdirAll(filepath.Join(root, "sys/class/block"), 0o755), os.WriteFile(path, nil, 0o644), os.Truncate(path, 24<<20)); err != nil {
					t.Fatal(err)
				}
			}
			kept := filepath.Join(root, "dev/vde")
			if out, err := exec.Command("mkfs.ext4", "-q", "-L", "kept", kept).CombinedOutput(); err != nil {
				t.Fatalf("%v %s", err, out)
			}
			before, _ := os.ReadFile(kept)
			first := newDiskBox(t, root)
			first.cutIn, first.reached = step, reached
			if err := first.run(); err != errPower {
				t.Fatalf("cut in %s: %v", step, err)
			}
			second := newDiskBox(t, root)
			if err := second.run(); err != nil || !progress.Done(root) || !strings.Contains(second.said[0], "was cut off at step") {
				t.Errorf("after a cut in %s, %s: %v, %q", step, name, err, second.said)
				continue
			}
			d := disks[i]
			check := append(d.check[1:len(d.check):len(d.check)], filepath.Join(root, "dev", d.name))
			if out, err := exec.Command(d.check[0], check...).CombinedOutput(); err != nil || bytes.Contains(out, []byte("Problem:")) {
				t.Errorf("after a cut in %s, %s: %v %s", step, name, err, out)
			}
			if after, _ := os.ReadFile(kept); !bytes.Equal(before, after) {
				t.Errorf("after a cut in %s: what was on /dev/vde has changed", step)
			}
		}
	}
}

// diskBox is a box whose disks are files.
type diskBox struct {
	*box
	cutIn   string
	reached func(block int) bool
}

func newDiskBox(t *testing.T, root string) *diskBox {
	b := &diskBox{box: newBox(t, root, tornConfig)}
	e := storage.Executor{System: storage.System{Root: root, DeviceTimeout: 50 * time.Millisecond, Say: func(string) {},
		LoadModule: func(string) error { return nil },
		Run: func(ctx context.Context, name string, args ...string) error {
			if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
				return fmt.Errorf("%s %q: %w %s", name, args, err, out)
			}
			return nil
		}},
		Contents: func(context.Context, types.Resource) ([]byte, error) { return nil, nil }}
	do := b.runner.Do
	b.runner.Do = func(ctx context.Context, a plan.Action) (changed bool, err error) {
		name, cut := a.String(), b.cutIn != "" && strings.HasPrefix(a.String(), b.cutIn)
		disk := ""
		if i := strings.LastIndex(name, "/dev/vd"); i >= 0 {
			disk = filepath.Join(root, name[i:i+len("/dev/vdb")])
		}
		if !cut {
			changed, known, err := e.Do(ctx, a)
			if known {
				return changed, err
			}
			return do(ctx, a)
		}
		marker := filepath.Join(root, storage.MakingPath)
		var made []byte
		run := e.Run
		e.Run = func(ctx context.Context, name string, args ...string) error {
			made, _ = os.ReadFile(marker)
			return run(ctx, name, args...)
		}
		was, _ := os.ReadFile(disk)
		if _, _, err := e.Do(ctx, a); err != nil {
			return false, err
		}
		tear(t, disk, was, b.reached)
		if made != nil { // it is removed when all is on the disk
			if err := os.WriteFile(marker, made, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		panic(errPower)
	}
	return b
}

// tear makes a disk as it was where the change did not reach it.
func tear(t *testing.T, path string, was []byte, reached func(block int) bool) {
	t.Helper()
	const size = 4096
	now, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for at := 0; at < len(now); at += size {
		if bytes.Equal(now[at:at+size], was[at:at+size]) || reached(at/size) {
			continue
		}
		if _, err := f.WriteAt(was[at:at+size], int64(at)); err != nil {
			t.Fatal(err)
		}
	}
}
