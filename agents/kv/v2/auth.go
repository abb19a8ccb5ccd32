package v2

import (
	"net/http"

	"github.com/coracle-os/coracle/agents/kv/v2/layout"
	"github.com/coracle-os/coracle/agents/kv/v2/request"
	"github.com/coracle-os/coracle/agents/kv/v2/wire"
	"go.etcd.io/etcd/server/v3/auth"
)

// user returns who a request says it is from, nil if it does not say so
// rightly.
func (m *member) user(r *http.Request) *auth.AuthInfo {
	name, password, ok := r.BasicAuth()
	if !ok {
		return nil
	}
	revision, err := m.server.AuthStore().CheckPassword(name, password)
	if err != nil {
		return nil
	}
	return &auth.AuthInfo{Username: name, Revision: revision}
}

// permitted checks a request about keys against version 3's users and roles.
// What is recursive, and a directory's listing, needs the whole directory.
func (m *member) permitted(r *http.Request, req *request.Request) error {
	store := m.server.AuthStore()
	if !store.IsAuthEnabled() {
		return nil
	}
	denied := wire.NewError(wire.Unauthorized, "Insufficient credentials", 0)
	user := m.user(r)
	if user == nil {
		return denied
	}
	key, end := []byte(req.Key), []byte(nil)
	if req.Recursive || req.Op == request.CreateInOrder {
		_, to := layout.Below(req.Key)
		if end = []byte(to); req.Key == "/" {
			end = []byte("0")
		}
	}
	var err error
	switch {
	case req.Op == request.Get || req.Op == request.Watch:
		err = store.IsRangePermitted(user, key, end)
	case end != nil:
		err = store.IsDeleteRangePermitted(user, key, end)
	default:
		err = store.IsPutPermitted(user, key)
	}
	if err != nil {
		return denied
	}
	return nil
}

// administrator checks that a request may change the cluster.
func (m *member) administrator(w http.ResponseWriter, r *http.Request) bool {
	store := m.server.AuthStore()
	if !store.IsAuthEnabled() {
		return true
	}
	if user := m.user(r); user != nil && store.IsAdminPermitted(user) == nil {
		return true
	}
	writeMessage(w, http.StatusUnauthorized, "Insufficient credentials")
	return false
}
