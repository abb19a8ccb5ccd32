package user

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Change is what to change of a user that exists, as usermod(8) takes it; nil
// leaves a field as it is.
type Change struct {
	UID                        *int
	Passwd, Gecos, Home, Shell *string
	PrimaryGroup               *string  // name or gid
	Groups                     []string // in addition to those that the user is in
}

// Modify changes a user that exists. Files of a user whose UID changes keep
// their old owner, and a home directory is not moved.
func Modify(root, name string, c Change, now time.Time) error {
	_, err := edit(root, func(f *files) (*Account, error) {
		row := f.passwd.find(name)
		if row == nil {
			return nil, &NotFoundError{Kind: "user", Name: name}
		}
		spec := Spec{Name: name}
		for _, field := range []struct {
			from *string
			to   *string
		}{{c.Passwd, &spec.Passwd}, {c.Gecos, &spec.Gecos}, {c.Home, &spec.HomeDir}, {c.Shell, &spec.Shell}} {
			if field.from != nil {
				*field.to = *field.from
			}
		}
		if err := spec.check(); err != nil {
			return nil, err
		}
		return nil, f.modify(row, c, now)
	})
	if err != nil {
		return fmt.Errorf("change user %q: %w", name, err)
	}
	return nil
}

func (f *files) modify(row []string, c Change, now time.Time) error {
	name := row[0]
	if c.UID != nil && strconv.Itoa(*c.UID) != row[2] {
		uid, err := f.chooseUID(Spec{UID: *c.UID})
		if err != nil {
			return err
		}
		row[2] = strconv.Itoa(uid)
	}
	for _, field := range []struct {
		value *string
		at    int
	}{{c.Gecos, 4}, {c.Home, 5}, {c.Shell, 6}} {
		if field.value != nil {
			row[field.at] = *field.value
		}
	}
	if c.PrimaryGroup != nil && *c.PrimaryGroup != "" {
		group := f.groupRow(*c.PrimaryGroup)
		if group == nil {
			return &NotFoundError{Kind: "group", Name: *c.PrimaryGroup}
		}
		row[3] = group[2]
	}
	for _, group := range c.Groups {
		found := f.groupRow(group)
		if found == nil {
			return &NotFoundError{Kind: "group", Name: group}
		}
		f.group.addMember(found[0], name)
		f.gshadow.addMember(found[0], name)
	}
	if c.Passwd != nil {
		f.setPassword(name, *c.Passwd, now)
	}
	return nil
}

// GroupSpec is a group as groupadd(8) takes it.
type GroupSpec struct {
	Name   string
	GID    int    // 0 is the next free one
	Passwd string // crypt(3); "" is none
	System bool   // id from 999 downwards
}

// EnsureGroup makes a group exist; one that exists keeps its id unless GID says
// another.
func EnsureGroup(root string, spec GroupSpec) (changed bool, err error) {
	_, err = edit(root, func(f *files) (*Account, error) {
		before := f.group.String() + f.gshadow.String()
		if err := f.ensureGroup(spec); err != nil {
			return nil, err
		}
		changed = before != f.group.String()+f.gshadow.String()
		return nil, nil
	})
	if err != nil {
		return false, fmt.Errorf("create group %q: %w", spec.Name, err)
	}
	return changed, nil
}

func (f *files) ensureGroup(spec GroupSpec) error {
	if !validName.MatchString(spec.Name) || strings.ContainsAny(spec.Passwd, ":\n") {
		return fmt.Errorf("not a group name, or a password hash with a colon")
	}
	row, gid := f.group.find(spec.Name), spec.GID
	if gid != 0 {
		if other := f.group.findID(strconv.Itoa(gid)); other != nil && other[0] != spec.Name {
			return fmt.Errorf("gid %d is taken by group %q", gid, other[0])
		}
	}
	if row == nil {
		if gid == 0 {
			var err error
			if gid, err = chooseID(f.group, spec.System); err != nil {
				return err
			}
		}
		f.group.add(spec.Name, "x", strconv.Itoa(gid), "")
		f.gshadow.add(spec.Name, "!", "", "")
	} else if gid != 0 {
		row[2] = strconv.Itoa(gid)
	}
	if shadow := f.gshadow.find(spec.Name); shadow != nil && spec.Passwd != "" {
		shadow[1] = spec.Passwd
	}
	return nil
}

// RemoveGroup deletes a group that is no user's primary one. It tells whether
// there was such a group.
func RemoveGroup(root, name string) (removed bool, err error) {
	_, err = edit(root, func(f *files) (*Account, error) {
		row := f.group.find(name)
		if row == nil {
			return nil, nil
		}
		if f.isPrimary(row[2]) {
			return nil, fmt.Errorf("it is the primary group of a user")
		}
		removed = true
		f.group.drop(name)
		f.gshadow.drop(name)
		return nil, nil
	})
	if err != nil {
		return false, fmt.Errorf("delete group %q: %w", name, err)
	}
	return removed, nil
}
