// Package request reads HTTP requests about keys as etcd 2 does: parameters of
// the query and of a form in the body, the body's first, the first of several
// wins, unknown ones are ignored. It decides which operation is meant; whether
// that can be done is the store's matter. JSON bodies are no forms and say
// nothing, as they always did.
package request

import (
	"net/http"
	"path"
	"strconv"
	"time"

	"github.com/coracle-os/coracle/agents/kv/v2/wire"
)

// Prefix is the path under which the keys are.
const Prefix = "/v2/keys"

// Op is what a request asks for.
type Op int

// Operations.
const (
	Get Op = iota
	Watch
	Set
	Create        // fails when the key is there
	CreateInOrder // below Key, named by the index
	Update        // fails when the key is not there
	CompareAndSwap
	Delete
	CompareAndDelete
)

// Request is a request about a key.
type Request struct {
	Op        Op
	Key       string // clean, with a leading slash; "/" is the root
	Value     string
	Dir       bool
	Recursive bool
	Sorted    bool
	Quorum    bool // the answer must hold for the whole cluster
	Stream    bool
	Refresh   bool // keep the value, wake nobody
	PrevValue string
	PrevIndex int64         // 0 for any
	WaitIndex int64         // 0 for the next
	Expire    time.Time     // zero for never
	Life      time.Duration // how long that is from now, at least 1 ns; 0 for ever

	NoValueOnSuccess bool
}

// reader reads parameters and keeps the first error.
type reader struct {
	r   *http.Request
	err *wire.Error
}

func (p *reader) fail(code int, cause string) {
	if p.err == nil {
		p.err = wire.NewError(code, cause, 0)
	}
}

func (p *reader) has(name string) bool { return p.r.Form.Has(name) }

func (p *reader) bool(name, quoted string) bool {
	if !p.has(name) {
		return false
	}
	v, err := strconv.ParseBool(p.r.Form.Get(name))
	if err != nil {
		p.fail(wire.InvalidField, "invalid value for "+quoted)
	}
	return v
}

func (p *reader) uint(name string, code int) uint64 {
	if !p.has(name) {
		return 0
	}
	v, err := strconv.ParseUint(p.r.Form.Get(name), 10, 64)
	if err != nil {
		p.fail(code, `invalid value for "`+name+`"`)
	}
	return v
}

// Parse reads a request, whose times to live begin at now. The error is a
// *wire.Error. The order of the checks is the order in which clients learn of
// several mistakes.
func Parse(r *http.Request, now time.Time) (*Request, error) {
	if err := r.ParseForm(); err != nil {
		return nil, wire.NewError(wire.InvalidForm, err.Error(), 0)
	}
	p := &reader{r: r}
	req := &Request{Key: path.Join("/", r.URL.Path[len(Prefix):]), Value: r.Form.Get("value")}
	req.PrevIndex = clamp(p.uint("prevIndex", wire.IndexNaN))
	req.WaitIndex = clamp(p.uint("waitIndex", wire.IndexNaN))
	req.Recursive = p.bool("recursive", `"recursive"`)
	req.Sorted = p.bool("sorted", `"sorted"`)
	wait := p.bool("wait", `"wait"`)
	req.Dir = p.bool("dir", `"dir"`)
	req.Quorum = p.bool("quorum", `"quorum"`)
	req.Stream = p.bool("stream", `"stream"`)
	if wait && r.Method != http.MethodGet {
		p.fail(wire.InvalidField, `"wait" can only be used with GET requests`)
	}
	req.PrevValue = r.Form.Get("prevValue")
	if p.has("prevValue") && req.PrevValue == "" {
		p.fail(wire.PrevValueRequired, `"prevValue" cannot be empty`)
	}
	req.NoValueOnSuccess = p.bool("noValueOnSuccess", `"noValueOnSuccess"`)
	hasTTL := r.Form.Get("ttl") != ""
	if hasTTL {
		life := time.Duration(min(p.uint("ttl", wire.TTLNaN), longest)) * time.Second
		req.Expire, req.Life = now.Add(life), max(1, life)
	}
	prevExist := p.bool("prevExist", "prevExist")
	if req.Refresh = p.bool("refresh", "refresh"); req.Refresh {
		if req.Value != "" {
			p.fail(wire.RefreshValue, "A value was provided on a refresh")
		}
		if !hasTTL {
			p.fail(wire.RefreshTTL, "No TTL value set")
		}
	}
	if p.err != nil {
		return nil, p.err
	}
	req.Op = operation(r.Method, req, wait, p.has("prevExist"), prevExist)
	return req, nil
}

// clamp makes an index of a number; beyond its range no index can be.
func clamp(v uint64) int64 {
	return int64(min(v, 1<<63-1))
}

// longest is the longest life, some 220 years: nanoseconds since 1970 must hold
// the end of it.
const longest = 7_000_000_000

func operation(method string, req *Request, wait, hasPrevExist, prevExist bool) Op {
	compare := req.PrevIndex > 0 || req.PrevValue != ""
	switch method {
	case http.MethodPost:
		return CreateInOrder
	case http.MethodPut:
		switch {
		case hasPrevExist && !prevExist:
			return Create
		case compare:
			return CompareAndSwap
		case hasPrevExist:
			return Update
		}
		return Set
	case http.MethodDelete:
		if compare {
			return CompareAndDelete
		}
		return Delete
	}
	if wait {
		return Watch
	}
	return Get
}
