package plan_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/kv/v2/plan"
	"github.com/coracle-os/coracle/agents/kv/v2/request"
	"github.com/coracle-os/coracle/agents/kv/v2/tree"
	"github.com/coracle-os/coracle/agents/kv/v2/wire"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// sample is a tree at index 9: a file with a record, one without, a recorded
// empty directory, a directory of version 3 and a file that version 3 made a
// directory.
func sample() *tree.Tree {
	t := tree.New(9, time.Now)
	for _, c := range []tree.Change{
		{Key: "/d/f", Value: "v", Create: 3, Mod: 5}, {Key: "/file", Value: "w", Create: 6, Mod: 6},
		{Key: "/three/x", Create: 7, Mod: 7}, {Key: "/both", Value: "b", Create: 8, Mod: 8}, {Key: "/both/x", Create: 9, Mod: 9},
		{Key: "_etcd2/dir/d", Value: "{}", Create: 3, Mod: 3}, {Key: "_etcd2/dir/empty", Value: "{}", Create: 4, Mod: 4},
		{Key: "_etcd2/key/d/f", Value: `{"c":3,"e":99}`, Create: 5, Mod: 5},
		{Key: "_etcd2/key/gone", Value: `{"c":2}`, Create: 2, Mod: 2},
	} {
		t.Load(c)
	}
	return t
}

// text writes a transaction: conditions, a colon, changes.
func text(txn *plan.Txn) string {
	var out []string
	for _, c := range txn.Request.Compare {
		if c.Target == pb.Compare_MOD {
			out = append(out, fmt.Sprintf("%s@%d", c.Key, c.GetModRevision()))
			continue
		}
		if c.RangeEnd == nil {
			out = append(out, fmt.Sprintf("%s since %d", c.Key, c.GetCreateRevision()))
			continue
		}
		out = append(out, fmt.Sprintf("none %s..%s", c.Key, c.RangeEnd))
	}
	out = append(out, ":")
	for _, o := range txn.Request.Success {
		if p := o.GetRequestPut(); p != nil {
			out = append(out, fmt.Sprintf("%s=%s", p.Key, p.Value))
			continue
		}
		d := o.GetRequestDeleteRange()
		line := fmt.Sprintf("-%s", d.Key)
		if len(d.RangeEnd) > 0 {
			line += fmt.Sprintf("..%s", d.RangeEnd)
		}
		out = append(out, line)
	}
	return strings.Join(out, " ")
}

// free is the condition that nothing lies below a path and it is no directory.
func free(path string) string {
	return fmt.Sprintf("_etcd2/dir%s@0 none %s/..%s0", path, path, path)
}

// op is the record of what was done; keys in it are in base 64.
func op(action, key string) string { return fmt.Sprintf(`_etcd2/op={"a":%q,"k":%q}`, action, key) }

func TestWrite(t *testing.T) {
	for _, c := range []struct {
		name string
		r    request.Request
		want string
	}{
		{"set", request.Request{Op: request.Set, Key: "/new", Value: "x"}, free("/new") + " : /new=x"},
		{"set anew drops the record", request.Request{Op: request.Set, Key: "/d/f", Value: "x"},
			"_etcd2/dir/d since 3 " + free("/d/f") + " : /d/f=x -_etcd2/key/d/f"},
		{"set drops the record of a file that is gone", request.Request{Op: request.Set, Key: "/gone", Value: "x"},
			free("/gone") + " : /gone=x -_etcd2/key/gone"},
		{"set records directories on the way", request.Request{Op: request.Set, Key: "/three/n/x", Value: "x"},
			`/three@0 _etcd2/dir/three@0 /three/n@0 _etcd2/dir/three/n@0 ` + free("/three/n/x") + ` : _etcd2/dir/three={"c":7} _etcd2/dir/three/n={} /three/n/x=x`},
		{"set with an end", request.Request{Op: request.Set, Key: "/new", Expire: time.Unix(0, 77), Life: 7},
			free("/new") + ` : /new= _etcd2/key/new={"e":77,"l":7}`},
		{"directory", request.Request{Op: request.Set, Key: "/new", Dir: true},
			free("/new") + ` : -/new _etcd2/dir/new={} ` + op("set", "L25ldw==")},
		{"create", request.Request{Op: request.Create, Key: "/new", Value: "x"},
			free("/new") + " /new@0 : /new=x " + op("create", "L25ldw==")},
		{"update keeps the creation", request.Request{Op: request.Update, Key: "/file", Value: "x"},
			free("/file") + ` /file@6 : /file=x _etcd2/key/file={"c":6} ` + op("update", "L2ZpbGU=")},
		{"swap", request.Request{Op: request.CompareAndSwap, Key: "/file", Value: "x", PrevIndex: 6, PrevValue: "w"},
			free("/file") + ` /file@6 : /file=x _etcd2/key/file={"c":6} ` + op("compareAndSwap", "L2ZpbGU=")},
		{"compare and delete", request.Request{Op: request.CompareAndDelete, Key: "/d/f", PrevValue: "v"},
			"_etcd2/dir/d since 3 " + free("/d/f") + ` /d/f@5 : -/d/f -_etcd2/key/d/f ` + op("compareAndDelete", "L2QvZg==")},
		{"delete", request.Request{Op: request.Delete, Key: "/file"}, free("/file") + " /file@6 : -/file"},
		{"delete an empty directory", request.Request{Op: request.Delete, Key: "/empty", Dir: true},
			"_etcd2/dir/empty@4 none /empty/../empty0 none _etcd2/dir/empty/.._etcd2/dir/empty0 : -/empty/../empty0 -/empty" +
				" -_etcd2/dir/empty/.._etcd2/dir/empty0 -_etcd2/dir/empty -_etcd2/key/empty/.._etcd2/key/empty0 -_etcd2/key/empty " +
				op("delete", "L2VtcHR5")},
	} {
		txn, err := plan.Write(sample(), &c.r, true)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if got := text(txn); got != c.want || txn.Key != c.r.Key {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

// In-order keys are named after the index that comes next. Strictly ordered,
// nothing with a later name may be there.
func TestWriteInOrder(t *testing.T) {
	r := request.Request{Op: request.CreateInOrder, Key: "/d", Value: "x"}
	const key = "/d/00000000000000000010"
	for ordered, want := range map[bool]string{
		true:  "none " + key + "../d/00000000000001000009 : " + key + "=x ",
		false: key + "@0 : " + key + "=x ",
	} {
		txn, err := plan.Write(sample(), &r, ordered)
		if err != nil || txn.Key != key || !strings.Contains(text(txn), want) {
			t.Errorf("ordered %t: %v, %s, want %s", ordered, err, text(txn), want)
		}
	}
}

func TestWriteErrors(t *testing.T) {
	set := func(key string) request.Request { return request.Request{Op: request.Set, Key: key} }
	for _, c := range []struct {
		name  string
		r     request.Request
		code  int
		cause string
	}{
		{"root", set("/"), wire.RootReadOnly, "/"},
		{"set a directory", set("/three"), wire.NotFile, "/three"},
		{"set what is both", set("/both"), wire.NotFile, "/both"},
		{"set below a file", set("/file/a/b"), wire.NotDir, "/file"},
		{"create what is there", request.Request{Op: request.Create, Key: "/d/f"}, wire.NodeExist, "/d/f"},
		{"create a directory that is there", request.Request{Op: request.Create, Key: "/empty", Dir: true}, wire.NodeExist, "/empty"},
		{"in order below a file", request.Request{Op: request.CreateInOrder, Key: "/file"}, wire.NotDir, "/file"},
		{"update what is not there", request.Request{Op: request.Update, Key: "/x/y"}, wire.KeyNotFound, "/x"},
		{"update a directory's value", request.Request{Op: request.Update, Key: "/d", Value: "x"}, wire.NotFile, "/d"},
		{"refresh what is not there", request.Request{Op: request.Set, Key: "/x", Refresh: true}, wire.KeyNotFound, "/x"},
		{"swap other value", request.Request{Op: request.CompareAndSwap, Key: "/file", PrevValue: "x"}, wire.TestFailed, "[x != w]"},
		{"swap other index", request.Request{Op: request.CompareAndSwap, Key: "/file", PrevIndex: 5}, wire.TestFailed, "[5 != 6]"},
		{"swap both", request.Request{Op: request.CompareAndSwap, Key: "/file", PrevValue: "x", PrevIndex: 5}, wire.TestFailed, "[x != w] [5 != 6]"},
		{"compare and delete a directory", request.Request{Op: request.CompareAndDelete, Key: "/d", PrevIndex: 3}, wire.NotFile, "/d"},
		{"compare and delete the root", request.Request{Op: request.CompareAndDelete, Key: "/", PrevIndex: 3}, wire.NotFile, ""},
		{"delete a directory as a file", request.Request{Op: request.Delete, Key: "/empty"}, wire.NotFile, "/empty"},
		{"delete a full directory", request.Request{Op: request.Delete, Key: "/d", Dir: true}, wire.DirNotEmpty, "/d"},
	} {
		_, err := plan.Write(sample(), &c.r, true)
		if err == nil || err.Code != c.code || err.Cause != c.cause || err.Index != 9 {
			t.Errorf("%s: %v, want code %d, cause %q, index 9", c.name, err, c.code, c.cause)
		}
	}
}

func TestExpire(t *testing.T) {
	tr := sample()
	want := "_etcd2/dir/d since 3 " + free("/d/f") + " /d/f@5 : -/d/f -_etcd2/key/d/f " + op("expire", "L2QvZg==")
	due := tr.Expired(time.Unix(1, 0), 10)
	if len(due) != 1 || text(plan.Expire(tr, due[0])) != want {
		t.Errorf("%v, want the end of /d/f: %s", due, want)
	}
}

func TestCollect(t *testing.T) {
	tr := sample()
	if got, want := text(plan.Collect(tr)), "_etcd2/key/gone@2 : -_etcd2/key/gone"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for i := range int64(300) {
		tr.Load(tree.Change{Key: fmt.Sprintf("_etcd2/key/%d", i), Value: "{}", Mod: 3})
	}
	if n := len(plan.Collect(tr).Request.Success); n > 128 {
		t.Errorf("%d operations, etcd takes 128", n)
	}
	if txn := plan.Collect(tree.New(1, time.Now)); txn != nil {
		t.Errorf("%v, want nothing to do", txn)
	}
}
