package files

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/coreos/ignition/v2/config/v3_5/types"

	"github.com/coracle-os/coracle/rootfs/user"
)

// owner resolves the owner of a node: what the config says, else what old has,
// else root.
func (e *Executor) owner(n types.Node, old fs.FileInfo) (uid, gid int, err error) {
	if old != nil {
		stat := old.Sys().(*syscall.Stat_t)
		uid, gid = int(stat.Uid), int(stat.Gid)
	} else if os.Geteuid() != 0 {
		uid, gid = os.Geteuid(), os.Getegid()
	}
	switch {
	case n.User.ID != nil:
		uid = *n.User.ID
	case n.User.Name != nil && *n.User.Name != "":
		account, err := user.Lookup(e.Root, *n.User.Name)
		if err != nil {
			return 0, 0, err
		}
		uid = account.UID
	}
	switch {
	case n.Group.ID != nil:
		gid = *n.Group.ID
	case n.Group.Name != nil && *n.Group.Name != "":
		if gid, err = user.LookupGroup(e.Root, *n.Group.Name); err != nil {
			return 0, 0, err
		}
	}
	return uid, gid, nil
}

func (e *Executor) group(g types.PasswdGroup) (changed bool, err error) {
	if g.ShouldExist != nil && !*g.ShouldExist {
		return user.RemoveGroup(e.Root, g.Name)
	}
	spec := user.GroupSpec{Name: g.Name, System: g.System != nil && *g.System}
	if g.Gid != nil {
		spec.GID = *g.Gid
	}
	if g.PasswordHash != nil {
		spec.Passwd = *g.PasswordHash
	}
	return user.EnsureGroup(e.Root, spec)
}

func (e *Executor) user(u types.PasswdUser) (changed bool, err error) {
	if u.ShouldExist != nil && !*u.ShouldExist {
		if u.Name == "root" || u.Name == "core" {
			return false, errors.New("the machine needs this user")
		}
		return user.Remove(e.Root, u.Name)
	}
	var groups []string
	for _, g := range u.Groups {
		groups = append(groups, string(g))
	}
	_, err = user.Lookup(e.Root, u.Name)
	if missing := new(user.NotFoundError); errors.As(err, &missing) {
		_, err = user.Ensure(e.Root, specOf(u, groups), e.Now())
	} else if err == nil {
		err = user.Modify(e.Root, u.Name, user.Change{UID: u.UID, Passwd: u.PasswordHash, Gecos: u.Gecos, Home: u.HomeDir,
			Shell: u.Shell, PrimaryGroup: u.PrimaryGroup, Groups: groups}, e.Now())
	}
	if err != nil || len(u.SSHAuthorizedKeys) == 0 {
		return err == nil, err
	}
	var keys []string
	for _, key := range u.SSHAuthorizedKeys {
		keys = append(keys, string(key))
	}
	return true, user.AuthorizeKeys(e.Root, u.Name, KeyName, keys)
}

func specOf(u types.PasswdUser, groups []string) user.Spec {
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	spec := user.Spec{Name: u.Name, Passwd: text(u.PasswordHash), Gecos: text(u.Gecos), HomeDir: text(u.HomeDir),
		NoCreateHome: u.NoCreateHome != nil && *u.NoCreateHome, PrimaryGroup: text(u.PrimaryGroup), Groups: groups,
		NoUserGroup: u.NoUserGroup != nil && *u.NoUserGroup, System: u.System != nil && *u.System, Shell: text(u.Shell)}
	if u.UID != nil {
		spec.UID = *u.UID
	}
	return spec
}
