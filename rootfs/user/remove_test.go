package user

import (
	"os/exec"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestRemove takes users out of a root that useradd's counterpart made, and
// compares the files with those before it.
func TestRemove(t *testing.T) {
	for _, spec := range []Spec{
		{Name: "elroy", Passwd: "$6$x$y", Groups: []string{"docker", "sudo"}},
		{Name: "elroy", PrimaryGroup: "docker"},
		{Name: "elroy", NoUserGroup: true, System: true},
	} {
		root := newRoot(t)
		all := func() (text [4]string) {
			for i, name := range []string{"etc/passwd", "etc/shadow", "etc/group", "etc/gshadow"} {
				text[i] = read(t, root, name)
			}
			return text
		}
		before := all()
		if _, err := Ensure(root, spec, time.Unix(0, 0)); err != nil {
			t.Fatal(err)
		}
		if removed, err := Remove(root, "elroy"); err != nil || !removed {
			t.Fatalf("Remove = %v, %v", removed, err)
		}
		if diff := cmp.Diff(before, all()); diff != "" {
			t.Errorf("%+v (-before +after):\n%s", spec, diff)
		}
		if removed, err := Remove(root, "elroy"); err != nil || removed {
			t.Errorf("Remove again = %v, %v", removed, err)
		}
	}
}

// TestRemoveAgainstUserdel compares with userdel(8) on a root of its own: the
// group of a user that others are in stays.
func TestRemoveAgainstUserdel(t *testing.T) {
	ours, theirs := newRoot(t), newRoot(t)
	for _, root := range []string{ours, theirs} {
		for _, spec := range []Spec{
			{Name: "elroy", Groups: []string{"docker"}}, {Name: "judy", Groups: []string{"elroy", "docker"}}, {Name: "astro", PrimaryGroup: "judy"},
		} {
			if _, err := Ensure(root, spec, time.Unix(0, 0)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range []string{"elroy", "judy"} {
		if _, err := Remove(ours, name); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("userdel", "--prefix", theirs, name).CombinedOutput(); err != nil {
			t.Fatalf("userdel: %v: %s", err, out)
		}
		for _, file := range []string{"etc/passwd", "etc/shadow", "etc/group", "etc/gshadow"} {
			if diff := cmp.Diff(read(t, theirs, file), read(t, ours, file)); diff != "" {
				t.Errorf("%s after %s (-userdel +ours):\n%s", file, name, diff)
			}
		}
	}
}
