package tree

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/coracle-os/coracle/agents/kv/v2/layout"
	"github.com/coracle-os/coracle/agents/kv/v2/wire"
)

// repr shows a node without what lies in it.
func (t *Tree) repr(n *node) *wire.Node {
	out := &wire.Node{Key: n.path, ModifiedIndex: n.modified(), CreatedIndex: n.created()}
	if n.isDir() {
		out.Dir = true
	} else {
		value := n.value
		out.Value = &value
	}
	if said, here := n.expires(); said != 0 {
		at := time.Unix(0, said).UTC()
		left := here.Sub(t.now())
		out.Expiration = &at
		if out.TTL = int64(left / time.Second); left%time.Second > 0 {
			out.TTL++
		}
	}
	return out
}

// list shows what lies in a directory and is not hidden, sorted by name.
func (t *Tree) list(n *node, recursive bool) []*wire.Node {
	var out []*wire.Node
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		c := n.children[name]
		if c.hidden() {
			continue
		}
		r := t.repr(c)
		if recursive && c.isDir() {
			r.Nodes = t.list(c, true)
		}
		out = append(out, r)
	}
	return out
}

// Get shows what lies at a path.
func (t *Tree) Get(path string, recursive bool) (*wire.Event, *wire.Error) {
	if err := t.Missing(path); err != nil {
		return nil, err
	}
	n := t.find(path)
	r := t.repr(n)
	if n.isDir() {
		r.Nodes = t.list(n, recursive)
	}
	if n == t.root {
		r.Key, r.ModifiedIndex, r.CreatedIndex = "", 0, 0
	}
	return &wire.Event{Action: wire.Get, Node: r}, nil
}

// Missing is the error of asking for a path where nothing lies, or nil. Its
// cause is the first component that is missing, or the file in the way.
func (t *Tree) Missing(path string) *wire.Error {
	n := t.root
	components, _ := layout.Split(path)
	if path == "/" {
		return nil
	}
	for _, name := range components {
		if !n.isDir() {
			return wire.NewError(wire.NotDir, n.path, t.index)
		}
		c := n.children[name]
		if c == nil {
			missing := n.path + "/" + name
			if n == t.root {
				missing = "/" + name
			}
			return wire.NewError(wire.KeyNotFound, missing, t.index)
		}
		n = c
	}
	return nil
}

// Place is what a writer must know of a path.
type Place struct {
	Path        string
	Exists, Dir bool
	Empty       bool // nothing lies below
	Value       string
	Created     int64         // index
	Modified    int64         // index
	FileMod     int64         // revision of the key in version 3, 0 when there is none
	MarkMod     int64         // revision of the directory's record, 0 when there is none
	MarkCreate  int64         // revision since which there is one
	Mark        layout.Record // the directory's record
	HasRecord   bool          // a record lies beside the key, valid or not
}

// Place tells what lies at a path.
func (t *Tree) Place(path string) Place {
	n := t.find(path)
	if n == nil {
		_, stale := t.stale[path]
		return Place{Path: path, Empty: true, HasRecord: stale}
	}
	return n.place()
}

func (n *node) place() Place {
	p := Place{Path: n.path, Exists: n.exists(), Dir: n.isDir(), Empty: n.empty(), Value: n.value,
		Created: n.created(), Modified: n.modified(), HasRecord: n.recordMod != 0, Mark: n.mark}
	if n.file {
		p.FileMod = n.mod
	}
	if n.marked {
		p.MarkMod, p.MarkCreate = n.markMod, n.markCreate
	}
	return p
}

// Ancestors tells what lies on the way to a path, outermost first, the root not
// among it.
func (t *Tree) Ancestors(path string) []Place {
	out := make([]Place, 0, strings.Count(path, "/"))
	n := t.root
	for begin, i := 1, 1; i < len(path); i++ {
		if path[i] != '/' {
			continue
		}
		if n != nil {
			n = n.children[path[begin:i]]
		}
		if begin = i + 1; n != nil {
			out = append(out, n.place())
		} else {
			out = append(out, t.Place(path[:i]))
		}
	}
	return out
}

// Expired tells what should have ended at a time, the oldest first, at most
// limit of it.
func (t *Tree) Expired(at time.Time, limit int) []Place {
	var due []*node
	for n := range t.ends {
		if said, here := n.expires(); said != 0 && !here.After(at) {
			due = append(due, n)
		}
	}
	slices.SortFunc(due, func(a, b *node) int {
		_, first := a.expires()
		_, second := b.expires()
		if d := first.Compare(second); d != 0 {
			return d
		}
		return int(max(-1, min(1, a.created()-b.created())))
	})
	var out []Place
	for _, n := range due[:min(len(due), limit)] {
		out = append(out, n.place())
	}
	return out
}

// Stale tells the records that lie beside no file, with their revisions.
func (t *Tree) Stale() map[string]int64 { return t.stale }
