package early

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestSysctl(t *testing.T) {
	root, proc := t.TempDir(), t.TempDir()
	write(t, proc, map[string]string{"sys/net/ipv4/ip_forward": "0", "sys/kernel/panic": "0", "sys/net/ipv4/conf/eth0.1/rp_filter": "0", "sys/net/ipv4/conf/all/rp_filter": "0"})
	write(t, root, map[string]string{
		"usr/lib/sysctl.d/10-a.conf": "kernel.panic = 5\n# comment\n; too\nnet.ipv4.ip_forward=1\n",
		"usr/lib/sysctl.d/20-b.conf": "kernel.panic = 6\n",
		"etc/sysctl.d/20-b.conf":     "kernel/panic = 7\nnet/ipv4/conf/eth0.1/rp_filter = 2\n",
		"etc/sysctl.d/30-c.conf":     "-no.such.key = 1\nno.such.key = 1\nnonsense\nnet.ipv4.conf.*.rp_filter = 1\n",
	})
	err := Sysctl(root, proc)
	want := map[string]string{"sys/kernel/panic": "7", "sys/net/ipv4/ip_forward": "1", "sys/net/ipv4/conf/eth0.1/rp_filter": "1", "sys/net/ipv4/conf/all/rp_filter": "1"}
	got := map[string]string{}
	for f := range want {
		got[f] = read(t, filepath.Join(proc, f))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if err == nil || !strings.Contains(err.Error(), `30-c.conf:2: the kernel has no parameter "no.such.key"`) || !strings.Contains(err.Error(), `30-c.conf:3: no "="`) || strings.Contains(err.Error(), ":1:") {
		t.Errorf("errors: %v", err)
	}
}

func TestConfFilesMasked(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"usr/lib/modules-load.d/a.conf": "x", "usr/lib/modules-load.d/b.conf": "y", "etc/modules-load.d/c.conf": "z"})
	if err := os.Symlink("/dev/null", filepath.Join(root, "etc/modules-load.d/a.conf")); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range ConfFiles(root, "modules-load.d") {
		got = append(got, filepath.Base(f))
	}
	if d := cmp.Diff([]string{"b.conf", "c.conf"}, got); d != "" {
		t.Error(d)
	}
}

func TestMachineID(t *testing.T) {
	const uuid = "4C4C4544-0042-3510-8052-B4C04F4E3332"
	tests := []struct {
		name, kept, firmware string
		virtual              bool
		want                 string // "" for a random one
		first                bool
	}{
		{"kept", "0123456789abcdef0123456789abcdef\n", uuid, true, "0123456789abcdef0123456789abcdef", false},
		{"virtual machine", "", uuid, true, "4c4c4544004235108052b4c04f4e3332", true},
		{"real machine", "", uuid, false, "", true},
		{"firmware without one", "", "00000000-0000-0000-0000-000000000000", true, "", true},
		{"firmware with a default", "", "ffffffff-ffff-ffff-ffff-ffffffffffff", true, "", true},
		{"damaged", "uninitialized\n", "", true, "", true},
		{"truncated by a power cut", "", "", true, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root, sys := t.TempDir(), t.TempDir()
			write(t, root, map[string]string{"etc/machine-id": tt.kept})
			write(t, sys, map[string]string{"class/dmi/id/product_uuid": tt.firmware + "\n"})
			id, first, err := MachineID(root, sys, tt.virtual)
			if err != nil || first != tt.first || !validID(id) {
				t.Fatalf("%q, first %v, %v", id, first, err)
			}
			if tt.want != "" && id != tt.want {
				t.Errorf("id is %s, want %s", id, tt.want)
			}
			if again, first, err := MachineID(root, sys, tt.virtual); again != id || first || err != nil {
				t.Errorf("second boot: %s, first %v, %v", again, first, err)
			}
		})
	}
}

func TestClockOnlyMovesForward(t *testing.T) {
	root := t.TempDir()
	now := time.Now()
	write(t, root, map[string]string{releaseFile: "ID=coracle\n"})
	past := now.Add(-48 * time.Hour)
	if err := os.Chtimes(filepath.Join(root, releaseFile), past, past); err != nil {
		t.Fatal(err)
	}
	if set, err := Clock(root, now); err != nil || !set.IsZero() {
		t.Errorf("the clock was set to %s, %v", set, err)
	}
	if err := SaveClock(root, past); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(root, clockFile)); err != nil || !info.ModTime().Equal(past) {
		t.Errorf("saved %v, %v", info, err)
	}
}

func TestSeed(t *testing.T) {
	root := t.TempDir()
	pool := filepath.Join(t.TempDir(), "urandom")
	write(t, filepath.Dir(pool), map[string]string{"urandom": ""})
	if err := Seed(root, pool); err != nil { // a first boot
		t.Error(err)
	}
	if err := SaveSeed(root); err != nil {
		t.Fatal(err)
	}
	first := read(t, filepath.Join(root, seedFile))
	if err := Seed(root, pool); err != nil {
		t.Error(err)
	}
	if read(t, pool) != first {
		t.Error("the seed was not used")
	}
	if err := SaveSeed(root); err != nil || read(t, filepath.Join(root, seedFile)) == first {
		t.Errorf("the seed is the same as before (%v)", err)
	}
	if info, err := os.Stat(filepath.Join(root, seedFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestFindPartition(t *testing.T) {
	sys := t.TempDir()
	for dev, name := range map[string]string{"pci0/vda/vda3": "root-A", "pci0/vda/vda7": "oem", "pci0/vdb/vdb7": "oem"} {
		write(t, sys, map[string]string{"devices/" + dev + "/uevent": "MAJOR=1\nPARTNAME=" + name + "\n"})
		if err := os.MkdirAll(filepath.Join(sys, "class/block"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(sys, "devices", dev), filepath.Join(sys, "class/block", filepath.Base(dev))); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range [][3]string{{"oem", "/dev/vda3", "vda7"}, {"state", "/dev/vda3", ""}, {"root-A", "", "vda3"}} {
		if got := FindPartition(sys, tt[0], tt[1]); got != tt[2] {
			t.Errorf("%s: %q, want %q", tt[0], got, tt[2])
		}
	}
}

func TestFullDisk(t *testing.T) {
	// A directory that cannot be written stands for it.
	if err := SaveSeed("/proc"); err == nil {
		t.Error("no error")
	}
	if err := SaveClock("/proc", time.Now()); err == nil {
		t.Error("no error")
	}
}
