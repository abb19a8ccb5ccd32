package tree

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/kv/v2/layout"
	"github.com/coracle-os/coracle/agents/kv/v2/wire"
)

var now = time.Unix(1000, 0)

func clock() time.Time { return now }

// keyspace is version 3's store with a tree that follows it.
type keyspace struct {
	revision int64
	keys     map[string]Change
	tree     *Tree
}

func newKeyspace() *keyspace {
	return &keyspace{revision: 1, keys: map[string]Change{}, tree: New(1, clock)}
}

// commit makes the changes of one transaction: "key=value" or "-key".
func (k *keyspace) commit(changes ...string) []*wire.Event {
	k.revision++
	var list []Change
	for _, text := range changes {
		if key, ok := strings.CutPrefix(text, "-"); ok {
			if _, ok := k.keys[key]; !ok {
				continue
			}
			delete(k.keys, key)
			list = append(list, Change{Key: key, Deleted: true, Mod: k.revision})
			continue
		}
		key, value, _ := strings.Cut(text, "=")
		c := Change{Key: key, Value: value, Create: k.revision, Mod: k.revision}
		if old, ok := k.keys[key]; ok {
			c.Create = old.Create
		}
		k.keys[key] = c
		list = append(list, c)
	}
	return k.tree.Apply(k.revision, list)
}

// loaded is a tree that begins with the keyspace as it is.
func (k *keyspace) loaded() *Tree {
	t := New(k.revision, clock)
	for _, key := range slices.Sorted(maps.Keys(k.keys)) {
		t.Load(k.keys[key])
	}
	return t
}

func op(action, key string) string {
	return layout.OpKey + "=" + string(layout.Encode(layout.Op{Action: action, Key: []byte(key)}))
}

func record(r layout.Record) string { return "=" + string(layout.Encode(r)) }

// show writes what a tree has in short.
func show(n *wire.Node) string {
	text := n.Key
	if n.Dir {
		text += "/"
	} else if n.Value != nil {
		text += "=" + *n.Value
	}
	text += fmt.Sprintf("@%d", n.CreatedIndex)
	if n.ModifiedIndex != n.CreatedIndex {
		text += fmt.Sprintf(",%d", n.ModifiedIndex)
	}
	if n.TTL != 0 {
		text += fmt.Sprintf(" ttl %d", n.TTL)
	}
	return text
}

func dump(t *Tree) string {
	var lines []string
	var walk func(n *wire.Node)
	walk = func(n *wire.Node) {
		lines = append(lines, show(n))
		for _, c := range n.Nodes {
			walk(c)
		}
	}
	e, _ := t.Get("/", true)
	for _, n := range e.Node.Nodes {
		walk(n)
	}
	return strings.Join(lines, " ")
}

func events(list []*wire.Event) string {
	var out []string
	for _, e := range list {
		text := e.Action + " " + show(e.Node)
		if e.PrevNode != nil {
			text += " was " + show(e.PrevNode)
		}
		if e.Removed != nil {
			text += fmt.Sprint(" with ", e.Removed)
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// TestApply makes transactions one after the other, from revision 2 on, and
// looks at the events of the last and at what is there then.
func TestApply(t *testing.T) {
	end := now.Add(1500 * time.Millisecond).UnixNano()
	for _, c := range []struct {
		name         string
		txns         [][]string
		events, tree string
	}{
		{"version 3 sets", [][]string{{"/a=1"}}, "set /a=1@2", "/a=1@2"},
		{"version 3 sets again", [][]string{{"/a=1"}, {"/a=2"}}, "set /a=2@3 was /a=1@2", "/a=2@3"},
		{"version 3 sets two", [][]string{{"/a=1", "/b=1"}}, "set /a=1@2; set /b=1@2", "/a=1@2 /b=1@2"},
		{"version 3 deletes", [][]string{{"/a/b=1"}, {"-/a/b"}}, "delete /a/b@2,3 was /a/b=1@2", ""},
		{"directory of what is in it", [][]string{{"/a/b=1"}, {"/a/c=1"}}, "set /a/c=1@3", "/a/@2 /a/b=1@2 /a/c=1@3"},
		{"file with keys below", [][]string{{"/a=1"}, {"/a/b=1"}}, "set /a/b=1@3", "/a/@3 /a/b=1@3"},
		{"file that is a directory", [][]string{{"/a/b=1"}, {"/a=1"}}, "", "/a/@2 /a/b=1@2"},
		{"file comes to light", [][]string{{"/a=1"}, {"/a/b=1"}, {"-/a/b"}}, "delete /a/b@3,4 was /a/b=1@3", "/a=1@2"},
		{"no path", [][]string{{"a=1", "=1", "//=1"}}, "", ""},
		{"no path below a directory", [][]string{{"/a//b=1", "/a/../c=1"}}, "", "/a/@2"},
		{"no path goes", [][]string{{"/a//b=1"}, {"-/a//b"}}, "", ""},
		{"hidden", [][]string{{"/_a=1"}}, "set /_a=1@2", ""},
		{"directory", [][]string{{"_etcd2/dir/a" + record(layout.Record{}), op(wire.Set, "/a")}}, "set /a/@2", "/a/@2"},
		{"empty directory stays", [][]string{{"_etcd2/dir/a" + record(layout.Record{}), "/a/b=1"}, {"-/a/b"}},
			"delete /a/b@2,3 was /a/b=1@2", "/a/@2"},
		{"create", [][]string{{"/a=1", op(wire.Create, "/a")}}, "create /a=1@2", "/a=1@2"},
		{"update keeps the creation", [][]string{{"/a=1"}, {"/a=2", "_etcd2/key/a" + record(layout.Record{Created: 2}), op(wire.Update, "/a")}},
			"update /a=2@2,3 was /a=1@2", "/a=2@2,3"},
		{"version 3 voids the record", [][]string{{"/a=1", "_etcd2/key/a" + record(layout.Record{Created: 1, Expire: end})}, {"/a=2"}},
			"set /a=2@3 was /a=1@1,2 ttl 2", "/a=2@3"},
		{"time to live", [][]string{{"/a=1", "_etcd2/key/a" + record(layout.Record{Expire: end})}}, "set /a=1@2 ttl 2", "/a=1@2 ttl 2"},
		{"record without a key", [][]string{{"_etcd2/key/a" + record(layout.Record{Expire: end})}}, "", ""},
		{"damaged record", [][]string{{"/a=1", "_etcd2/key/a={"}}, "set /a=1@2", "/a=1@2"},
		{"directory goes", [][]string{{"/a/b/c=1"}, {"-/a/b/c", "-_etcd2/dir/a", op(wire.Delete, "/a")}},
			"delete /a/@2,3 was /a/@2 with [/a/b/c /a/b]", ""},
		{"directory's life is prolonged", [][]string{{"_etcd2/dir/a" + record(layout.Record{})},
			{"_etcd2/dir/a" + record(layout.Record{Created: 2, Expire: end}), op(wire.Update, "/a")}},
			"update /a/@2,3 ttl 2 was /a/@2", "/a/@2 ttl 2"},
		{"delete of what is not there", [][]string{{"/a=1"}, {"-/b", op(wire.Delete, "/b")}}, "", "/a=1@2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newKeyspace()
			var last []*wire.Event
			for _, txn := range c.txns {
				last = k.commit(txn...)
			}
			if got := events(last); got != c.events {
				t.Errorf("events: %s\nwant:   %s", got, c.events)
			}
			if got := dump(k.tree); got != c.tree {
				t.Errorf("tree: %s\nwant: %s", got, c.tree)
			}
			if got := dump(k.loaded()); got != c.tree {
				t.Errorf("loaded: %s\nwant:   %s", got, c.tree)
			}
		})
	}
}

// randomChange is one of a small keyspace, records and odd keys among it.
func randomChange(r *rand.Rand, revision int64) string {
	path := ""
	for range 1 + r.IntN(3) {
		path += "/" + []string{"a", "b", "_c", ""}[min(3, r.IntN(10)/3)]
	}
	rec := record(layout.Record{Created: r.Int64N(revision), Expire: r.Int64N(2) * int64(r.IntN(2000)) * int64(time.Second)})
	key := []string{path + "=x", path + "=y", "_etcd2/dir" + path + rec, "_etcd2/key" + path + rec}[r.IntN(4)]
	if r.IntN(3) == 0 {
		key, _, _ = strings.Cut(key, "=")
		return "-" + key
	}
	return key
}

// TestLoadedIsApplied compares a tree that followed all changes with one that
// is loaded: a member that was restarted, or joined, must see the same.
func TestLoadedIsApplied(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		k := newKeyspace()
		for range 60 {
			changes := map[string]string{} // a transaction changes a key once
			for range 1 + r.IntN(4) {
				c := randomChange(r, k.revision)
				key, _, _ := strings.Cut(strings.TrimPrefix(c, "-"), "=")
				changes[key] = c
			}
			var list []string
			for _, key := range slices.Sorted(maps.Keys(changes)) {
				list = append(list, changes[key])
			}
			k.commit(list...)
			compare(t, k)
			if t.Failed() {
				t.Fatalf("after %q", list)
			}
		}
	}
}

func compare(t *testing.T, k *keyspace) {
	t.Helper()
	a, b := k.tree, k.loaded()
	if x, y := dump(a), dump(b); x != y {
		t.Errorf("applied: %s\nloaded:  %s", x, y)
	}
	if x, y := a.Expired(now, 1000), b.Expired(now, 1000); !slices.Equal(x, y) {
		t.Errorf("expired: %v\nloaded:  %v", x, y)
	}
	if x, y := a.Stale(), b.Stale(); !maps.Equal(x, y) {
		t.Errorf("stale: %v\nloaded: %v", x, y)
	}
	for _, c := range k.keys {
		if _, path := layout.Read(c.Key); a.Place(path) != b.Place(path) {
			t.Errorf("place: %+v\nloaded: %+v", a.Place(path), b.Place(path))
		}
	}
}

func TestGetErrors(t *testing.T) {
	k := newKeyspace()
	k.commit("/a=1", "/d/e=1")
	for _, c := range []struct {
		path, cause string
		code        int
	}{
		{"/x", "/x", wire.KeyNotFound}, {"/x/y", "/x", wire.KeyNotFound}, {"/d/x/y", "/d/x", wire.KeyNotFound},
		{"/a/b", "/a", wire.NotDir}, {"/d/e/f/g", "/d/e", wire.NotDir},
	} {
		_, err := k.tree.Get(c.path, false)
		if err == nil || err.Code != c.code || err.Cause != c.cause || err.Index != 2 {
			t.Errorf("%s: %v, want code %d, cause %s", c.path, err, c.code, c.cause)
		}
	}
}

func TestExpired(t *testing.T) {
	k := newKeyspace()
	for i, s := range []int64{30, 10, 20, 5000} {
		path := fmt.Sprintf("/%d", i)
		k.commit(path+"=x", "_etcd2/key"+path+record(layout.Record{Expire: s * int64(time.Second)}))
	}
	k.commit("_etcd2/dir/d" + record(layout.Record{Expire: int64(15 * time.Second)}))
	var got []string
	for _, p := range k.tree.Expired(now, 3) {
		got = append(got, p.Path)
	}
	if want := []string{"/1", "/d", "/2"}; !slices.Equal(got, want) {
		t.Errorf("%v, want the three oldest: %v", got, want)
	}
	k.commit("/1=y") // by version 3: lives on
	if got := k.tree.Expired(now, 1); len(got) != 1 || got[0].Path != "/d" {
		t.Errorf("%v, want /d", got)
	}
}
