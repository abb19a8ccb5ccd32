package user

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Spec is a user to create: the arguments of useradd that a cloud-config can
// give. The zero value of every field but Name means useradd's default.
type Spec struct {
	Name         string
	Passwd       string // crypt(3) string; "" = "*", no password login
	Gecos        string
	HomeDir      string   // absolute; "" = /home/Name
	NoCreateHome bool     // do not make HomeDir
	PrimaryGroup string   // name or gid of an existing group; "" = a new group called Name
	Groups       []string // names or gids of existing groups
	NoUserGroup  bool     // no group called Name: the primary group is "users" (100)
	System       bool     // id from 999 downwards, no ageing fields
	Shell        string   // absolute; "" = /bin/bash
	UID          int      // 0 = the next free one
}

// Ids as in login.defs(5) of most distributions.
const (
	firstUser, lastUser     = 1000, 60000
	firstSystem, lastSystem = 101, 999
	usersGroup              = 100
	defaultShell            = "/bin/bash"
)

// lockTimeout is how long an edit waits for another one, as lckpwdf(3) does.
const lockTimeout = 15 * time.Second

// validName is what useradd takes, with upper case and dots as most
// distributions allow.
var validName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,30}[$]?$`)

// Ensure makes the user exist. A user that exists already keeps everything but
// the password, which is replaced when spec has one. now is the date of the
// password change. It reports whether the user was created.
func Ensure(root string, spec Spec, now time.Time) (created bool, err error) {
	if err := spec.check(); err != nil {
		return false, fmt.Errorf("create user %q: %w", spec.Name, err)
	}
	account, err := edit(root, func(f *files) (*Account, error) {
		if f.passwd.find(spec.Name) != nil {
			if spec.Passwd != "" {
				f.setPassword(spec.Name, spec.Passwd, now)
			}
			return nil, nil
		}
		return f.create(spec, now)
	})
	if err != nil {
		return false, fmt.Errorf("create user %q: %w", spec.Name, err)
	}
	if account == nil {
		return false, nil
	}
	if !spec.NoCreateHome {
		if err := makeHome(root, *account); err != nil {
			return true, fmt.Errorf("create user %q: %w", spec.Name, err)
		}
	}
	return true, nil
}

// SetPassword replaces the crypt(3) string of an existing user.
func SetPassword(root, name, hash string, now time.Time) error {
	if strings.ContainsAny(hash, ":\n") {
		return fmt.Errorf("set password of %q: the hash has a colon or a newline; it must be a crypt(5) string", name)
	}
	_, err := edit(root, func(f *files) (*Account, error) {
		if f.passwd.find(name) == nil {
			return nil, &NotFoundError{Kind: "user", Name: name}
		}
		f.setPassword(name, hash, now)
		return nil, nil
	})
	if err != nil {
		return fmt.Errorf("set password of %q: %w", name, err)
	}
	return nil
}

func (s Spec) check() error {
	if !validName.MatchString(s.Name) {
		return errors.New("not a user name: it must begin with a letter or _ and have at most 32 letters, digits, _ . -")
	}
	for field, value := range map[string]string{"password hash": s.Passwd, "gecos": s.Gecos, "home directory": s.HomeDir, "shell": s.Shell} {
		if strings.ContainsAny(value, ":\n\x00") {
			return fmt.Errorf("%s %q has a colon or a newline, which /etc/passwd cannot hold", field, value)
		}
	}
	for field, value := range map[string]string{"home directory": s.HomeDir, "shell": s.Shell} {
		if value != "" && !filepath.IsAbs(value) {
			return fmt.Errorf("%s %q is not an absolute path", field, value)
		}
	}
	return nil
}

// files are the four tables of one edit.
type files struct{ passwd, group, shadow, gshadow *table }

// edit loads the files under the lock, runs change and saves what differs:
// groups first and passwd last, because a user exists when passwd says so.
func edit(root string, change func(*files) (*Account, error)) (*Account, error) {
	unlock, err := lock(root)
	if err != nil {
		return nil, err
	}
	defer unlock()
	f := &files{}
	var before [4]string
	for i, t := range f.order() {
		if *t.table, err = load(root, t.kind); err != nil {
			return nil, err
		}
		before[i] = (*t.table).String()
	}
	account, err := change(f)
	if err != nil {
		return nil, err
	}
	for i, t := range f.order() {
		if (*t.table).String() == before[i] {
			continue
		}
		if err := (*t.table).save(root); err != nil {
			return nil, err
		}
	}
	return account, nil
}

func (f *files) order() []struct {
	table **table
	kind  fileKind
} {
	return []struct {
		table **table
		kind  fileKind
	}{{&f.group, groupFile}, {&f.gshadow, gshadowFile}, {&f.shadow, shadowFile}, {&f.passwd, passwdFile}}
}

func (f *files) create(spec Spec, now time.Time) (*Account, error) {
	uid, err := f.chooseUID(spec)
	if err != nil {
		return nil, err
	}
	var groups []string
	for _, name := range spec.Groups {
		row := f.groupRow(name)
		if row == nil {
			return nil, &NotFoundError{Kind: "group", Name: name}
		}
		groups = append(groups, row[0])
	}
	gid, err := f.primaryGroup(spec, uid)
	if err != nil {
		return nil, err
	}
	for _, group := range groups {
		f.group.addMember(group, spec.Name)
		f.gshadow.addMember(group, spec.Name)
	}
	account := &Account{Name: spec.Name, UID: uid, GID: gid, Gecos: spec.Gecos, Home: spec.HomeDir, Shell: spec.Shell}
	if account.Home == "" {
		account.Home = "/home/" + spec.Name
	}
	if account.Shell == "" {
		account.Shell = defaultShell
	}
	f.passwd.add(account.Name, "x", strconv.Itoa(uid), strconv.Itoa(gid), account.Gecos, account.Home, account.Shell)
	hash := spec.Passwd
	if hash == "" {
		hash = "*"
	}
	f.setPassword(spec.Name, hash, now)
	if row := f.shadow.find(spec.Name); !spec.System {
		row[3], row[4], row[5] = "0", "99999", "7"
	}
	return account, nil
}

// groupRow finds a group by name or gid.
func (f *files) groupRow(name string) []string {
	if row := f.group.find(name); row != nil {
		return row
	}
	return f.group.findID(name)
}

func (f *files) primaryGroup(spec Spec, uid int) (gid int, err error) {
	switch {
	case spec.PrimaryGroup != "":
		row := f.groupRow(spec.PrimaryGroup)
		if row == nil {
			return 0, &NotFoundError{Kind: "group", Name: spec.PrimaryGroup}
		}
		return parseID(row[2])
	case spec.NoUserGroup:
		return usersGroup, nil
	case f.group.find(spec.Name) != nil:
		return 0, fmt.Errorf("group %q exists; to use it, give it as the primary group", spec.Name)
	}
	gid = uid
	if f.group.findID(strconv.Itoa(gid)) != nil {
		if gid, err = chooseID(f.group, spec.System); err != nil {
			return 0, err
		}
	}
	f.group.add(spec.Name, "x", strconv.Itoa(gid), "")
	f.gshadow.add(spec.Name, "!", "", "")
	return gid, nil
}

func (f *files) chooseUID(spec Spec) (int, error) {
	if spec.UID == 0 {
		return chooseID(f.passwd, spec.System)
	}
	if row := f.passwd.findID(strconv.Itoa(spec.UID)); row != nil {
		return 0, fmt.Errorf("uid %d is taken by user %q", spec.UID, row[0])
	}
	return parseID(strconv.Itoa(spec.UID))
}

// chooseID returns the id after the highest regular one or before the lowest
// system one, as useradd does, and any free one when there is none.
func chooseID(t *table, system bool) (int, error) {
	used := map[int]bool{}
	for _, row := range t.rows {
		if !t.whole(row) {
			continue
		}
		if id, err := parseID(row[2]); err == nil {
			used[id] = true
		}
	}
	if system {
		return chooseSystemID(used)
	}
	next := firstUser
	for id := range used {
		if id >= next && id < lastUser {
			next = id + 1
		}
	}
	for id := next; id <= lastUser; id++ {
		if !used[id] {
			return id, nil
		}
	}
	for id := firstUser; id < next; id++ {
		if !used[id] {
			return id, nil
		}
	}
	return 0, fmt.Errorf("no free id between %d and %d", firstUser, lastUser)
}

func chooseSystemID(used map[int]bool) (int, error) {
	next := lastSystem
	for id := range used {
		if id >= firstSystem && id <= next {
			next = id - 1
		}
	}
	for id := lastSystem; next < firstSystem && id >= firstSystem; id-- {
		if !used[id] {
			next = id
		}
	}
	if next < firstSystem {
		return 0, fmt.Errorf("no free system id between %d and %d", firstSystem, lastSystem)
	}
	return next, nil
}

// setPassword writes the hash with today's date into shadow.
func (f *files) setPassword(name, hash string, now time.Time) {
	days := strconv.FormatInt(now.Unix()/86400, 10)
	if row := f.shadow.find(name); row != nil {
		row[1], row[2] = hash, days
		return
	}
	f.shadow.add(name, hash, days, "", "", "", "", "", "")
}

// lock takes /etc/.pwd.lock, the lock of lckpwdf(3), as an open file
// description lock so that it also holds between goroutines.
func lock(root string) (unlock func(), err error) {
	path := filepath.Join(root, "etc/.pwd.lock")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock account files: %w", err)
	}
	whole := unix.Flock_t{Type: unix.F_WRLCK}
	for deadline := time.Now().Add(lockTimeout); ; time.Sleep(20 * time.Millisecond) {
		err := unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &whole)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if time.Now().After(deadline) {
			file.Close()
			return nil, fmt.Errorf("lock %q: held by another program for %v: %w", path, lockTimeout, err)
		}
	}
}
