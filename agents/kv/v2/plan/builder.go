package plan

import (
	"fmt"
	"path"

	"github.com/coracle-os/coracle/agents/kv/v2/layout"
	"github.com/coracle-os/coracle/agents/kv/v2/tree"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// builder collects the conditions and the changes of a transaction. Changes of
// a key come before those of the record beside it, as package tree wants it.
type builder struct {
	tree     *tree.Tree
	p        tree.Place
	compares []*pb.Compare
	ops      []*pb.RequestOp
}

func begin(t *tree.Tree, p tree.Place) *builder { return &builder{tree: t, p: p} }

func (b *builder) txn() *Txn {
	return &Txn{Key: b.p.Path, Request: &pb.TxnRequest{Compare: b.compares, Success: b.ops}}
}

// sameRevision demands that a key was last written at a revision; 0 means that
// it is not there.
func (b *builder) sameRevision(key string, revision int64) {
	b.compares = append(b.compares, &pb.Compare{Result: pb.Compare_EQUAL, Target: pb.Compare_MOD,
		Key: []byte(key), TargetUnion: &pb.Compare_ModRevision{ModRevision: revision}})
}

// sameBeginning demands that a key has been there since a revision.
func (b *builder) sameBeginning(key string, revision int64) {
	b.compares = append(b.compares, &pb.Compare{Result: pb.Compare_EQUAL, Target: pb.Compare_CREATE,
		Key: []byte(key), TargetUnion: &pb.Compare_CreateRevision{CreateRevision: revision}})
}

// none demands that a range of keys is empty.
func (b *builder) none(from, to string) {
	b.compares = append(b.compares, &pb.Compare{Result: pb.Compare_EQUAL, Target: pb.Compare_CREATE,
		Key: []byte(from), RangeEnd: []byte(to), TargetUnion: &pb.Compare_CreateRevision{}})
}

// ancestors demands that no file has come to lie on the way, and records the
// directories on the way that are not, so that they outlive what lies in them.
// The ancestors of a recorded directory are recorded too, and go only with it:
// that the nearest is still the same says it of all.
func (b *builder) ancestors() {
	var nearest tree.Place
	for _, a := range b.tree.Ancestors(b.p.Path) {
		if a.MarkMod != 0 {
			nearest = a
			continue
		}
		b.sameRevision(a.Path, a.FileMod)
		b.sameRevision(layout.DirKey(a.Path), 0)
		b.putKey(layout.DirKey(a.Path), layout.Encode(layout.Record{Created: a.Created}))
	}
	if nearest.MarkMod != 0 {
		b.sameBeginning(layout.DirKey(nearest.Path), nearest.MarkCreate)
	}
}

// noDir demands that the key is no directory: neither recorded nor with keys
// below it, of version 2 or 3. With a record below it there would be its own.
func (b *builder) noDir() {
	b.sameRevision(layout.DirKey(b.p.Path), 0)
	b.none(layout.Below(b.p.Path))
}

// empty demands that nothing lies below.
func (b *builder) empty() {
	b.none(layout.Below(b.p.Path))
	b.none(layout.Below(layout.DirKey(b.p.Path)))
}

// unchanged demands that the file was not written since the tree saw it.
func (b *builder) unchanged() { b.sameRevision(b.p.Path, b.p.FileMod) }

// sameDir demands that the directory is the one that the tree saw. One without
// a record is any that has no record.
func (b *builder) sameDir() { b.sameRevision(layout.DirKey(b.p.Path), b.p.MarkMod) }

// newest demands that the directory of an in-order key has none with an equal
// or a larger number. A key's number is not larger than its index, so that the
// range of those that can be is short.
func (b *builder) newest(key string) {
	b.none(key, path.Join(path.Dir(key), fmt.Sprintf("%020d", b.tree.Index()+1_000_000)))
}

func (b *builder) putKey(key string, value []byte) {
	b.ops = append(b.ops, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
		RequestPut: &pb.PutRequest{Key: []byte(key), Value: value}}})
}

func (b *builder) deleteKey(key string) {
	b.ops = append(b.ops, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
		RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key)}}})
}

func (b *builder) deleteBelow(key string) {
	from, to := layout.Below(key)
	b.ops = append(b.ops, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
		RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(from), RangeEnd: []byte(to)}}})
}

// put writes the file. Created is 0 for a file that begins anew.
func (b *builder) put(value string, record layout.Record, created int64) {
	b.putKey(b.p.Path, []byte(value))
	record.Created = created
	switch {
	case record != layout.Record{}:
		b.putKey(layout.RecordKey(b.p.Path), layout.Encode(record))
	case b.p.HasRecord:
		b.deleteKey(layout.RecordKey(b.p.Path))
	}
}

// mark writes the directory's record.
func (b *builder) mark(record layout.Record, created int64) {
	record.Created = created
	b.putKey(layout.DirKey(b.p.Path), layout.Encode(record))
}

func (b *builder) deleteFile() {
	b.deleteKey(b.p.Path)
	if b.p.HasRecord {
		b.deleteKey(layout.RecordKey(b.p.Path))
	}
}

func (b *builder) deleteDir() {
	for _, key := range []string{b.p.Path, layout.DirKey(b.p.Path), layout.RecordKey(b.p.Path)} {
		b.deleteBelow(key)
		b.deleteKey(key)
	}
}

// op says what the transaction did.
func (b *builder) op(action string, refresh bool) {
	b.putKey(layout.OpKey, layout.Encode(layout.Op{Action: action, Key: []byte(b.p.Path), Refresh: refresh}))
}
