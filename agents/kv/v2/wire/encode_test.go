package wire

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"
)

// plain has the fields of an event and no encoding of its own.
type plain Event

// FuzzEncode compares with package json.
func FuzzEncode(f *testing.F) {
	f.Add("set", "/a", "v", int64(3), int64(4), int64(0), byte(0b1011))
	f.Add("get", "", "<\u2028\"\\\n\x00é\xff&>", int64(0), int64(0), int64(-5), byte(0b0111))
	f.Add("", "/d/ü", "", int64(1), int64(1<<62), int64(7_000_000_000), byte(0b11111))
	f.Fuzz(func(t *testing.T, action, key, value string, modified, created, ttl int64, has byte) {
		at := time.Unix(0, ttl*1e9+created%1e9).UTC()
		n := &Node{Key: key, Dir: has&1 != 0, ModifiedIndex: modified, CreatedIndex: created}
		if has&2 != 0 {
			n.Value = &value
		}
		if has&4 != 0 && at.Year() < 10000 {
			n.Expiration, n.TTL = &at, ttl
		}
		e := &Event{Action: action}
		if has&8 != 0 {
			e.Node = &Node{Dir: true, Nodes: []*Node{n, {}, n}}
		}
		if has&16 != 0 {
			e.PrevNode = n
		}
		var want bytes.Buffer
		if err := json.NewEncoder(&want).Encode((*plain)(e)); err != nil {
			t.Fatal(err)
		}
		if got := e.Line(); !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s\nwant\n%s", got, want.Bytes())
		}
	})
}
