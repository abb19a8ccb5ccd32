package tree

import (
	"maps"
	"slices"

	"github.com/coracle-os/coracle/agents/kv/v2/layout"
	"github.com/coracle-os/coracle/agents/kv/v2/wire"
)

// Change is a change of one key in version 3's store.
type Change struct {
	Key, Value  string
	Deleted     bool
	Create, Mod int64 // the key's revisions; Create is not known of deleted keys
}

// Load takes a key of the store as it was when the tree begins.
func (t *Tree) Load(c Change) { t.change(c) }

// Apply takes all changes of one revision and returns the events that they are
// in version 2.
func (t *Tree) Apply(revision int64, changes []Change) []*wire.Event {
	var op layout.Op
	for _, c := range changes {
		if c.Key == layout.OpKey && !c.Deleted {
			op = layout.DecodeOp([]byte(c.Value))
		}
	}
	t.index = revision
	if len(op.Key) > 0 {
		return t.applyOp(op, changes)
	}
	var events []*wire.Event
	for _, c := range changes {
		if kind, path := layout.Read(c.Key); kind == layout.File {
			events = append(events, t.before(action(c), path)...)
		}
	}
	for _, c := range changes {
		t.change(c)
	}
	return slices.DeleteFunc(events, func(e *wire.Event) bool { return !t.after(e) })
}

func action(c Change) string {
	if c.Deleted {
		return wire.Delete
	}
	return wire.Set
}

func (t *Tree) applyOp(op layout.Op, changes []Change) []*wire.Event {
	events := t.before(op.Action, string(op.Key))
	for _, c := range changes {
		t.change(c)
	}
	for _, e := range events {
		if !t.after(e) {
			return nil
		}
		e.Refresh = op.Refresh
	}
	return events
}

// before begins the event of a change that is about to be made.
func (t *Tree) before(action, path string) []*wire.Event {
	if _, rest := layout.Split(path); rest != "" {
		return nil
	}
	e := &wire.Event{Action: action, Node: &wire.Node{Key: path}}
	n := t.find(path)
	if n == nil || !n.exists() {
		return []*wire.Event{e}
	}
	e.PrevNode = t.repr(n)
	if removes(action) && n.isDir() {
		e.Removed = n.below(nil)
	}
	return []*wire.Event{e}
}

// after completes the event of a change that has been made. It reports false
// when version 2 sees no change.
func (t *Tree) after(e *wire.Event) bool {
	n := t.find(e.Node.Key)
	if removes(e.Action) {
		if e.PrevNode == nil || n != nil && n.exists() {
			return false
		}
		e.Node.Dir = e.PrevNode.Dir
		e.Node.CreatedIndex = e.PrevNode.CreatedIndex
		e.Node.ModifiedIndex = t.index
		return true
	}
	if n == nil || !n.exists() || n.mod != t.index && n.markMod != t.index || n.isDir() && n.markMod != t.index {
		return false
	}
	e.Node = t.repr(n)
	e.Node.ModifiedIndex = t.index
	return true
}

func removes(action string) bool {
	return action == wire.Delete || action == wire.Expire || action == wire.CompareAndDelete
}

// below adds the paths of everything in a directory to list.
func (n *node) below(list []string) []string {
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		c := n.children[name]
		list = append(c.below(list), c.path)
	}
	return list
}

// change makes one change.
func (t *Tree) change(c Change) {
	kind, path := layout.Read(c.Key)
	if kind == layout.Other || kind == layout.OpRecord {
		return
	}
	components, rest := layout.Split(path)
	if len(components) == 0 {
		return
	}
	if kind == layout.FileRecord {
		if rest == "" {
			t.changeRecord(path, c)
		}
		return
	}
	if c.Deleted && t.find(path) == nil && rest == "" {
		return
	}
	n := t.make(components)
	switch {
	case rest != "" && kind == layout.File:
		n.changeOdd(c)
	case rest != "":
	case kind == layout.DirRecord:
		n.marked, n.mark, n.markCreate, n.markMod = !c.Deleted, layout.DecodeRecord([]byte(c.Value)), c.Create, c.Mod
		if c.Deleted {
			n.mark = layout.Record{}
		}
		n.markEnd = t.end(n.mark)
	default:
		n.file, n.value, n.create, n.mod = !c.Deleted, c.Value, c.Create, c.Mod
		t.changeStale(n, c.Deleted)
	}
	t.settle(n)
}

// changeStale keeps account of a record whose file goes or comes back. It does
// not hold for the new file.
func (t *Tree) changeStale(n *node, deleted bool) {
	switch mod, stale := t.stale[n.path]; {
	case deleted && n.recordMod != 0:
		t.stale[n.path] = n.recordMod
		n.recordMod, n.record = 0, layout.Record{}
	case !deleted && stale:
		delete(t.stale, n.path)
		n.recordMod = mod
	}
}

func (n *node) changeOdd(c Change) {
	switch {
	case c.Deleted:
		delete(n.odd, c.Key)
		if len(n.odd) == 0 {
			n.odd = nil
		}
	case n.odd == nil:
		n.odd = map[string]int64{c.Key: c.Create}
	default:
		n.odd[c.Key] = c.Create
	}
}

// changeRecord takes the record beside a file. In a transaction and in Load the
// file comes before it.
func (t *Tree) changeRecord(path string, c Change) {
	n := t.find(path)
	switch {
	case c.Deleted:
		delete(t.stale, path)
		if n != nil {
			n.record, n.recordMod = layout.Record{}, 0
		}
	case n == nil || !n.file:
		t.stale[path] = c.Mod
	default:
		delete(t.stale, path)
		n.record, n.recordMod = layout.DecodeRecord([]byte(c.Value)), c.Mod
		n.recordEnd = t.end(n.record)
	}
	if n != nil {
		t.settle(n)
	}
}
