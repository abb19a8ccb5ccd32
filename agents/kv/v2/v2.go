// Package v2 serves version 2 of etcd's HTTP API on a member of etcd 3.7, for
// programs of CoreOS's day: /v2/keys over version 3's keyspace, so that both
// versions have the same keys with the same values, /v2/members, /v2/stats,
// /v2/machines, and /health in the older form. The specification is what etcd
// 2.3.8 and 3.4 answer to the same requests.
//
// /v2/auth changes version 3's users and roles, see package users. When they
// are enabled, requests carry a user's name and password (HTTP basic), or a
// client certificate with the user's name, and need that user's permissions for
// the keys they name, whichever version gave them. Requests without a user may
// do what the role guest may; a wrong password is never a guest's. Version 3
// has no guests: there such requests are refused. Unlike etcd 2's, guests need
// for recursive requests what users need, a prefix that covers all below.
//
// What is left out on purpose: the v1 API, /v2/leader, /v2/speedTest and the
// modules of etcd 0.4. Values beyond --max-request-bytes (1.5 MiB) are refused
// with error 210; etcd 2 took what fits a form, 10 MB. The limit is the member's
// and so version 3's too, for which 1.5 MiB is right; who needs more sets
// ETCD_MAX_REQUEST_BYTES. The counters of /v2/stats/store move as etcd 2's did,
// but for getsFail, where that also counted, once for each request, its own
// look for users.
package v2

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coracle-os/coracle/agents/kv/v2/engine"
	"github.com/coracle-os/coracle/agents/kv/v2/request"
	"github.com/coracle-os/coracle/agents/kv/v2/store"
	"github.com/coracle-os/coracle/agents/kv/v2/users"
	"go.etcd.io/etcd/server/v3/etcdserver"
)

// Handler serves the API. It is made before the member, which wants to know its
// handlers when it starts, and answers 503 until Start.
type Handler struct {
	member atomic.Pointer[member]
}

// member is what a started member is asked.
type member struct {
	server *etcdserver.EtcdServer
	store  *store.Store
	engine *engine.Engine
	users  *users.Directory
	began  time.Time
	mux    *http.ServeMux
	slow   slow
}

// New returns a handler without a member.
func New() *Handler { return &Handler{} }

// Paths are the patterns for embed.Config.UserHandlers.
func (h *Handler) Paths() map[string]http.Handler {
	out := map[string]http.Handler{}
	for _, p := range []string{"/v2/", "/health"} {
		out[p] = h
	}
	return out
}

// Start begins to serve a member that is ready. The function that it returns
// ends it, before the member is stopped.
func (h *Handler) Start(s *etcdserver.EtcdServer) (stop func()) {
	e := engine.New(s)
	m := &member{server: s, engine: e, store: store.New(e, time.Now), users: users.New(s, e), began: time.Now(), mux: http.NewServeMux()}
	m.mux.HandleFunc("/v2/members", m.members)
	m.mux.HandleFunc("/v2/members/", m.members)
	m.mux.HandleFunc("/v2/machines", m.machines)
	m.mux.HandleFunc("/v2/stats/self", m.statsSelf)
	m.mux.HandleFunc("/v2/stats/store", m.statsStore)
	m.mux.HandleFunc("/v2/stats/leader", m.statsLeader)
	m.mux.HandleFunc("/health", m.health)
	m.handleAuth()
	h.member.Store(m)
	return m.store.Close
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m := h.member.Load()
	if m == nil {
		writeMessage(w, http.StatusServiceUnavailable, "the member is starting")
		return
	}
	if r.URL.Path == request.Prefix || strings.HasPrefix(r.URL.Path, request.Prefix+"/") {
		m.keys(w, r) // what is asked most need not be looked up
		return
	}
	m.mux.ServeHTTP(w, r)
}

// timeout bounds what needs the cluster's agreement.
func (m *member) timeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, m.server.Cfg.ReqTimeout())
}

// allowed answers a request with a method that is not in list.
func allowed(w http.ResponseWriter, r *http.Request, list ...string) bool {
	if slices.Contains(list, r.Method) {
		return true
	}
	w.Header().Set("Allow", strings.Join(list, ","))
	http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	return false
}

// writeJSON answers with v.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// An error here is a client that has gone.
	_ = json.NewEncoder(w).Encode(v)
}

// writeMessage answers with an error outside the keys.
func writeMessage(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	b, _ := json.Marshal(map[string]string{"message": text})
	_, _ = w.Write(b)
}

func (m *member) clusterHeader(w http.ResponseWriter) {
	w.Header().Set("X-Etcd-Cluster-Id", m.server.Cluster().ID().String())
}

func (m *member) indexHeaders(w http.ResponseWriter, index int64) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Etcd-Index", strconv.FormatInt(index, 10))
	w.Header().Set("X-Raft-Index", strconv.FormatUint(m.server.CommittedIndex(), 10))
	w.Header().Set("X-Raft-Term", strconv.FormatUint(m.server.Term(), 10))
}
