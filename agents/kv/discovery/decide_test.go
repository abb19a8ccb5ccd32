package discovery

import (
	"strings"
	"testing"
)

func entry(id, value string, created uint64) Entry { return Entry{id, value, created} }

func TestDecide(t *testing.T) {
	a, b, c := entry("a", "na=http://a:2380", 5), entry("b", "nb=http://b:2380", 6), entry("c", "nc=http://c:2380,nc=http://c:7001", 7)
	self := Self{ID: "b", Value: b.Value, Noted: true}
	stranger := Self{ID: "b", Value: b.Value}
	for _, x := range []struct {
		name    string
		size    int
		entries []Entry
		self    Self
		do      Do
		reason  string
		cluster string
	}{
		{"first machine", 3, nil, stranger, Register, "0 of 3", ""},
		{"second machine", 3, []Entry{a}, stranger, Register, "1 of 3", ""},
		{"registered", 3, []Entry{a, b}, self, Wait, "2 of 3", ""},
		{"complete, in any order", 3, []Entry{c, b, a}, self, Form, "3 of 3", "na=http://a:2380,nb=http://b:2380,nc=http://c:2380,nc=http://c:7001"},
		{"too late", 2, []Entry{a, c}, stranger, Full, "complete without", "na=http://a:2380,nc=http://c:2380,nc=http://c:7001"},
		{"registered and too late", 1, []Entry{a, b}, self, Full, "complete without", "na=http://a:2380"},
		{"data lost after the cluster was formed", 2, []Entry{a, b}, stranger, Full, "has lost its data", "na=http://a:2380,nb=http://b:2380"},
		{"data lost before", 3, []Entry{a, b}, stranger, Refuse, "the token was used before", ""},
		{"same address", 3, []Entry{a, entry("b", "nx=http://b:2380", 6)}, self, Refuse, "cannot share an address", ""},
		{"same name, seen in time", 3, []Entry{entry("x", "nb=http://x:2380", 1)}, stranger, Refuse, `two machines have the name "nb"`, ""},
		{"same name, seen late", 3, []Entry{entry("x", "nb=http://x:2380", 1), b}, self, Withdraw, `two machines have the name "nb"`, ""},
		{"same name, the other one was later", 3, []Entry{b, entry("x", "nb=http://x:2380", 9)}, self, Wait, "2 of 3", ""},
		{"same name of two others", 3, []Entry{a, b, entry("x", "na=http://x:2380", 9)}, self, Refuse, "two machines have the name", ""},
		{"a value that is none", 3, []Entry{a, b, entry("x", "rubbish", 9)}, self, Refuse, `"rubbish" and not name=URL`, ""},
		{"size 0", 0, nil, stranger, Refuse, "cluster of 0", ""},
		{"size below", -3, nil, stranger, Refuse, "cluster of -3", ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			got := Decide(Registry{Size: x.size, Entries: x.entries}, x.self)
			if got.Do != x.do || !strings.Contains(got.Reason, x.reason) || got.InitialCluster != x.cluster {
				t.Errorf("got %q, %q, cluster %q; want %q, %q, %q", got.Do, got.Reason, got.InitialCluster, x.do, x.reason, x.cluster)
			}
		})
	}
}

// FuzzDecide: whatever the service holds, a cluster has exactly the token's
// size and this machine in it, or nothing is formed.
func FuzzDecide(f *testing.F) {
	f.Add(3, "a na=http://a;b nb=http://b;c nc=http://c", true)
	f.Add(1, "b x=y;b b=://", false)
	f.Fuzz(func(t *testing.T, size int, text string, noted bool) {
		var entries []Entry
		for i, line := range strings.Split(text, ";") {
			id, value, _ := strings.Cut(line, " ")
			entries = append(entries, entry(id, value, uint64(i)))
		}
		self := Self{ID: "b", Value: "nb=http://b", Noted: noted}
		got := Decide(Registry{Size: size, Entries: entries}, self)
		if got.Reason == "" {
			t.Error("no reason")
		}
		if got.Do == Form && (!noted || len(entries) < size || !strings.Contains(got.InitialCluster, self.Value)) {
			t.Errorf("formed %q of %q", got.InitialCluster, text)
		}
	})
}
