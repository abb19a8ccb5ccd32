package request_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/kv/v2/request"
	"github.com/coracle-os/coracle/agents/kv/v2/wire"
)

var now = time.Unix(1_000_000, 0)

func parse(method, target, form string) (*request.Request, error) {
	r := httptest.NewRequest(method, target, strings.NewReader(form))
	if form != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return request.Parse(r, now)
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		method, target, form string
		want                 request.Request
	}{
		{"GET", "/v2/keys", "", request.Request{Op: request.Get, Key: "/"}},
		{"GET", "/v2/keys/", "", request.Request{Op: request.Get, Key: "/"}},
		{"HEAD", "/v2/keys/a/b/", "", request.Request{Op: request.Get, Key: "/a/b"}},
		{"GET", "/v2/keys/a%20b?recursive=1&sorted=T&quorum=true", "",
			request.Request{Op: request.Get, Key: "/a b", Recursive: true, Sorted: true, Quorum: true}},
		{"GET", "/v2/keys/a?wait=true&waitIndex=7&stream=true", "",
			request.Request{Op: request.Watch, Key: "/a", WaitIndex: 7, Stream: true}},
		{"GET", "/v2/keys/a?unknown=%20", "", request.Request{Op: request.Get, Key: "/a"}},
		{"PUT", "/v2/keys/a?value=query", "", request.Request{Op: request.Set, Key: "/a", Value: "query"}},
		{"PUT", "/v2/keys/a?value=query", "value=body&value=second", request.Request{Op: request.Set, Key: "/a", Value: "body"}},
		{"PUT", "/v2/keys/a", "ttl=5", request.Request{Op: request.Set, Key: "/a", Expire: now.Add(5 * time.Second), Life: 5 * time.Second}},
		{"PUT", "/v2/keys/a", "ttl=0", request.Request{Op: request.Set, Key: "/a", Expire: now, Life: 1}},
		{"PUT", "/v2/keys/a", "ttl=", request.Request{Op: request.Set, Key: "/a"}},
		{"PUT", "/v2/keys/a", "ttl=18446744073709551615",
			request.Request{Op: request.Set, Key: "/a", Expire: now.Add(7_000_000_000 * time.Second), Life: 7_000_000_000 * time.Second}},
		{"PUT", "/v2/keys/a", "prevIndex=0", request.Request{Op: request.Set, Key: "/a"}},
		{"PUT", "/v2/keys/a", "prevIndex=18446744073709551615",
			request.Request{Op: request.CompareAndSwap, Key: "/a", PrevIndex: 1<<63 - 1}},
		{"PUT", "/v2/keys/a", "prevValue=x", request.Request{Op: request.CompareAndSwap, Key: "/a", PrevValue: "x"}},
		{"PUT", "/v2/keys/a", "prevExist=true&prevIndex=3",
			request.Request{Op: request.CompareAndSwap, Key: "/a", PrevIndex: 3}},
		{"PUT", "/v2/keys/a", "prevExist=false&prevIndex=3", request.Request{Op: request.Create, Key: "/a", PrevIndex: 3}},
		{"PUT", "/v2/keys/a", "prevExist=true", request.Request{Op: request.Update, Key: "/a"}},
		{"PUT", "/v2/keys/a", "refresh=true&ttl=1",
			request.Request{Op: request.Set, Key: "/a", Refresh: true, Expire: now.Add(time.Second), Life: time.Second}},
		{"POST", "/v2/keys/a", "value=x&dir=true", request.Request{Op: request.CreateInOrder, Key: "/a", Value: "x", Dir: true}},
		{"DELETE", "/v2/keys/a?dir=true", "", request.Request{Op: request.Delete, Key: "/a", Dir: true}},
		{"DELETE", "/v2/keys/a?prevValue=x", "", request.Request{Op: request.CompareAndDelete, Key: "/a", PrevValue: "x"}},
		{"DELETE", "/v2/keys/a", "prevValue=x", request.Request{Op: request.Delete, Key: "/a"}},
		{"PUT", "/v2/keys/a", "noValueOnSuccess=true&value=x",
			request.Request{Op: request.Set, Key: "/a", Value: "x", NoValueOnSuccess: true}},
	} {
		got, err := parse(c.method, c.target, c.form)
		if err != nil || *got != c.want {
			t.Errorf("%s %s %s: %+v, %v, want %+v", c.method, c.target, c.form, got, err, c.want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct {
		method, parameters string
		code               int
		cause              string
	}{
		{"PUT", "ttl=x", wire.TTLNaN, `invalid value for "ttl"`},
		{"PUT", "ttl=-1", wire.TTLNaN, `invalid value for "ttl"`},
		{"PUT", "ttl=1.5", wire.TTLNaN, `invalid value for "ttl"`},
		{"PUT", "prevIndex=", wire.IndexNaN, `invalid value for "prevIndex"`},
		{"GET", "wait=true&waitIndex=-1", wire.IndexNaN, `invalid value for "waitIndex"`},
		{"PUT", "dir=", wire.InvalidField, `invalid value for "dir"`},
		{"GET", "recursive=yes", wire.InvalidField, `invalid value for "recursive"`},
		{"PUT", "prevExist=x", wire.InvalidField, `invalid value for prevExist`},
		{"PUT", "wait=true", wire.InvalidField, `"wait" can only be used with GET requests`},
		{"PUT", "prevValue=", wire.PrevValueRequired, `"prevValue" cannot be empty`},
		{"PUT", "refresh=true&ttl=1&value=x", wire.RefreshValue, "A value was provided on a refresh"},
		{"PUT", "refresh=true", wire.RefreshTTL, "No TTL value set"},
		{"GET", "a=%zz", wire.InvalidForm, `invalid URL escape "%zz"`},
		{"PUT", "ttl=x&prevIndex=x&dir=x", wire.IndexNaN, `invalid value for "prevIndex"`},
	} {
		_, err := parse(c.method, "/v2/keys/a?"+c.parameters, "")
		var e *wire.Error
		if !errors.As(err, &e) || e.Code != c.code || e.Cause != c.cause || e.Index != 0 {
			t.Errorf("%s %s: %v, want code %d, cause %s", c.method, c.parameters, err, c.code, c.cause)
		}
	}
}

// JSON is no form, as it never was.
func TestParseJSON(t *testing.T) {
	r := httptest.NewRequest(http.MethodPut, "/v2/keys/a", strings.NewReader(`{"value":"x"}`))
	r.Header.Set("Content-Type", "application/json")
	if got, err := request.Parse(r, now); err != nil || *got != (request.Request{Op: request.Set, Key: "/a"}) {
		t.Errorf("%+v, %v", got, err)
	}
}
