package v2

import (
	"encoding/json"
	"errors"
	"net/http"
	"path"
	"strings"

	"github.com/coracle-os/coracle/agents/kv/v2/roles"
)

// authPrefix is the path under which users and roles are.
const authPrefix = "/v2/auth"

func (m *member) handleAuth() {
	m.mux.HandleFunc(authPrefix+"/enable", m.authEnable)
	for _, kind := range []string{"/users", "/roles"} {
		m.mux.HandleFunc(authPrefix+kind, m.auth)
		m.mux.HandleFunc(authPrefix+kind+"/", m.auth)
	}
}

// writeAuth answers with v, or with the error.
func (m *member) writeAuth(w http.ResponseWriter, status int, v any, err error) {
	var refused *roles.Error
	switch {
	case errors.As(err, &refused):
		writeMessage(w, refused.Status, refused.Error())
	case err != nil:
		writeMessage(w, http.StatusInternalServerError, err.Error())
	case v == nil:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
	default:
		writeJSON(w, status, v)
	}
}

// authEnable serves /v2/auth/enable. Anybody may ask.
func (m *member) authEnable(w http.ResponseWriter, r *http.Request) {
	if !allowed(w, r, http.MethodGet, http.MethodPut, http.MethodDelete) {
		return
	}
	if r.Method != http.MethodGet && !m.administrator(w, r) {
		return
	}
	m.clusterHeader(w)
	ctx, cancel := m.timeout(r.Context())
	defer cancel()
	switch r.Method {
	case http.MethodGet:
		m.writeAuth(w, http.StatusOK, map[string]bool{"enabled": m.users.Enabled()}, nil)
	case http.MethodPut:
		m.writeAuth(w, http.StatusOK, nil, m.users.Enable(ctx))
	default:
		m.writeAuth(w, http.StatusOK, nil, m.users.Disable(ctx))
	}
}

// auth serves /v2/auth/users and /v2/auth/roles, and what is below.
func (m *member) auth(w http.ResponseWriter, r *http.Request) {
	pieces := strings.Split(path.Clean(r.URL.Path[len(authPrefix)+1:]), "/")
	if len(pieces) > 2 {
		writeMessage(w, http.StatusBadRequest, "Invalid path")
		return
	}
	methods := []string{http.MethodGet}
	if len(pieces) == 2 {
		methods = append(methods, http.MethodPut, http.MethodDelete)
	}
	if !allowed(w, r, methods...) || !m.administrator(w, r) {
		return
	}
	m.clusterHeader(w)
	kind, name := pieces[0], ""
	if len(pieces) == 2 {
		name = pieces[1]
	}
	switch {
	case kind == "users" && name == "":
		m.listUsers(w)
	case kind == "users":
		m.oneUser(w, r, name)
	case name == "":
		m.listRoles(w)
	default:
		m.oneRole(w, r, name)
	}
}

// userWithRoles is a user as it is shown: with all that its roles may do.
type userWithRoles struct {
	User  string       `json:"user"`
	Roles []roles.Role `json:"roles,omitempty"`
}

func (m *member) listUsers(w http.ResponseWriter) {
	var list []userWithRoles // null without users
	names, err := m.users.Users()
	for _, name := range names {
		u, err := m.users.User(name)
		if err != nil {
			continue // deleted just now
		}
		shown := userWithRoles{User: name}
		for _, r := range u.Roles {
			if role, err := m.users.Role(r); err == nil {
				shown.Roles = append(shown.Roles, role)
			}
		}
		list = append(list, shown)
	}
	m.writeAuth(w, http.StatusOK, map[string]any{"users": list}, err)
}

func (m *member) listRoles(w http.ResponseWriter) {
	var list []roles.Role
	names, err := m.users.Roles()
	for _, name := range names {
		if role, err := m.users.Role(name); err == nil {
			list = append(list, role)
		}
	}
	m.writeAuth(w, http.StatusOK, map[string]any{"roles": list}, err)
}

func (m *member) oneUser(w http.ResponseWriter, r *http.Request, name string) {
	switch r.Method {
	case http.MethodGet:
		u, err := m.users.User(name)
		shown := userWithRoles{User: name}
		for i := 0; err == nil && i < len(u.Roles); i++ {
			var role roles.Role
			role, err = m.users.Role(u.Roles[i])
			shown.Roles = append(shown.Roles, role)
		}
		m.writeAuth(w, http.StatusOK, shown, err)
	case http.MethodPut:
		var u roles.User
		if readBody(w, r, &u) {
			m.putUser(w, r, name, u)
		}
	default:
		ctx, cancel := m.timeout(r.Context())
		defer cancel()
		m.writeAuth(w, http.StatusOK, nil, m.users.DeleteUser(ctx, name))
	}
}

// putUser creates or changes a user. With roles it is created, and the status
// is 200 nevertheless, as ever; without, a password may mean either.
func (m *member) putUser(w http.ResponseWriter, r *http.Request, name string, u roles.User) {
	ctx, cancel := m.timeout(r.Context())
	defer cancel()
	status, err := http.StatusOK, error(nil)
	change := len(u.Grant)+len(u.Revoke) > 0
	switch {
	case u.User != name:
		writeMessage(w, http.StatusBadRequest, "User JSON name does not match the name in the URL")
		return
	case change && len(u.Roles) > 0:
		writeMessage(w, http.StatusBadRequest, "User JSON contains both roles and grant/revoke")
		return
	case change:
		u, err = m.users.UpdateUser(ctx, u)
	case len(u.Roles) > 0:
		u, err = m.users.CreateUser(ctx, u)
	default:
		var created bool
		if u, created, err = m.users.CreateOrUpdateUser(ctx, u); created {
			status = http.StatusCreated
		}
	}
	u.Password = ""
	m.writeAuth(w, status, u, err)
}

func (m *member) oneRole(w http.ResponseWriter, r *http.Request, name string) {
	ctx, cancel := m.timeout(r.Context())
	defer cancel()
	switch r.Method {
	case http.MethodGet:
		role, err := m.users.Role(name)
		m.writeAuth(w, http.StatusOK, role, err)
	case http.MethodDelete:
		m.writeAuth(w, http.StatusOK, nil, m.users.DeleteRole(ctx, name))
	default:
		var role roles.Role
		if !readBody(w, r, &role) {
			return
		}
		switch {
		case role.Role != name:
			writeMessage(w, http.StatusBadRequest, "Role JSON name does not match the name in the URL")
		case role.Grant.Empty() && role.Revoke.Empty():
			m.writeAuth(w, http.StatusCreated, role, m.users.CreateRole(ctx, role))
		case !role.Permissions.Empty():
			writeMessage(w, http.StatusBadRequest, "Role JSON contains both permissions and grant/revoke")
		default:
			role, err := m.users.UpdateRole(ctx, role)
			m.writeAuth(w, http.StatusOK, role, err)
		}
	}
}

// readBody reads a JSON body; if it is none it answers.
func readBody(w http.ResponseWriter, r *http.Request, v any) bool {
	if json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(v) != nil {
		writeMessage(w, http.StatusBadRequest, "Invalid JSON in request body.")
		return false
	}
	return true
}
