package v2_test

import (
	"net/url"
	"testing"
	"time"
)

// TestExpiryDifferential lets keys and directories expire on both sides: the
// events, their indexes and who is told must be the same.
func TestExpiryDifferential(t *testing.T) {
	d := &differential{t: t, sides: [2]*side{newSide(t, ours(t)), newSide(t, theirs(t))}, seen: map[string]seen{}}
	request := func(method, key, params string) op {
		values, err := url.ParseQuery(params)
		if err != nil {
			t.Fatal(err)
		}
		return op{method: method, key: key, params: values}
	}
	for _, r := range [][2]string{
		{"/dir", "dir=true&ttl=1"}, {"/dir/x", "value=x"}, {"/dir/_h", "value=x"}, {"/dir/later", "value=x&ttl=100"},
		{"/file", "value=x&ttl=2"}, {"/dir2/y", "value=x&ttl=2"}, {"/_h/z", "value=x&ttl=3"}, {"/saved", "value=x&ttl=1"},
		{"/saved", "value=y"}, {"/refreshed", "value=x&ttl=1"}, {"/refreshed", "refresh=true&prevExist=true&ttl=100"},
	} {
		d.do(request("PUT", r[0], r[1]))
		time.Sleep(10 * time.Millisecond) // so that the order of the ends is plain
	}
	watches := func() {
		for _, key := range []string{"/", "/dir", "/dir/x", "/dir/_h", "/dir/later", "/file", "/dir2", "/_h/z", "/saved"} {
			for _, params := range []string{"wait=true", "wait=true&recursive=true", "wait=true&stream=true&recursive=true",
				"wait=true&recursive=true&waitIndex={12}"} {
				d.watch(request("GET", key, params))
			}
		}
	}
	watches()
	time.Sleep(4500 * time.Millisecond)
	d.checkWatches()
	if d.events < 10 {
		t.Errorf("%d events, want those of all that expired", d.events)
	}
	d.do(request("PUT", "/zero", "value=x&ttl=0"))
	time.Sleep(1500 * time.Millisecond)
	for _, key := range []string{"/", "/dir", "/dir/x", "/dir/_h", "/_h", "/dir2", "/zero"} {
		d.do(request("GET", key, "recursive=true&sorted=true"))
	}
	watches()
	d.checkWatches()
}
