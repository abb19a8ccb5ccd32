package v2

import (
	"errors"
	"net/http"

	"github.com/coracle-os/coracle/agents/kv/v2/layout"
	"github.com/coracle-os/coracle/agents/kv/v2/request"
	"github.com/coracle-os/coracle/agents/kv/v2/wire"
	"go.etcd.io/etcd/server/v3/auth"
)

// user returns who a request is from: "" for nobody, and false when it says so
// wrongly. Without name and password it is the client certificate's name, if
// the member asks for certificates and there is such a user.
func (m *member) user(r *http.Request) (name string, ok bool) {
	if r.Header.Get("Authorization") == "" {
		return m.certified(r), true
	}
	name, password, ok := r.BasicAuth()
	if !ok {
		return "", false
	}
	if _, err := m.server.AuthStore().CheckPassword(name, password); err != nil {
		return "", false
	}
	return name, true
}

// certified is the user of the client certificate itself; an authority's name
// is no user's.
func (m *member) certified(r *http.Request) string {
	if r.TLS == nil || !m.server.Cfg.ClientCertAuthEnabled {
		return ""
	}
	for _, chain := range r.TLS.VerifiedChains {
		if len(chain) == 0 {
			continue
		}
		if u, err := m.users.User(chain[0].Subject.CommonName); err == nil {
			return u.User
		}
	}
	return ""
}

// permitted checks a request about keys against the permissions of its user,
// or of the role guest. What is recursive needs everything below the key; other
// requests, a directory's listing and a new key in order among them, the key as
// it is written, as ever.
func (m *member) permitted(r *http.Request, req *request.Request) error {
	if !m.users.Enabled() {
		return nil
	}
	denied := wire.NewError(wire.Unauthorized, "Insufficient credentials", 0)
	name, ok := m.user(r)
	if !ok {
		return denied
	}
	path := r.URL.Path[len(request.Prefix):]
	key, end := []byte(path), []byte(nil)
	if path == "" { // which begins as "*" does, and no other pattern
		key = []byte{0}
	}
	if req.Recursive {
		_, to := layout.Below(req.Key)
		if end = []byte(to); req.Key == "/" {
			end = []byte("0")
		}
	}
	write := r.Method != http.MethodGet && r.Method != http.MethodHead
	if name == "" {
		ok = m.users.GuestMay(key, end, write)
	} else {
		ok = m.may(name, key, end, write)
	}
	if !ok {
		return denied
	}
	return nil
}

// may asks version 3. A change of users meanwhile makes it ask again.
func (m *member) may(name string, key, end []byte, write bool) bool {
	store := m.server.AuthStore()
	check := store.IsRangePermitted
	if write {
		check = store.IsDeleteRangePermitted // any writing of the range
	}
	for {
		err := check(&auth.AuthInfo{Username: name, Revision: store.Revision()}, key, end)
		if !errors.Is(err, auth.ErrAuthOldRevision) {
			return err == nil
		}
	}
}

// administrator checks that a request may change the cluster and its users.
func (m *member) administrator(w http.ResponseWriter, r *http.Request) bool {
	if !m.users.Enabled() {
		return true
	}
	store := m.server.AuthStore()
	if name, ok := m.user(r); ok && store.IsAdminPermitted(&auth.AuthInfo{Username: name, Revision: store.Revision()}) == nil {
		return true
	}
	writeMessage(w, http.StatusUnauthorized, "Insufficient credentials")
	return false
}
