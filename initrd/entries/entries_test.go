package entries

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var (
	hashOne = strings.Repeat("1", 64)
	hashTwo = strings.Repeat("2", 64)
)

func file(name, hash string) File {
	n, err := ParseName(name)
	if err != nil {
		panic(err)
	}
	return File{Name: n, File: name, Size: 100, RootHash: hash}
}

func words(steps []Step) string {
	var all []string
	for _, s := range steps {
		w := string(s.Kind)
		if s.File != "" {
			w += " " + s.File
		}
		if s.To != "" {
			w += " " + s.To
		}
		all = append(all, w)
	}
	return strings.Join(all, "; ")
}

func TestParseName(t *testing.T) {
	for file, want := range map[string]Name{
		"coracle-1.2.3.efi":         {Version: "1.2.3"},
		"coracle-1.2.3+3-0.efi":     {Version: "1.2.3", Counted: true, Left: 3},
		"coracle-1.2.3+0-3.efi":     {Version: "1.2.3", Counted: true, Done: 3},
		"coracle-1.2.3+3.efi":       {Version: "1.2.3", Counted: true, Left: 3},
		"coracle-1.2.0-rc1+2-1.efi": {Version: "1.2.0-rc1", Counted: true, Left: 2, Done: 1},
	} {
		got, err := ParseName(file)
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
	for _, file := range []string{
		"", "coracle-.efi", "coracle-1.efi.new", "windows.efi", "coracle-1+.efi", "coracle-1+x-1.efi", "coracle-1+1-.efi",
		"coracle-1+1-1-1.efi", "coracle-1++1.efi", "coracle-a/b.efi", "coracle-1+-1.efi", "coracle-1+99999999999.efi", "coracle-..efi",
	} {
		if n, err := ParseName(file); !errors.Is(err, ErrName) {
			t.Errorf("%q: %+v, %v, want ErrName", file, n, err)
		}
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"coracle-1.2.3.efi", "coracle-1.2.3+3-0.efi", "coracle-1+0-3.efi", "coracle-1+007.efi", "coracle-+.efi", "coracle-1.efi.new"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseName(s)
		if err != nil {
			return
		}
		again, err := ParseName(n.String())
		if err != nil || again != n {
			t.Errorf("%q is %+v, its name %q is %+v, %v", s, n, n, again, err)
		}
		if IsTemp(s) || !IsTemp(n.Temp()) {
			t.Errorf("%q: temporary names are mistaken", s)
		}
		if _, err := ParseName(n.Temp()); err == nil {
			t.Errorf("%q: the temporary name is an entry's", s)
		}
	})
}

func TestPlans(t *testing.T) {
	one, two := file("coracle-1.0.efi", hashOne), file("coracle-2.0.efi", hashTwo)
	failed := file("coracle-2.0+0-3.efi", hashTwo)
	trial := file("coracle-1.0+2-1.efi", hashOne)
	for name, c := range map[string]struct {
		steps func() ([]Step, error)
		want  string
		err   error
	}{
		"disarm removes all but the running": {steps: func() ([]Step, error) {
			return PlanDisarm(Listing{Files: []File{one, two, file("coracle-0.1.efi", "")}}, hashOne)
		}, want: "remove coracle-2.0.efi; remove coracle-0.1.efi; sync"},
		"disarm keeps the last good while on trial": {steps: func() ([]Step, error) {
			return PlanDisarm(Listing{Files: []File{trial, two}}, hashOne)
		}, err: ErrOnTrial},
		"disarm keeps the good one when the running is spent": {steps: func() ([]Step, error) {
			return PlanDisarm(Listing{Files: []File{failed, one}}, hashTwo)
		}, err: ErrOnTrial},
		"arm": {steps: func() ([]Step, error) {
			return PlanArm(Listing{Files: []File{one}, Free: 500}, hashOne, "2.0", hashTwo, 500)
		}, want: "write coracle-2.0.efi.new; sync; rename coracle-2.0.efi.new coracle-2.0+3-0.efi; sync"},
		"arm over a stale count": {steps: func() ([]Step, error) {
			return PlanArm(Listing{Files: []File{one, failed}, Free: 500}, hashOne, "2.0", hashTwo, 500)
		}, want: "remove coracle-2.0+0-3.efi; sync; write coracle-2.0.efi.new; sync; rename coracle-2.0.efi.new coracle-2.0+3-0.efi; sync"},
		"arm a downgrade": {steps: func() ([]Step, error) {
			return PlanArm(Listing{Files: []File{two}, Free: 500}, hashTwo, "1.0", hashOne, 500)
		}, want: "write coracle-1.0.efi.new; sync; rename coracle-1.0.efi.new coracle-1.0+3-0.efi; sync; rename coracle-2.0.efi coracle-2.0+0-0.efi; sync"},
		"arm the running version": {steps: func() ([]Step, error) {
			return PlanArm(Listing{Files: []File{one}, Free: 500}, hashOne, "1.0", hashTwo, 500)
		}, err: ErrRunning},
		"arm on a full partition": {steps: func() ([]Step, error) {
			return PlanArm(Listing{Files: []File{one}, Free: 499}, hashOne, "2.0", hashTwo, 500)
		}, err: ErrFull},
		"good": {steps: func() ([]Step, error) {
			return PlanGood(Listing{Files: []File{trial, two}}, hashOne)
		}, want: "rename coracle-1.0+2-1.efi coracle-1.0.efi; sync"},
		"good with a twin": {steps: func() ([]Step, error) {
			return PlanGood(Listing{Files: []File{one, trial}}, hashOne)
		}, want: "remove coracle-1.0+2-1.efi; sync"},
		"good already": {steps: func() ([]Step, error) {
			return PlanGood(Listing{Files: []File{one}}, hashOne)
		}},
		"rollback": {steps: func() ([]Step, error) {
			return PlanRollback(Listing{Files: []File{one, two}}, hashTwo, hashOne)
		}, want: "rename coracle-1.0.efi coracle-1.0+3-0.efi; sync; rename coracle-2.0.efi coracle-2.0+0-0.efi; sync"},
	} {
		t.Run(name, func(t *testing.T) {
			steps, err := c.steps()
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if got := words(steps); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestOSDir(t *testing.T) {
	d := OSDir(t.TempDir())
	steps := []Step{{Kind: Write, File: "a.new"}, {Kind: Sync}, {Kind: Rename, File: "a.new", To: "a"}, {Kind: Sync}, {Kind: Remove, File: "gone"}}
	if err := Apply(d, steps, strings.NewReader("content")); err != nil {
		t.Fatal(err)
	}
	names, err := d.Names()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int64{"a": 7}, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if free, err := d.Free(); err != nil || free == 0 {
		t.Errorf("free %d, %v", free, err)
	}
}

// TestFullDisk writes more than a real file system of 256 KiB has: the error
// says so and nothing half-written is left.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	err := Apply(OSDir(dir), []Step{{Kind: Write, File: "a.new"}}, bytes.NewReader(make([]byte, 1<<20)))
	if !errors.Is(err, ErrFull) {
		t.Errorf("%v, want ErrFull", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "a.new")); err == nil {
		t.Error("half of the file is left")
	}
}

func TestPlanGiveUp(t *testing.T) {
	for _, test := range []struct {
		files []File
		whole bool
		want  string
	}{
		{[]File{file("coracle-1.efi", hashOne), file("coracle-2.efi", hashTwo)}, true, "rename coracle-2.efi coracle-2+0-3.efi; sync"},
		{[]File{file("coracle-1+3-0.efi", hashOne), file("coracle-2.efi", hashTwo)}, true, "rename coracle-2.efi coracle-2+0-3.efi; sync"},
		{[]File{file("coracle-1.efi", hashOne), file("coracle-2.efi", hashTwo)}, false, ""},
		{[]File{file("coracle-1+0-3.efi", hashOne), file("coracle-2.efi", hashTwo)}, true, ""},
		{[]File{file("coracle-1.efi", hashOne), file("coracle-2+1-2.efi", hashTwo)}, true, ""},
		{[]File{file("coracle-1.efi", ""), file("coracle-2.efi", hashTwo)}, true, ""},
		{[]File{file("coracle-1.efi", hashOne)}, true, ""},
		{nil, true, ""},
	} {
		got := words(PlanGiveUp(Listing{Files: test.files}, hashTwo, func(string) bool { return test.whole }))
		if got != test.want {
			t.Errorf("%v, whole %v: %q, want %q", test.files, test.whole, got, test.want)
		}
	}
}
