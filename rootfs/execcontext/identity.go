package execcontext

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/coracle-os/coracle/rootfs/spawn"
)

// identity is whom a command runs as.
type identity struct {
	credential        *spawn.User // nil: as PID 1
	name, home, shell string      // "" without User=
	uid, gid          int
}

func (id identity) env() []string {
	if id.name == "" {
		return nil
	}
	env := []string{"USER=" + id.name, "LOGNAME=" + id.name}
	if id.home != "" {
		env = append(env, "HOME="+id.home)
	}
	if id.shell != "" {
		env = append(env, "SHELL="+id.shell)
	}
	return env
}

// identity resolves User=, Group= and SupplementaryGroups=.
func (sys System) identity(r Request) (identity, error) {
	c := r.Context
	var id identity
	if c.User == "" && c.Group == "" && len(c.SupplementaryGroups) == 0 && !c.DynamicUser {
		return id, nil
	}
	groups := sys.database("group")
	passwd, user := sys.database("passwd"), c.User
	if c.DynamicUser && user == "" {
		user = dynamicName(r.Unit)
	}
	if user != "" {
		err := id.user(passwd, user)
		if err != nil && c.DynamicUser {
			id.dynamic(passwd, user)
			err = nil
		}
		if err != nil {
			return id, err
		}
	}
	if c.Group != "" {
		gid, err := group(groups, c.Group)
		if err != nil {
			return id, err
		}
		id.gid = gid
	}
	all := []uint32{uint32(id.gid)}
	for _, g := range groups {
		if id.name != "" && len(g) > 3 && slices.Contains(strings.Split(g[3], ","), id.name) {
			all = appendNumber(all, g[2])
		}
	}
	for _, name := range c.SupplementaryGroups {
		gid, err := group(groups, name)
		if err != nil {
			return id, err
		}
		all = append(all, uint32(gid))
	}
	slices.Sort(all)
	if !r.AsRoot && !r.Command.FullPrivilege && !r.Command.NoSetuid {
		id.credential = &spawn.User{UID: uint32(id.uid), GID: uint32(id.gid), Groups: slices.Compact(all)}
	}
	return id, nil
}

func appendNumber(list []uint32, s string) []uint32 {
	if n, err := strconv.ParseUint(s, 10, 32); err == nil {
		list = append(list, uint32(n))
	}
	return list
}

// user fills in the entry of a user named by name or number. As with systemd a
// number needs an entry too.
func (id *identity) user(passwd [][]string, who string) error {
	for _, e := range passwd {
		if len(e) < 7 || e[0] != who && e[2] != who {
			continue
		}
		uid, err1 := strconv.Atoi(e[2])
		gid, err2 := strconv.Atoi(e[3])
		if err1 != nil || err2 != nil {
			continue
		}
		id.name, id.uid, id.gid, id.home, id.shell = e[0], uid, gid, e[5], e[6]
		return nil
	}
	if who != "root" && who != "0" {
		return &spawn.Error{Status: spawn.StatusUser, Err: fmt.Errorf("find the user %q: it is not in /etc/passwd; create it or change User=", who)}
	}
	id.name, id.home, id.shell = "root", "/root", "/bin/sh"
	return nil
}

func group(groups [][]string, name string) (int, error) {
	for _, g := range groups {
		if len(g) >= 3 && (g[0] == name || g[2] == name) {
			if gid, err := strconv.Atoi(g[2]); err == nil {
				return gid, nil
			}
		}
	}
	if name != "root" && name != "0" {
		return 0, &spawn.Error{Status: spawn.StatusGroup, Err: fmt.Errorf("find the group %q: it is not in /etc/group; create it or change Group=", name)}
	}
	return 0, nil
}

// database reads /etc/passwd or /etc/group as lists of fields. A file that
// cannot be read is empty.
func (sys System) database(name string) [][]string {
	b, err := os.ReadFile(filepath.Join(sys.Root, "/etc", name))
	if err != nil {
		return nil
	}
	var out [][]string
	for line := range strings.Lines(string(b)) {
		out = append(out, strings.Split(strings.TrimSuffix(line, "\n"), ":"))
	}
	return out
}

// Lookup returns the numbers of a user and a group by name or number; an empty
// name is 0.
func (sys System) Lookup(user, grp string) (uid, gid int, err error) {
	var id identity
	if user != "" {
		if err := id.user(sys.database("passwd"), user); err != nil {
			return 0, 0, err
		}
	}
	if grp != "" {
		if id.gid, err = group(sys.database("group"), grp); err != nil {
			return 0, 0, err
		}
	}
	return id.uid, id.gid, nil
}
