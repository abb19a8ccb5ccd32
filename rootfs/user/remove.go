package user

import (
	"fmt"
	"slices"
	"strings"
)

// Remove takes a user out of the account files: its entries, its memberships
// and the group of its name, if it is the user's primary one and nobody else is
// in it. The home directory stays. It reports whether there was such a user.
func Remove(root, name string) (removed bool, err error) {
	_, err = edit(root, func(f *files) (*Account, error) {
		row := f.passwd.find(name)
		if row == nil {
			return nil, nil
		}
		removed = true
		gid := row[3]
		f.passwd.drop(name)
		f.shadow.drop(name)
		for _, t := range []*table{f.group, f.gshadow} {
			t.dropMember(name)
		}
		if group := f.group.find(name); group != nil && group[2] == gid && group[3] == "" && !f.isPrimary(gid) {
			f.group.drop(name)
			f.gshadow.drop(name)
		}
		return nil, nil
	})
	if err != nil {
		return false, fmt.Errorf("remove user %q: %w", name, err)
	}
	return removed, nil
}

func (f *files) isPrimary(gid string) bool {
	return slices.ContainsFunc(f.passwd.rows, func(row []string) bool { return f.passwd.whole(row) && row[3] == gid })
}

// drop removes every entry of that name.
func (t *table) drop(name string) {
	t.rows = slices.DeleteFunc(t.rows, func(row []string) bool { return t.whole(row) && row[0] == name })
}

// dropMember takes user off the member list of every group (last field).
func (t *table) dropMember(user string) {
	for _, row := range t.rows {
		if !t.whole(row) {
			continue
		}
		members := strings.Split(row[len(row)-1], ",")
		if slices.Contains(members, user) {
			row[len(row)-1] = strings.Join(slices.DeleteFunc(members, func(m string) bool { return m == user }), ",")
		}
	}
}
