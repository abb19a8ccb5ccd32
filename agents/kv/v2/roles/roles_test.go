package roles

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/api/v3/authpb"
)

// FuzzPatterns takes patterns to version 3's permissions and back, and compares
// whom they let in with what patterns mean.
func FuzzPatterns(f *testing.F) {
	for _, p := range []string{"/a", "/a/*", "*", "/*", "/a\xff*", "\xff\xff*", "x"} {
		f.Add(p, "/a/b")
		f.Add(p, "\xff\xff\xff")
	}
	f.Fuzz(func(t *testing.T, pattern, key string) {
		if pattern == "" || pattern == "\x00*" || key == "" || strings.HasPrefix(key, "\x00") {
			return // no pattern; "*" in version 3's own words; no keys of version 2
		}
		want := Patterns{Read: []string{pattern}, Write: []string{}}
		list := ToV3(want)
		if got := FromV3(list).KV; cmp.Diff(want, got) != "" {
			t.Error(cmp.Diff(want, got))
		}
		prefix, whole := strings.CutSuffix(pattern, "*")
		match := key == pattern
		if whole {
			match = strings.HasPrefix(key, prefix)
		}
		if got := Allow(list, []byte(key), nil, false); got != match {
			t.Errorf("%q lets %q be read: %t, want %t", pattern, key, got, match)
		}
		if Allow(list, []byte(key), nil, true) {
			t.Errorf("%q for reading lets %q be written", pattern, key)
		}
	})
}

func TestAllowRange(t *testing.T) {
	for pattern, want := range map[string]bool{"/a": false, "/a/*": false, "/a*": true, "/*": true, "*": true, "/b*": false} {
		if got := Allow(ToV3(Patterns{Write: []string{pattern}}), []byte("/a"), []byte("/a0"), true); got != want {
			t.Errorf("%q lets all below /a be written: %t, want %t", pattern, got, want)
		}
	}
}

// TestChanges applies changes as version 3 does at its worst: a permission for
// a range that has one is kept beside it.
func TestChanges(t *testing.T) {
	lists := []Patterns{{}, {Read: []string{"/a"}}, {Write: []string{"/a"}}, {Read: []string{"/a"}, Write: []string{"/a"}}, {Read: []string{"/a", "/a*"}, Write: []string{"/b"}}}
	for _, from := range lists {
		for _, to := range lists {
			less, more := Changes(from, to)
			var now []*authpb.Permission
			for _, p := range ToV3(from) {
				keep := true
				for _, q := range less {
					keep = keep && !SameRange(p, q)
				}
				if keep {
					now = append(now, p)
				}
			}
			want := FromV3(append(ToV3(to), Absent())) // without null
			if got := FromV3(append(append(now, more...), Absent())); cmp.Diff(want, got) != "" {
				t.Errorf("from %v to %v: %s", from, to, cmp.Diff(want, got))
			}
		}
	}
}

// TestForeign shows version 3's own permissions.
func TestForeign(t *testing.T) {
	list := []*authpb.Permission{
		{Key: []byte("/a"), RangeEnd: []byte("/c"), PermType: authpb.READWRITE},
		{Key: []byte("/a"), RangeEnd: []byte{0}},
		{Key: []byte("/a*")},
		{Key: []byte("/b"), RangeEnd: []byte("/c"), PermType: authpb.WRITE},
		{Key: []byte("/b"), RangeEnd: []byte("/c"), PermType: authpb.READ}, // kept beside
	}
	want := Permissions{KV: Patterns{Read: []string{"/b*"}, Write: []string{"/b*"}}}
	if diff := cmp.Diff(want, FromV3(list)); diff != "" {
		t.Error(diff)
	}
	if !Allow(list, []byte("/b/x"), nil, true) || !Allow(list, []byte("/z"), nil, false) || Allow(list, []byte("/z"), nil, true) {
		t.Error("ranges that have no pattern do not hold")
	}
}
