// Package tree is the keyspace as version 2 of etcd's API sees it: directories
// and files, with indexes and expiry, kept in memory. It is fed with the changes
// of version 3's store in their order and tells which events of version 2 each
// of them is. Being computed from the store's content and order alone, it is
// the same on every member. The indexes of version 2 are the revisions of
// version 3.
//
// Members' clocks may differ by an hour. What expires does so when its time to
// live has passed since the tree was told of it, on whatever clock; only for
// what the tree began with, the time of its end must do.
//
// A change that version 3 made is a "set" or a "delete" of each key in it, and
// all of them have one index. Keys that version 2 cannot name ("/a//b", "a")
// are not shown; those that begin like a path keep the directory they lie in.
package tree

import (
	"strings"
	"time"

	"github.com/coracle-os/coracle/agents/kv/v2/layout"
)

// Tree is the state after the revision Index. It is not safe for concurrent use.
type Tree struct {
	root  *node
	index int64
	now   func() time.Time
	ends  map[*node]struct{} // what expires
	stale map[string]int64   // records of files that are gone, with their revision
	live  bool               // changes are seen when they happen
	skew  time.Duration      // how far ahead this clock is of the last writer's
}

// node is what lies at a path. It can be a file and a directory at once; then
// the directory is shown.
type node struct {
	path     string
	parent   *node
	children map[string]*node
	odd      map[string]int64 // keys below without a path, with their first revision

	file        bool
	value       string
	create, mod int64 // revisions of the file's key
	record      layout.Record
	recordMod   int64
	recordEnd   time.Time

	marked              bool // as a directory, by a record
	markCreate, markMod int64
	mark                layout.Record
	markEnd             time.Time
}

// New returns an empty tree at an index.
func New(index int64, now func() time.Time) *Tree {
	return &Tree{root: &node{path: "/", marked: true}, index: index, now: now,
		ends: map[*node]struct{}{}, stale: map[string]int64{}}
}

// Index is the revision of the last change.
func (t *Tree) Index() int64 { return t.index }

func (n *node) exists() bool { return n.file || n.isDir() }

func (n *node) isDir() bool { return n.marked || len(n.children) > 0 || len(n.odd) > 0 }

func (n *node) empty() bool { return len(n.children) == 0 && len(n.odd) == 0 }

func (n *node) hidden() bool {
	return n.path[strings.LastIndexByte(n.path, '/')+1:][0] == '_'
}

// created is the index at which a file or a directory began. A directory that
// nobody recorded began with the oldest of what lies in it.
func (n *node) created() int64 {
	if !n.isDir() {
		if n.record.Created != 0 && n.recordMod == n.mod {
			return n.record.Created
		}
		return n.mod
	}
	return n.began()
}

func (n *node) began() int64 {
	if n.marked {
		if n.mark.Created != 0 {
			return n.mark.Created
		}
		return n.markCreate
	}
	var first int64
	older := func(rev int64) {
		if first == 0 || rev < first {
			first = rev
		}
	}
	if n.file && n.empty() {
		older(n.create)
	}
	for _, c := range n.children {
		older(c.began())
	}
	for _, rev := range n.odd {
		older(rev)
	}
	return first
}

func (n *node) modified() int64 {
	if n.isDir() {
		return n.began()
	}
	return n.mod
}

// expires is when the node ends: as it was said, in nanoseconds since 1970, 0
// for never, and on this clock.
func (n *node) expires() (said int64, here time.Time) {
	switch {
	case n.marked:
		return n.mark.Expire, n.markEnd
	case n.file && !n.isDir() && n.recordMod == n.mod:
		return n.record.Expire, n.recordEnd
	}
	return 0, time.Time{}
}

// Live says that changes are applied from now on when they happen.
func (t *Tree) Live() { t.live = true }

// Skew is how far this clock is ahead of that of the member that took the last
// write with an end, as far as it can be told: it includes the write's own time.
func (t *Tree) Skew() time.Duration { return t.skew }

// end is when a record that has just come ends on this clock.
func (t *Tree) end(r layout.Record) time.Time {
	said := time.Unix(0, r.Expire)
	if r.Expire == 0 || r.Life == 0 || !t.live {
		return said
	}
	now := t.now()
	here := now.Add(time.Duration(r.Life))
	t.skew = here.Sub(said)
	return here
}

// find returns the node at a path, or nil.
func (t *Tree) find(path string) *node {
	n := t.root
	components, _ := layout.Split(path)
	if path == "/" {
		return n
	}
	for _, name := range components {
		if n = n.children[name]; n == nil {
			return nil
		}
	}
	return n
}

// make returns the node at a path that Split takes completely.
func (t *Tree) make(components []string) *node {
	n := t.root
	for _, name := range components {
		c := n.children[name]
		if c == nil {
			c = &node{path: strings.TrimSuffix(n.path, "/") + "/" + name, parent: n}
			if n.children == nil {
				n.children = map[string]*node{}
			}
			n.children[name] = c
		}
		n = c
	}
	return n
}

// settle removes a node that no longer is anything, and keeps account of those
// that expire.
func (t *Tree) settle(n *node) {
	for ; n.parent != nil; n = n.parent {
		if said, _ := n.expires(); said != 0 {
			t.ends[n] = struct{}{}
		} else {
			delete(t.ends, n)
		}
		if n.exists() {
			return
		}
		delete(n.parent.children, n.path[strings.LastIndexByte(n.path, '/')+1:])
		if len(n.parent.children) == 0 {
			n.parent.children = nil
		}
	}
}
