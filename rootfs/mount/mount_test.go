package mount

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/unit"
)

func TestParse(t *testing.T) {
	dev := t.TempDir()
	if err := os.MkdirAll(dev+"/disk/by-label", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dev+"/disk/by-label/data", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for options, want := range map[string]Plan{
		"":                                 {},
		"defaults,nofail,_netdev,x-y=z":    {},
		"ro,nosuid,noexec,size=1M,mode=11": {Flags: unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NOEXEC, Data: "size=1M,mode=11"},
		"ro,rw":                            {},
		"bind,ro,rslave":                   {Flags: unix.MS_BIND, Remount: unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY, Propagation: unix.MS_SLAVE | unix.MS_REC},
	} {
		want.Source, want.Target = "a", "/b"
		have, err := Parse(&unit.Mount{What: "a", Where: "/b", Options: options}, dev)
		if d := cmp.Diff(want, have); d != "" || err != nil {
			t.Errorf("%q: %v (-want +have):\n%s", options, err, d)
		}
	}
	if p, err := Parse(&unit.Mount{What: "LABEL=data"}, dev); err != nil || p.Source != filepath.Join(dev, "disk/by-label/data") {
		t.Errorf("a label: %+v, %v", p, err)
	}
	for _, m := range []unit.Mount{{What: "LABEL=none"}, {What: "a", Options: "loop"}} {
		if p, err := Parse(&m, dev); err == nil {
			t.Errorf("%+v gives %+v, want an error", m, p)
		}
	}
}

func TestTables(t *testing.T) {
	have := Table("36 35 98:0 /a /mnt/x\\040y rw,noatime master:1 - ext4 /dev/root rw\nbroken\n")
	if d := cmp.Diff([]Entry{{"/mnt/x y", "ext4", "/dev/root", "rw,noatime"}}, have); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"ext4", "vfat"}, Types("nodev\tproc\n\text4\n\tvfat\n")); d != "" {
		t.Error(d)
	}
}
