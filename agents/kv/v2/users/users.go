// Package users lets etcd 2's API change version 3's users, roles and
// permissions, so that there is one set of them for both versions.
//
// What cannot be the same: a change is several steps of version 3, each agreed
// on by the cluster; all that can be refused is looked at before the first one,
// and what a crash leaves half done grants less rather than more. Changes take
// no index of the keys. A list of roles or patterns comes back in the order of
// the alphabet. Empty patterns, which crashed etcd 2's member when it looked at
// them, are refused, and passwords beyond bcrypt's 72 bytes, of which it
// compared no more. The root user cannot lose the role root.
//
// Version 2 lets a user have a role that nobody has made; version 3 does not.
// Such a role is made with a mark in place of permissions, and version 2 says
// that it is not there. It goes with its last user.
package users

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"

	"github.com/coracle-os/coracle/agents/kv/v2/engine"
	"github.com/coracle-os/coracle/agents/kv/v2/roles"
	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/auth"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"golang.org/x/crypto/bcrypt"
)

// Directory is the users and roles of a member's cluster. Lists and lookups
// answer with what this member knows; changes first wait until that is what the
// cluster has agreed on. Refusals are *roles.Error.
type Directory struct {
	server *etcdserver.EtcdServer
	engine *engine.Engine
	change sync.Mutex // at most one change on its way from this member
}

// New returns the directory of a member that has started.
func New(s *etcdserver.EtcdServer, e *engine.Engine) *Directory {
	return &Directory{server: s, engine: e}
}

func (d *Directory) store() auth.AuthStore { return d.server.AuthStore() }

// begin waits until this member knows all that was agreed on before.
func (d *Directory) begin(ctx context.Context) (end func(), err error) {
	d.change.Lock()
	if err := d.engine.Agree(ctx); err != nil {
		d.change.Unlock()
		return nil, err
	}
	return d.change.Unlock, nil
}

// Enabled says whether requests need permissions.
func (d *Directory) Enabled() bool { return d.store().IsAuthEnabled() }

// Enable makes requests need permissions. If there is no role guest it gets
// one that may do everything with keys over version 2, as ever.
func (d *Directory) Enable(ctx context.Context) error {
	end, err := d.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if d.Enabled() {
		return roles.Refuse(http.StatusConflict, "already enabled")
	}
	root, err := d.User(roles.Root)
	if err != nil {
		return roles.Refuse(http.StatusConflict, "No root user available, please create one")
	}
	if err := d.grant(ctx, root.User, []string{roles.Root}); err != nil {
		return err
	}
	if _, there := d.permissions(roles.Guest); !there {
		if err := d.make(ctx, roles.All(roles.Guest)); err != nil {
			return err
		}
	}
	return d.do(ctx, func(ctx context.Context) error {
		_, err := d.server.AuthEnable(ctx, &pb.AuthEnableRequest{})
		return err
	})
}

// Disable lets everybody do everything.
func (d *Directory) Disable(ctx context.Context) error {
	end, err := d.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if !d.Enabled() {
		return roles.Refuse(http.StatusConflict, "already disabled")
	}
	return d.do(ctx, func(ctx context.Context) error {
		_, err := d.server.AuthDisable(ctx, &pb.AuthDisableRequest{})
		return err
	})
}

// Users are the names, sorted.
func (d *Directory) Users() ([]string, error) {
	r, err := d.store().UserList(&pb.AuthUserListRequest{})
	if err != nil {
		return nil, err
	}
	slices.Sort(r.Users)
	return r.Users, nil
}

// User is one with the names of its roles.
func (d *Directory) User(name string) (roles.User, error) {
	r, err := d.store().UserGet(&pb.AuthUserGetRequest{Name: name})
	if errors.Is(err, auth.ErrUserNotFound) {
		return roles.User{}, roles.Refuse(http.StatusNotFound, "User %s does not exist.", name)
	}
	if err != nil {
		return roles.User{}, err
	}
	u := roles.User{User: name, Roles: r.Roles}
	if name == roles.Root && !slices.Contains(u.Roles, roles.Root) {
		u.Roles = append(u.Roles, roles.Root)
	}
	return u, nil
}

// CreateUser makes a user.
func (d *Directory) CreateUser(ctx context.Context, u roles.User) (roles.User, error) {
	end, err := d.begin(ctx)
	if err != nil {
		return u, err
	}
	defer end()
	return d.createUser(ctx, u)
}

func (d *Directory) createUser(ctx context.Context, u roles.User) (roles.User, error) {
	if u.User == roles.Root && !slices.Contains(u.Roles, roles.Root) {
		u.Roles = append(u.Roles, roles.Root)
	}
	if u.Password == "" {
		return u, roles.Refuse(http.StatusBadRequest, "Cannot create user %s with an empty password", u.User)
	}
	err := d.do(ctx, func(ctx context.Context) error {
		_, err := d.server.UserAdd(ctx, &pb.AuthUserAddRequest{Name: u.User, Password: u.Password, Options: &authpb.UserAddOptions{}})
		return err
	})
	if errors.Is(err, auth.ErrUserAlreadyExist) {
		return u, roles.Refuse(http.StatusConflict, "User %s already exists.", u.User)
	}
	if err != nil {
		return u, err
	}
	return u, d.grant(ctx, u.User, u.Roles)
}

// UpdateUser applies a request's password, grants and revocations.
func (d *Directory) UpdateUser(ctx context.Context, request roles.User) (roles.User, error) {
	end, err := d.begin(ctx)
	if err != nil {
		return request, err
	}
	defer end()
	return d.updateUser(ctx, request)
}

func (d *Directory) updateUser(ctx context.Context, request roles.User) (roles.User, error) {
	old, err := d.User(request.User)
	if err != nil {
		return old, err
	}
	merged, err := old.Merge(request)
	if err != nil {
		return old, err
	}
	if request.Password != "" {
		if err := d.do(ctx, func(ctx context.Context) error {
			_, err := d.server.UserChangePassword(ctx, &pb.AuthUserChangePasswordRequest{Name: request.User, Password: request.Password})
			return err
		}); err != nil {
			return old, err
		}
	}
	for _, role := range request.Revoke {
		if request.User == roles.Root && role == roles.Root || !slices.Contains(old.Roles, role) {
			continue
		}
		if err := d.do(ctx, func(ctx context.Context) error {
			_, err := d.server.UserRevokeRole(ctx, &pb.AuthUserRevokeRoleRequest{Name: request.User, Role: role})
			return err
		}); err != nil {
			return old, err
		}
	}
	granted := slices.DeleteFunc(slices.Clone(request.Grant), func(r string) bool { return !slices.Contains(merged.Roles, r) })
	if err := d.grant(ctx, request.User, granted); err != nil {
		return old, err
	}
	return merged, d.sweep(ctx)
}

// CreateOrUpdateUser makes a user, or changes one that is there.
func (d *Directory) CreateOrUpdateUser(ctx context.Context, u roles.User) (out roles.User, created bool, err error) {
	end, err := d.begin(ctx)
	if err != nil {
		return u, false, err
	}
	defer end()
	if _, err := d.User(u.User); err == nil {
		out, err = d.updateUser(ctx, u)
		return out, false, err
	}
	out, err = d.createUser(ctx, u)
	return out, true, err
}

// DeleteUser removes a user.
func (d *Directory) DeleteUser(ctx context.Context, name string) error {
	end, err := d.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if d.Enabled() && name == roles.Root {
		return roles.Refuse(http.StatusForbidden, "Cannot delete root user while auth is enabled.")
	}
	err = d.do(ctx, func(ctx context.Context) error {
		_, err := d.server.UserDelete(ctx, &pb.AuthUserDeleteRequest{Name: name})
		return err
	})
	if errors.Is(err, auth.ErrUserNotFound) {
		return roles.Refuse(http.StatusNotFound, "User %s does not exist", name)
	}
	if err != nil {
		return err
	}
	return d.sweep(ctx)
}

// grant gives a user roles, which it may have. Those that are not there are
// made with the mark.
func (d *Directory) grant(ctx context.Context, user string, names []string) error {
	for _, role := range names {
		if _, err := d.raw(role); errors.Is(err, auth.ErrRoleNotFound) {
			mark := []*authpb.Permission{roles.Absent()}
			if role == roles.Root {
				mark = nil
			}
			if err := d.add(ctx, role, mark); err != nil {
				return err
			}
		}
		if err := d.do(ctx, func(ctx context.Context) error {
			_, err := d.server.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: user, Role: role})
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// do acts as root. What version 3 refuses to take is the request's fault.
func (d *Directory) do(ctx context.Context, f func(context.Context) error) error {
	err := d.engine.AsRoot(ctx, f)
	switch {
	case errors.Is(err, bcrypt.ErrPasswordTooLong), errors.Is(err, auth.ErrUserEmpty), errors.Is(err, auth.ErrRoleEmpty), errors.Is(err, auth.ErrInvalidAuthMgmt):
		return &roles.Error{Status: http.StatusBadRequest, Text: err.Error()}
	}
	return err
}
