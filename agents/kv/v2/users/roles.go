package users

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/coracle-os/coracle/agents/kv/v2/roles"
	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/auth"
)

// raw are a role's permissions in version 3, the mark among them.
func (d *Directory) raw(name string) ([]*authpb.Permission, error) {
	r, err := d.store().RoleGet(&pb.AuthRoleGetRequest{Role: name})
	if err != nil {
		return nil, err
	}
	return r.Perm, nil
}

// permissions are those of a role that is there for version 2.
func (d *Directory) permissions(name string) (list []*authpb.Permission, there bool) {
	list, err := d.raw(name)
	return list, err == nil && !roles.IsAbsent(list)
}

// Roles are the names, sorted. The role root is always there.
func (d *Directory) Roles() ([]string, error) {
	r, err := d.store().RoleList(&pb.AuthRoleListRequest{})
	if err != nil {
		return nil, err
	}
	names := []string{roles.Root}
	for _, name := range r.Roles {
		if _, there := d.permissions(name); there && name != roles.Root {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Role is one with its patterns.
func (d *Directory) Role(name string) (roles.Role, error) {
	if name == roles.Root {
		return roles.All(roles.Root), nil
	}
	list, there := d.permissions(name)
	if !there {
		return roles.Role{}, roles.Refuse(http.StatusNotFound, "Role %s does not exist.", name)
	}
	return roles.Role{Role: name, Permissions: roles.FromV3(list)}, nil
}

// GuestMay says whether requests without a user may read or write the keys
// from key to before end, or key alone.
func (d *Directory) GuestMay(key, end []byte, write bool) bool {
	list, there := d.permissions(roles.Guest)
	return there && roles.Allow(list, key, end, write)
}

// changeable refuses to change the role root.
func changeable(name string) error {
	if name == roles.Root {
		return roles.Refuse(http.StatusForbidden, "Cannot modify role %s: is root role.", name)
	}
	return nil
}

// noEmpty refuses empty patterns.
func noEmpty(list ...*roles.Permissions) error {
	for _, p := range list {
		if p != nil && slices.Contains(slices.Concat(p.KV.Read, p.KV.Write), "") {
			return roles.Refuse(http.StatusBadRequest, "a permission's pattern is empty; use a key, or a prefix with * behind it")
		}
	}
	return nil
}

// CreateRole makes a role.
func (d *Directory) CreateRole(ctx context.Context, r roles.Role) error {
	if err := errors.Join(changeable(r.Role), noEmpty(&r.Permissions)); err != nil {
		return err
	}
	end, err := d.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if _, there := d.permissions(r.Role); there {
		return roles.Refuse(http.StatusConflict, "Role %s already exists.", r.Role)
	}
	return d.make(ctx, r)
}

// make makes a role that is not there for version 2.
func (d *Directory) make(ctx context.Context, r roles.Role) error {
	if _, err := d.raw(r.Role); err != nil { // not there at all
		return d.add(ctx, r.Role, roles.ToV3(r.Permissions.KV))
	}
	if err := d.allow(ctx, r.Role, roles.ToV3(r.Permissions.KV)); err != nil {
		return err
	}
	return d.forbid(ctx, r.Role, roles.Absent())
}

// UpdateRole applies a request's grants and revocations.
func (d *Directory) UpdateRole(ctx context.Context, request roles.Role) (roles.Role, error) {
	if err := errors.Join(changeable(request.Role), noEmpty(request.Grant)); err != nil {
		return request, err
	}
	end, err := d.begin(ctx)
	if err != nil {
		return request, err
	}
	defer end()
	old, err := d.Role(request.Role)
	if err != nil {
		return old, err
	}
	merged, err := old.Merge(request)
	if err != nil {
		return old, err
	}
	less, more := roles.Changes(old.Permissions.KV, merged.Permissions.KV)
	for _, p := range less {
		if err := d.forbid(ctx, request.Role, p); err != nil {
			return old, err
		}
	}
	return merged, d.allow(ctx, request.Role, more)
}

// DeleteRole removes a role. For users who have it, as with version 2, it is as
// if it had not been made yet.
func (d *Directory) DeleteRole(ctx context.Context, name string) error {
	if err := changeable(name); err != nil {
		return err
	}
	end, err := d.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	list, there := d.permissions(name)
	if !there {
		return roles.Refuse(http.StatusNotFound, "Role %s doesn't exist.", name)
	}
	held, err := d.held(name)
	if err != nil {
		return err
	}
	if !held {
		return d.remove(ctx, name)
	}
	if err := d.allow(ctx, name, []*authpb.Permission{roles.Absent()}); err != nil {
		return err
	}
	for _, p := range list {
		if roles.SameRange(p, roles.Absent()) {
			continue
		}
		if err := d.forbid(ctx, name, p); err != nil {
			return err
		}
	}
	return nil
}

// held says whether a user has a role.
func (d *Directory) held(role string) (bool, error) {
	names, err := d.Users()
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(names, func(name string) bool {
		u, err := d.User(name)
		return err == nil && slices.Contains(u.Roles, role)
	}), nil
}

// sweep removes roles with the mark that no user has any more.
func (d *Directory) sweep(ctx context.Context) error {
	r, err := d.store().RoleList(&pb.AuthRoleListRequest{})
	if err != nil {
		return err
	}
	for _, name := range r.Roles {
		list, err := d.raw(name)
		if err != nil || !roles.IsAbsent(list) {
			continue
		}
		held, err := d.held(name)
		if err == nil && !held {
			err = d.remove(ctx, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// add makes a role of version 3.
func (d *Directory) add(ctx context.Context, name string, list []*authpb.Permission) error {
	if err := d.do(ctx, func(ctx context.Context) error {
		_, err := d.server.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: name})
		return err
	}); err != nil {
		return err
	}
	return d.allow(ctx, name, list)
}

func (d *Directory) remove(ctx context.Context, name string) error {
	return d.do(ctx, func(ctx context.Context) error {
		_, err := d.server.RoleDelete(ctx, &pb.AuthRoleDeleteRequest{Role: name})
		return err
	})
}

func (d *Directory) allow(ctx context.Context, name string, list []*authpb.Permission) error {
	for _, p := range list {
		if err := d.do(ctx, func(ctx context.Context) error {
			_, err := d.server.RoleGrantPermission(ctx, &pb.AuthRoleGrantPermissionRequest{Name: name, Perm: p})
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// forbid takes away all that a role has for a range.
func (d *Directory) forbid(ctx context.Context, name string, p *authpb.Permission) error {
	err := d.do(ctx, func(ctx context.Context) error {
		_, err := d.server.RoleRevokePermission(ctx, &pb.AuthRoleRevokePermissionRequest{Role: name, Key: p.Key, RangeEnd: p.RangeEnd})
		return err
	})
	if errors.Is(err, auth.ErrPermissionNotGranted) {
		return nil
	}
	return err
}
