// Package plan makes one transaction of etcd 3 of an operation of etcd 2: what
// must still be true of the store for the operation to do what it is about to
// do, and the changes. Where the operation cannot be done it says so with the
// code of version 2. It is computed from the tree alone; when the store has
// moved on meanwhile, the transaction changes nothing and another is made.
//
// An in-order key is named after the index that its creation is going to have.
// When writes of others come between, the index becomes larger than the name;
// the names stay unique and in the order of their creation.
package plan

import (
	"fmt"
	"path"

	"github.com/coracle-os/coracle/agents/kv/v2/layout"
	"github.com/coracle-os/coracle/agents/kv/v2/request"
	"github.com/coracle-os/coracle/agents/kv/v2/tree"
	"github.com/coracle-os/coracle/agents/kv/v2/wire"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Txn is a transaction that changes one key or directory of version 2.
type Txn struct {
	Key     string
	Request *pb.TxnRequest
}

// Write makes the transaction of a request that writes. Without ordered, an
// in-order key need not be the directory's newest, only new: somebody may have
// put names of that form there by hand.
func Write(t *tree.Tree, r *request.Request, ordered bool) (*Txn, *wire.Error) {
	if r.Key == "/" && r.Op != request.CreateInOrder && r.Op != request.CompareAndDelete {
		return nil, wire.NewError(wire.RootReadOnly, "/", t.Index())
	}
	switch r.Op {
	case request.Set:
		return set(t, r)
	case request.Create:
		return create(t, r, r.Key, false)
	case request.CreateInOrder:
		return create(t, r, path.Join(r.Key, fmt.Sprintf("%020d", t.Index()+1)), ordered)
	case request.Update:
		return update(t, r)
	case request.CompareAndSwap:
		return swap(t, r)
	case request.CompareAndDelete:
		return compareAndDelete(t, r)
	}
	return remove(t, r)
}

func set(t *tree.Tree, r *request.Request) (*Txn, *wire.Error) {
	missing := t.Missing(r.Key)
	if missing != nil && (missing.Code != wire.KeyNotFound || r.Refresh) {
		return nil, missing
	}
	p := t.Place(r.Key)
	if p.Dir {
		return nil, wire.NewError(wire.NotFile, r.Key, t.Index())
	}
	b := begin(t, p)
	b.ancestors()
	b.noDir()
	value := r.Value
	if r.Refresh {
		b.unchanged()
		value = p.Value
	}
	if r.Dir {
		b.deleteFile()
		b.mark(end(r), 0)
	} else {
		b.put(value, end(r), 0)
	}
	if r.Dir || r.Refresh {
		b.op(wire.Set, r.Refresh)
	}
	return b.txn(), nil
}

func create(t *tree.Tree, r *request.Request, key string, newest bool) (*Txn, *wire.Error) {
	if missing := t.Missing(key); missing != nil && missing.Code != wire.KeyNotFound {
		return nil, missing
	}
	p := t.Place(key)
	if p.Exists {
		return nil, wire.NewError(wire.NodeExist, key, t.Index())
	}
	b := beginFile(t, p)
	if newest {
		b.newest(key)
	}
	if r.Dir {
		b.deleteFile()
		b.mark(end(r), 0)
	} else {
		b.put(r.Value, end(r), 0)
	}
	b.op(wire.Create, false)
	return b.txn(), nil
}

func update(t *tree.Tree, r *request.Request) (*Txn, *wire.Error) {
	if missing := t.Missing(r.Key); missing != nil {
		return nil, missing
	}
	p := t.Place(r.Key)
	if p.Dir && r.Value != "" {
		return nil, wire.NewError(wire.NotFile, r.Key, t.Index())
	}
	b := begin(t, p)
	b.ancestors()
	if p.Dir {
		b.sameDir()
		b.mark(end(r), p.Created)
	} else {
		b.noDir()
		b.unchanged()
		b.put(kept(r, p), end(r), p.Created)
	}
	b.op(wire.Update, r.Refresh)
	return b.txn(), nil
}

func swap(t *tree.Tree, r *request.Request) (*Txn, *wire.Error) {
	p, err := compare(t, r)
	if err != nil {
		return nil, err
	}
	b := beginFile(t, p)
	b.put(kept(r, p), end(r), p.Created)
	b.op(wire.CompareAndSwap, r.Refresh)
	return b.txn(), nil
}

func compareAndDelete(t *tree.Tree, r *request.Request) (*Txn, *wire.Error) {
	p, err := compare(t, r)
	if err != nil {
		return nil, err
	}
	b := beginFile(t, p)
	b.deleteFile()
	b.op(wire.CompareAndDelete, false)
	return b.txn(), nil
}

// beginFile begins a change of the file at p, as it was seen.
func beginFile(t *tree.Tree, p tree.Place) *builder {
	b := begin(t, p)
	b.ancestors()
	b.noDir()
	b.unchanged()
	return b
}

// compare returns the file of a request if it is as the request wants it.
func compare(t *tree.Tree, r *request.Request) (tree.Place, *wire.Error) {
	if missing := t.Missing(r.Key); missing != nil {
		return tree.Place{}, missing
	}
	p := t.Place(r.Key)
	if p.Dir {
		cause := r.Key
		if cause == "/" {
			cause = ""
		}
		return p, wire.NewError(wire.NotFile, cause, t.Index())
	}
	var cause string
	if r.PrevValue != "" && r.PrevValue != p.Value {
		cause = fmt.Sprintf("[%v != %v]", r.PrevValue, p.Value)
	}
	if r.PrevIndex != 0 && r.PrevIndex != p.Modified {
		if cause != "" {
			cause += " "
		}
		cause += fmt.Sprintf("[%v != %v]", r.PrevIndex, p.Modified)
	}
	if cause != "" {
		return p, wire.NewError(wire.TestFailed, cause, t.Index())
	}
	return p, nil
}

func remove(t *tree.Tree, r *request.Request) (*Txn, *wire.Error) {
	if missing := t.Missing(r.Key); missing != nil {
		return nil, missing
	}
	p := t.Place(r.Key)
	b := begin(t, p)
	b.ancestors()
	switch {
	case !p.Dir:
		b.noDir()
		b.unchanged()
		b.deleteFile()
	case !r.Dir && !r.Recursive:
		return nil, wire.NewError(wire.NotFile, r.Key, t.Index())
	case !p.Empty && !r.Recursive:
		return nil, wire.NewError(wire.DirNotEmpty, r.Key, t.Index())
	default:
		b.sameDir()
		if !r.Recursive {
			b.empty()
		}
		b.deleteDir()
		b.op(wire.Delete, false)
	}
	return b.txn(), nil
}

// Expire makes the transaction that ends what a place says has expired, if it
// has not been written since.
func Expire(t *tree.Tree, p tree.Place) *Txn {
	b := begin(t, p)
	b.ancestors()
	if p.Dir {
		b.sameDir()
		b.deleteDir()
	} else {
		b.noDir()
		b.unchanged()
		b.deleteFile()
	}
	b.op(wire.Expire, false)
	return b.txn()
}

// collected is how many records Collect takes at a time; a transaction of
// version 3 has at most 128 operations.
const collected = 100

// Collect makes the transaction that removes records of files that version 3
// deleted, or returns nil when there are none.
func Collect(t *tree.Tree) *Txn {
	b := begin(t, tree.Place{})
	for path, revision := range t.Stale() {
		if len(b.ops) == collected {
			break
		}
		b.sameRevision(layout.RecordKey(path), revision)
		b.deleteKey(layout.RecordKey(path))
	}
	if len(b.ops) == 0 {
		return nil
	}
	return b.txn()
}

// kept is the value that a request leaves a file with.
func kept(r *request.Request, p tree.Place) string {
	if r.Refresh {
		return p.Value
	}
	return r.Value
}

// end is the record of what a request says about the end of what it writes.
func end(r *request.Request) layout.Record {
	if r.Expire.IsZero() {
		return layout.Record{}
	}
	return layout.Record{Expire: r.Expire.UnixNano(), Life: int64(r.Life)}
}
