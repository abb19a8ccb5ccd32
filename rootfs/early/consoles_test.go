package early

import (
	"os"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// TestConsoles has the terminals of platforms as their kernels show them.
func TestConsoles(t *testing.T) {
	tests := []struct {
		name, active string
		ports        map[string]string // and their types
		want         []string
	}{
		{"QEMU, EC2, GCE, Azure, OpenStack", "tty0 ttyS0", map[string]string{"tty0": "", "ttyS0": "4", "ttyS1": "0"}, []string{"ttyS0"}},
		{"VMware, Hetzner: no serial port", "tty0", map[string]string{"tty0": "", "ttyS0": "0", "ttyS1": "0"}, nil},
		{"the other serial port", "tty0 ttyS1", map[string]string{"ttyS0": "4", "ttyS1": "4"}, []string{"ttyS1", "ttyS0"}},
		{"Xen PV, virtio console", "hvc0 tty0", map[string]string{"hvc0": "", "ttyS0": "0"}, []string{"hvc0"}},
		{"nothing known", "", nil, nil},
	}
	for _, tt := range tests {
		sys := fstest.MapFS{"class/tty/console/active": {Data: []byte(tt.active + "\n")}}
		for name, kind := range tt.ports {
			sys["class/tty/"+name+"/dev"] = &fstest.MapFile{Data: []byte("4:64\n")}
			if kind != "" {
				sys["class/tty/"+name+"/type"] = &fstest.MapFile{Data: []byte(kind + "\n")}
			}
		}
		if diff := cmp.Diff(tt.want, Consoles(sys)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestGettys(t *testing.T) {
	root := t.TempDir()
	for range 2 {
		if err := Gettys(root, []string{"ttyS0", "hvc0"}); err != nil {
			t.Fatal(err)
		}
	}
	link, err := os.Readlink(root + "/run/systemd/system/getty.target.wants/serial-getty@hvc0.service")
	if err != nil || link != "/usr/lib/systemd/system/serial-getty@.service" {
		t.Errorf("%q, %v", link, err)
	}
}
