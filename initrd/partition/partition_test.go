package partition

import (
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var testHash = func() (hash [32]byte) {
	for i := range hash {
		hash[i] = byte(i*7 + 1)
	}
	return hash
}()

func TestPairOf(t *testing.T) {
	want := Pair{
		Root:   "01080f16-1d24-2b32-3940-474e555c636a",
		Verity: "71787f86-8d94-9ba2-a9b0-b7bec5ccd3da",
	}
	if diff := cmp.Diff(want, PairOf(testHash)); diff != "" {
		t.Errorf("pair (-want +got):\n%s", diff)
	}
}

// makeDisk makes an image with sgdisk; each partition is "name:type:uuid:MiB".
func makeDisk(t *testing.T, path string, mib int64, partitions ...string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, mib<<20); err != nil {
		t.Fatal(err)
	}
	args := []string{"--clear"}
	for i, partition := range partitions {
		index := strconv.Itoa(i + 1)
		fields := strings.Split(partition, ":")
		args = append(args, "-n", index+":0:+"+fields[3]+"M", "-t", index+":"+fields[1], "-c", index+":"+fields[0])
		if fields[2] != "" {
			args = append(args, "-u", index+":"+fields[2])
		}
	}
	if out, err := exec.Command("sgdisk", append(args, path)...).CombinedOutput(); err != nil {
		t.Fatalf("sgdisk: %v\n%s", err, out)
	}
}

// show adds a disk to a directory that looks like /sys, with the kernel's view
// of the partitions that it is given.
func show(t *testing.T, sys, name string, size int64, partitions map[string][2]int64) {
	t.Helper()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(sys, "class/block", path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(name+"/size", strconv.FormatInt(size/512, 10))
	write(name+"/queue/logical_block_size", "512")
	for part, indexAndStart := range partitions {
		for _, directory := range []string{name + "/" + part, part} {
			write(directory+"/partition", strconv.FormatInt(indexAndStart[0], 10))
			write(directory+"/start", strconv.FormatInt(indexAndStart[1], 10))
			write(directory+"/size", "2048")
		}
	}
}

func TestScanAndSelect(t *testing.T) {
	pair := PairOf(testHash)
	root := "root-A:" + TypeRoot + ":" + pair.Root + ":2"
	verity := "root-A-verity:" + TypeVerity + ":" + pair.Verity + ":1"
	state := "state:" + TypeState + "::4"
	view := func(name string) map[string][2]int64 {
		return map[string][2]int64{name + "1": {1, 2048}, name + "2": {2, 6144}, name + "3": {3, 8192}}
	}
	tests := []struct {
		name       string
		make       func(t *testing.T, sys, dev string)
		wantRoot   string
		wantVerity string
		wantErr    error
		wantText   string
		wantHalf   bool
		wantNotice string
	}{
		{
			name: "one disk",
			make: func(t *testing.T, sys, dev string) {
				makeDisk(t, dev+"/vda", 16, root, verity, state)
				show(t, sys, "vda", 16<<20, view("vda"))
				show(t, sys, "loop0", 16<<20, nil)
				show(t, sys, "sr0", 0, nil)
			},
			wantRoot: "vda1", wantVerity: "vda2", wantHalf: true,
		},
		{
			name: "two disks",
			make: func(t *testing.T, sys, dev string) {
				makeDisk(t, dev+"/vda", 16, verity)
				makeDisk(t, dev+"/vdb", 16, root)
				show(t, sys, "vda", 16<<20, map[string][2]int64{"vda1": {1, 2048}})
				show(t, sys, "vdb", 16<<20, map[string][2]int64{"vdb1": {1, 2048}})
			},
			wantRoot: "vdb1", wantVerity: "vda1", wantHalf: true,
		},
		{
			name: "two copies, the complete one wins",
			make: func(t *testing.T, sys, dev string) {
				makeDisk(t, dev+"/vda", 16, root)
				makeDisk(t, dev+"/vdb", 16, root, verity, state)
				show(t, sys, "vda", 16<<20, view("vda"))
				show(t, sys, "vdb", 16<<20, view("vdb"))
			},
			wantRoot: "vdb1", wantVerity: "vdb2", wantHalf: true, wantNotice: "2 disks hold this root",
		},
		{
			name: "kernel is not there yet",
			make: func(t *testing.T, sys, dev string) {
				makeDisk(t, dev+"/vda", 16, root, verity)
				show(t, sys, "vda", 16<<20, nil)
			},
			wantErr: ErrNotYet, wantText: "does not show partition 1", wantHalf: true,
		},
		{
			name: "kernel has an older table",
			make: func(t *testing.T, sys, dev string) {
				makeDisk(t, dev+"/vda", 16, root, verity)
				show(t, sys, "vda", 16<<20, map[string][2]int64{"vda1": {1, 4096}, "vda2": {2, 6144}})
			},
			wantErr: ErrNotYet, wantText: "does not show partition 1", wantHalf: true,
		},
		{
			name: "no verity",
			make: func(t *testing.T, sys, dev string) {
				makeDisk(t, dev+"/vda", 16, root)
				show(t, sys, "vda", 16<<20, view("vda"))
			},
			wantErr: ErrNotYet, wantText: "no verity partition with UUID " + pair.Verity, wantHalf: true,
		},
		{
			name: "another release",
			make: func(t *testing.T, sys, dev string) {
				makeDisk(t, dev+"/vda", 16, "root-B:"+TypeRoot+"::2")
				show(t, sys, "vda", 16<<20, view("vda"))
			},
			wantErr: ErrNotYet, wantText: "no root partition with UUID " + pair.Root,
		},
		{
			name:    "no disk",
			make:    func(t *testing.T, sys, dev string) { show(t, sys, "loop0", 512, nil) },
			wantErr: ErrNotYet, wantText: "no disk at all",
		},
		{
			name: "empty disk",
			make: func(t *testing.T, sys, dev string) {
				if err := os.WriteFile(dev+"/sda", make([]byte, 1<<20), 0o644); err != nil {
					t.Fatal(err)
				}
				show(t, sys, "sda", 1<<20, nil)
			},
			wantErr: ErrNotYet, wantText: "disk /DEV/sda: no GUID partition table",
		},
		{
			name: "image cut off",
			make: func(t *testing.T, sys, dev string) {
				makeDisk(t, dev+"/vda", 16, root, verity, state)
				if err := os.Truncate(dev+"/vda", 10<<20); err != nil {
					t.Fatal(err)
				}
				show(t, sys, "vda", 10<<20, nil)
			},
			wantErr: ErrTruncated, wantText: "10485760 of 16777216 bytes", wantHalf: true,
		},
		{
			name: "first table damaged",
			make: func(t *testing.T, sys, dev string) {
				makeDisk(t, dev+"/vda", 16, root, verity, state)
				overwrite(t, dev+"/vda", 512+60, []byte("damage"))
				show(t, sys, "vda", 16<<20, nil)
			},
			wantErr: ErrDamaged, wantHalf: true,
		},
		{
			name: "disk that cannot be opened",
			make: func(t *testing.T, sys, dev string) { show(t, sys, "vda", 16<<20, nil) },
			// Waiting may help: the node may not be there yet.
			wantErr: ErrNotYet, wantText: "no such file",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel() // sgdisk sleeps for a second
			sys, dev := t.TempDir(), t.TempDir()
			test.make(t, sys, dev)
			disks, err := Scan(sys, dev)
			if err != nil {
				t.Fatal(err)
			}
			found, half, err := Select(disks, pair)
			if half != test.wantHalf {
				t.Errorf("got half %v, want %v", half, test.wantHalf)
			}
			if test.wantErr != nil {
				if text := strings.ReplaceAll(errText(err), dev, "/DEV"); !errors.Is(err, test.wantErr) || !strings.Contains(text, test.wantText) {
					t.Errorf("got error %q, want %q with %q", text, test.wantErr, test.wantText)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := filepath.Base(found.Root.Device); got != test.wantRoot {
				t.Errorf("root: got %s, want %s", got, test.wantRoot)
			}
			if got := filepath.Base(found.Verity.Device); got != test.wantVerity {
				t.Errorf("verity: got %s, want %s", got, test.wantVerity)
			}
			if notices := strings.Join(found.Notices, "\n"); !strings.Contains(notices, test.wantNotice) || (notices != "" && test.wantNotice == "") {
				t.Errorf("notices: got %q, want %q", notices, test.wantNotice)
			}
			if Slot(found.Root.Name) != "A" {
				t.Errorf("slot: got %q", Slot(found.Root.Name))
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func overwrite(t *testing.T, path string, offset int64, data []byte) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt(data, offset); err != nil {
		t.Fatal(err)
	}
}

func TestState(t *testing.T) {
	state := Partition{Index: 3, Name: "state", Type: TypeState}
	other := Partition{Index: 4, Name: "data", Type: TypeState}
	tests := []struct {
		name string
		in   []Partition
		want int
	}{
		{"none", nil, 0},
		{"by name", []Partition{other, state}, 3},
		{"only one of the type", []Partition{other}, 4},
		{"ambiguous", []Partition{other, other}, 0},
		{"name without the type", []Partition{{Index: 1, Name: "state", Type: TypeRoot}}, 0},
	}
	for _, test := range tests {
		got, ok := State(Disk{Partitions: test.in})
		if got.Index != test.want || ok != (test.want != 0) {
			t.Errorf("%s: got %d, %v; want %d", test.name, got.Index, ok, test.want)
		}
	}
}

func TestWait(t *testing.T) {
	pair := PairOf(testHash)
	root := Partition{Index: 1, UUID: pair.Root, Device: "/dev/vda1"}
	verity := Partition{Index: 2, UUID: pair.Verity, Device: "/dev/vda2"}
	nothing := []Disk{}
	half := []Disk{{Device: "/dev/vda", Partitions: []Partition{root}}}
	whole := []Disk{{Device: "/dev/vda", Partitions: []Partition{root, verity}}}
	cut := []Disk{{Device: "/dev/vda", Partitions: []Partition{root, verity}, Problem: ErrTruncated}}
	tests := []struct {
		name     string
		disks    func(at time.Duration) []Disk
		wantErr  error
		wantTime time.Duration
	}{
		{"at once", func(time.Duration) []Disk { return whole }, nil, 0},
		{"late", func(at time.Duration) []Disk {
			if at < 7*time.Second {
				return nothing
			}
			return whole
		}, nil, 7 * time.Second},
		{"never", func(time.Duration) []Disk { return nothing }, ErrNotYet, 30 * time.Second},
		{"only half", func(time.Duration) []Disk { return half }, ErrNotYet, 5 * time.Second},
		{"half, late", func(at time.Duration) []Disk {
			if at < 28*time.Second {
				return nothing
			}
			return half
		}, ErrNotYet, 30 * time.Second},
		{"cut off", func(time.Duration) []Disk { return cut }, ErrTruncated, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var at time.Duration
			_, err := Wait(Waiting{Most: 30 * time.Second, Half: 5 * time.Second, Poll: time.Second}, pair,
				func() time.Time { return time.Unix(0, 0).Add(at) },
				func() ([]Disk, error) { return test.disks(at), nil },
				func(d time.Duration) { at += d })
			if !errors.Is(err, test.wantErr) {
				t.Errorf("got error %v, want %v", err, test.wantErr)
			}
			if at != test.wantTime {
				t.Errorf("after %v, want %v", at, test.wantTime)
			}
		})
	}
}

func FuzzReadTable(f *testing.F) {
	header := make([]byte, 92)
	copy(header, "EFI PART")
	binary.LittleEndian.PutUint32(header[80:], 128)
	binary.LittleEndian.PutUint32(header[84:], 128)
	f.Add(header)
	f.Fuzz(func(t *testing.T, header []byte) {
		image := make([]byte, 64<<10)
		copy(image[512:1024], header)
		copy(image[len(image)-512:], header)
		path := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(path, image, 0o644); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		ReadTable(file, int64(len(image)), 512)
	})
}
