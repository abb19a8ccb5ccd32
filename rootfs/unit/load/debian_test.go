package load

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
)

// TestDebianUnits reads every unit file that Debian's packages have brought to
// this machine, systemd's own among them: each loads, is masked or is refused
// because of D-Bus, and what is ignored in it is known by name.
func TestDebianUnits(t *testing.T) {
	fsys := os.DirFS("/")
	l := New(fsys, func() specifier.Host { return specifier.ReadHost(fsys) })
	index, err := l.Scan()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("/usr/lib/systemd/system/*.*")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || !info.Mode().IsRegular() {
			continue
		}
		seen++
		u := l.Load(index, strings.Replace(filepath.Base(f), "@.", "@x.", 1))
		dbus := u.LoadState == unit.BadSetting && strings.Contains(u.LoadError, "type dbus")
		if u.LoadState != unit.Loaded && u.LoadState != unit.Masked && !dbus {
			t.Errorf("%s is %s: %s", u.Name, u.LoadState, u.LoadError)
		}
		for _, w := range u.Warnings {
			if strings.Contains(w.Text, "Unknown key name") {
				t.Errorf("%s", w)
			}
		}
	}
	if seen < 100 {
		t.Errorf("only %d unit files are here: install the Debian package systemd", seen)
	}
}
