package load

import (
	"io/fs"
	"os"
	"path"
	"testing"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/name"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
)

// tree is the base tree, in which usr/lib is what lib will lead to.
const tree = "../../base"

// TestShippedUnits reads every unit of the base tree: all must load, with
// nothing that is ignored, and what they require must be there.
func TestShippedUnits(t *testing.T) {
	set, err := NewSet(New(os.DirFS(tree), func() specifier.Host { return testHost }))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range set.Files().Warnings {
		t.Error(w)
	}
	names := set.Files().Names()
	if len(names) == 0 {
		t.Fatal("no units in the base tree")
	}
	for _, n := range names {
		if name.IsTemplate(n) {
			n = name.WithInstance(n, "x")
		}
		set.Get(n)
	}
	for _, u := range set.All() {
		for _, w := range u.Warnings {
			t.Error(w)
		}
		if u.LoadState != unit.Loaded && u.LoadState != unit.NotFound {
			t.Errorf("%s is %s: %s", u.Name, u.LoadState, u.LoadError)
		}
		for _, kind := range []unit.Dep{unit.Requires, unit.BindsTo, unit.Triggers} {
			for _, dep := range u.Deps[kind] {
				if o := set.Peek(dep); o.LoadState != unit.Loaded {
					t.Errorf("%s: %s=%s is %s", u.Name, kind, dep, o.LoadState)
				}
			}
		}
	}
	wants, err := fs.Glob(os.DirFS(tree), "usr/lib/systemd/system/*.wants/*")
	if err != nil || len(wants) == 0 {
		t.Fatal(wants, err)
	}
	for _, w := range wants {
		if u := set.Peek(path.Base(w)); u == nil || u.LoadState != unit.Loaded {
			t.Errorf("%s leads to no unit", w)
		}
	}
}
