// Package api serves the scheduler's HTTP API: fleet's API v1 as of 0.10 to 1.0
// (github.com/coreos/fleet, Documentation/api-v1.md), status codes and texts
// included, under /fleet/v1 and /v1-alpha, for fleet's own clients, fleetctl and
// scripts. What a unit is wanted to be is written to the registry, what is the
// case is read from its mirror; nothing is kept here but the options of contents
// that were parsed once.
//
// Not copied are faults of fleet 1.0: states of units that nobody knows are 404,
// states of no such name are refused, and so is launching a template that no
// Replicas= makes copies of. Added are fields that fleet's clients pass over,
// and resources for draining, plans, rebalancing and rolling back; see package
// schema.
package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/api/schema"
	"github.com/coracle-os/coracle/agents/fleet/registry"
	"github.com/coracle-os/coracle/agents/fleet/registry/mirror"
)

// errUnavailable is what clients hear when the KV does not answer.
var errUnavailable = fail(http.StatusServiceUnavailable, "fleet server unable to communicate with etcd")

// view is the cluster at one moment. Nobody changes it.
type view struct {
	*mirror.View
	// later is set for pages after the first: what takes long to find out is
	// then taken from a little earlier.
	later bool
}

// view is at least as new as the request: who wrote something finds it.
func (s *Server) view(r *http.Request) (view, error) {
	v, err := s.Mirror.Fresh(r.Context())
	return view{View: v}, err
}

// Options are a Server's. Mirror and Registry must be given.
type Options struct {
	Mirror   *mirror.Mirror     // what is
	Registry *registry.Registry // what is wanted
	// Ready tells why the server must not serve yet; nil is that it may. It is
	// told to nobody but the log: clients hear what fleet told them.
	Ready      func() error
	TokenLimit int           // items of a page; 0 is 100
	Timeout    time.Duration // of the KV, for one request; 0 is 2 s
	Metrics    http.Handler  // of /metrics; nil is none
	Log        *slog.Logger  // nil is slog.Default()
}

// Server is the API. It may be used by several goroutines.
type Server struct {
	Options
	log     *slog.Logger
	reasons reasons

	mu      sync.Mutex
	options map[string][]schema.Option // of a content, by hash
}

// New makes a server.
func New(o Options) *Server {
	if o.TokenLimit == 0 {
		o.TokenLimit = 100
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Server{Options: o, log: o.Log, options: map[string][]schema.Option{}}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "fleetd/"+fleet.Version)
	if r.URL.Path == "/metrics" && s.Metrics != nil {
		s.Metrics.ServeHTTP(w, r)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.Timeout)
	defer cancel()
	if err := s.serve(w, r.WithContext(ctx)); err != nil {
		s.sendError(w, r, err)
	}
}

// serve answers, or gives the error that is to be answered.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) error {
	if s.Ready != nil {
		if err := s.Ready(); err != nil {
			return errors.Join(registry.ErrUnavailable, err)
		}
	}
	for _, prefix := range []string{schema.Prefix, schema.AlphaPrefix} {
		rest, ok := strings.CutPrefix(r.URL.Path, prefix)
		if ok && rest == "" {
			return fail(http.StatusMethodNotAllowed, "")
		}
		if parts := strings.Split(rest, "/"); ok && parts[0] == "" {
			return s.resource(w, r, prefix, parts[1:])
		}
	}
	if r.URL.Path == "/" || r.URL.Path == "" {
		return fail(http.StatusMethodNotAllowed, "")
	}
	return fail(http.StatusNotFound, "")
}

// handler answers one method of a resource.
type handler func(http.ResponseWriter, *http.Request) error

// method is a handler and what it is for.
type method struct {
	name   string
	handle handler
}

// resource finds what a path below the prefix stands for.
func (s *Server) resource(w http.ResponseWriter, r *http.Request, prefix string, path []string) error {
	methods := s.methods(prefix, path)
	if methods == nil {
		return fail(http.StatusNotFound, "")
	}
	var names []string
	for _, m := range methods {
		if m.name != r.Method {
			names = append(names, m.name)
			continue
		}
		if r.Method == http.MethodPost {
			// A page in a browser can send a POST anywhere, but not of this type.
			if err := checkContentType(r); err != nil {
				return err
			}
		}
		return m.handle(w, r)
	}
	return wantMethod(names...)
}

// methods are what a resource takes, nil if there is no such resource.
func (s *Server) methods(prefix string, path []string) []method {
	for _, part := range path {
		if part == "" {
			return nil
		}
	}
	if len(path) == 1 {
		switch path[0] {
		case "units":
			return []method{{http.MethodGet, s.listUnits}}
		case "state":
			return []method{{http.MethodGet, s.listStates}}
		case "machines":
			return []method{{http.MethodGet, s.listMachines}, {http.MethodPatch, s.patchMachines}}
		case "discovery":
			return []method{{http.MethodGet, func(w http.ResponseWriter, r *http.Request) error { return sendDiscovery(w, r, prefix) }}}
		case "plan":
			return []method{{http.MethodPost, s.plan}}
		case "rebalance":
			return []method{{http.MethodPost, s.rebalance}}
		}
		return nil
	}
	// on makes a handler of one that wants the name in the path.
	on := func(handle func(http.ResponseWriter, *http.Request, string) error) handler {
		return func(w http.ResponseWriter, r *http.Request) error { return handle(w, r, path[1]) }
	}
	switch {
	case len(path) == 2 && path[0] == "units":
		return []method{{http.MethodGet, on(s.getUnit)}, {http.MethodPut, on(s.putUnit)}, {http.MethodDelete, on(s.deleteUnit)}}
	case len(path) == 2 && path[0] == "state":
		return []method{{http.MethodGet, on(s.getState)}}
	case len(path) == 3 && path[0] == "units" && path[2] == "rollback":
		return []method{{http.MethodPost, on(s.rollback)}}
	case len(path) == 3 && path[0] == "machines" && path[2] == "drain":
		return []method{{http.MethodPut, on(s.drain)}, {http.MethodDelete, on(s.endDrain)}}
	}
	return nil
}

// list answers with one page: n items there are, page makes the answer of some.
func (s *Server) list(w http.ResponseWriter, r *http.Request, collect func(view) (n int, page func(from, to int, next string) any)) error {
	t, err := parseToken(r.URL.Query(), uint16(s.TokenLimit))
	if err != nil {
		return invalid(err)
	}
	v, err := s.view(r)
	if err != nil {
		return err
	}
	v.later = t.Page > 1
	n, page := collect(v)
	sendJSON(w, http.StatusOK, page(t.bounds(n)))
	return nil
}
