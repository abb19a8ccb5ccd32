package files

import (
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func link(to string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(to), Mode: fs.ModeSymlink | 0o777}
}

func text(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }

func TestLookup(t *testing.T) {
	unit := text("[Unit]\n")
	fsys := fstest.MapFS{
		"lib":                                   link("usr/lib"),
		"usr/lib/systemd/system/a.service":      unit,
		"etc/systemd/system/a.service":          unit,
		"etc/systemd/system/alias.service":      link("/lib/systemd/system/a.service"),
		"usr/lib/systemd/system/t@.service":     unit,
		"etc/systemd/system/u@.service":         link("t@.service"),
		"etc/systemd/system/t@z.service":        link("t@.service"),
		"etc/systemd/system/self.service":       link("/usr/lib/systemd/system/self.service"),
		"usr/lib/systemd/system/self.service":   unit,
		"etc/systemd/system/other.target":       link("a.service"),
		"etc/systemd/system/plain.service":      link("t@q.service"),
		"etc/systemd/system/masked.service":     link("/dev/null"),
		"usr/lib/systemd/system/masked.service": unit,
		"run/systemd/system/empty.service":      text(""),
		"opt/x/real.service":                    unit,
		"etc/systemd/system/linked.service":     link("/opt/x/real.service"),
		"etc/systemd/system/gone.service":       link("/opt/gone.service"),
		"etc/systemd/system/l1.service":         link("l2.service"),
		"etc/systemd/system/l2.service":         link("l1.service"),
		"etc/systemd/system/not-a-unit":         unit,
	}
	x, err := Scan(fsys, LoadPath)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Found{
		"a.service":      {Name: "a.service", Path: "etc/systemd/system/a.service", Aliases: []string{"alias.service"}},
		"alias.service":  {Name: "a.service", Path: "etc/systemd/system/a.service", Aliases: []string{"alias.service"}},
		"u@5.service":    {Name: "t@5.service", Path: "usr/lib/systemd/system/t@.service", Aliases: []string{"u@5.service"}},
		"t@z.service":    {Name: "t@z.service", Path: "usr/lib/systemd/system/t@.service", Aliases: []string{"u@z.service"}},
		"self.service":   {Name: "self.service", Path: "usr/lib/systemd/system/self.service"},
		"masked.service": {Name: "masked.service", Path: "etc/systemd/system/masked.service", Masked: true},
		"empty.service":  {Name: "empty.service", Path: "run/systemd/system/empty.service", Masked: true},
		"linked.service": {Name: "linked.service", Path: "opt/x/real.service"},
	} {
		have, ok := x.Lookup(name)
		if d := cmp.Diff(want, have); d != "" || !ok {
			t.Errorf("%s: %v (-want +have):\n%s", name, ok, d)
		}
	}
	for _, name := range []string{"nope.service", "other.target", "plain.service", "l1.service", "not-a-unit"} {
		if f, ok := x.Lookup(name); ok {
			t.Errorf("%s: found %+v", name, f)
		}
	}
	if len(x.Warnings) != 3 {
		t.Errorf("warnings: %q", x.Warnings)
	}
}

// TestDropIns has the precedence that systemd 252 showed: the directory of the
// load path first, then how specific the name is, the type's last.
func TestDropIns(t *testing.T) {
	fsys := fstest.MapFS{}
	for _, p := range []string{
		"etc/systemd/system/a@.service.d/10.conf", "run/systemd/system/a@x.service.d/10.conf",
		"etc/systemd/system/service.d/20.conf", "run/systemd/system/a@x.service.d/20.conf",
		"etc/systemd/system/a@.service.d/30.conf", "etc/systemd/system/a@x.service.d/30.conf",
		"usr/lib/systemd/system/service.d/40.conf", "etc/systemd/system/a@x.service.d/README",
		"usr/lib/systemd/system/a@x.service.d/05.conf", "usr/lib/systemd/system/b@x.service.d/60.conf",
		"usr/lib/systemd/system/a@x.service.d/50.conf",
	} {
		fsys[p] = text("x")
	}
	fsys["etc/systemd/system/a@x.service.d/50.conf"] = link("/dev/null")
	x, err := Scan(fsys, LoadPath)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"usr/lib/systemd/system/a@x.service.d/05.conf", "etc/systemd/system/a@.service.d/10.conf", "run/systemd/system/a@x.service.d/20.conf",
		"etc/systemd/system/a@x.service.d/30.conf", "usr/lib/systemd/system/service.d/40.conf", "usr/lib/systemd/system/b@x.service.d/60.conf",
	}
	if d := cmp.Diff(want, x.DropIns("a@x.service", "b@x.service")); d != "" {
		t.Errorf("(-want +have):\n%s", d)
	}
}

func TestLevels(t *testing.T) {
	for name, want := range map[string][]string{
		"a.service":     {"a.service"},
		"a-b-c.service": {"a-b-c.service", "a-b-.service", "a-.service"},
		"a-b@i.service": {"a-b@i.service", "a-b@.service", "a-@i.service", "a-@.service", "a-.service"},
		"-.mount":       {"-.mount"},
	} {
		if d := cmp.Diff(want, Levels(name)); d != "" {
			t.Errorf("%s (-want +have):\n%s", name, d)
		}
	}
}
