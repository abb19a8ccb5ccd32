// Package user reads and edits the account files of a root directory
// (/etc/passwd, /etc/shadow, /etc/group, /etc/gshadow): PID 1 looks up the
// User= of a unit in it, sshd and the console login look up who logs in, and
// provisioning creates the users that a cloud-config names.
//
// The files are those of passwd(5), shadow(5), group(5) and gshadow(5). A line
// that this package does not understand is kept byte for byte. All edits take
// the lock of lckpwdf(3), write a new file beside the old one, sync it and
// rename it, passwd last: a cut at any moment leaves either no user or a whole
// one. Every function takes the root directory, so the same code serves "/",
// a mounted image and a test.
//
// Ensure has the meaning of the useradd call that coreos-cloudinit made. Left
// out on purpose: renaming users, password ageing, subordinate
// ids and NIS ("+" lines), which nothing on a Coracle machine uses.
//
// It is our own code because Go's os/user only reads, only from "/", and not
// the shadow files.
package user

import (
	"fmt"
	"strconv"
	"strings"
)

// Account is one user as a process of that user needs to know it.
type Account struct {
	Name     string
	UID, GID int
	Groups   []int // supplementary group ids, without GID, ascending
	Gecos    string
	Home     string // absolute, as in passwd: without the root directory
	Shell    string // absolute; "/bin/sh" when passwd names none
}

// NotFoundError says that an account file has no such user or group.
type NotFoundError struct {
	Kind string // "user" or "group"
	Name string // name or number that was looked up
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("look up %s %q: no such %s; check /etc/%s", e.Kind, e.Name, e.Kind,
		map[string]string{"user": "passwd", "group": "group"}[e.Kind])
}

// Lookup finds a user by name or, when no name matches, by decimal uid. The
// error is a *NotFoundError when the files can be read and have no such user.
func Lookup(root, name string) (Account, error) {
	passwd, err := load(root, passwdFile)
	if err != nil {
		return Account{}, err
	}
	row := passwd.find(name)
	if row == nil {
		row = passwd.findID(name)
	}
	if row == nil {
		return Account{}, &NotFoundError{Kind: "user", Name: name}
	}
	account, err := accountOf(row)
	if err != nil {
		return Account{}, err
	}
	group, err := load(root, groupFile)
	if err != nil {
		return Account{}, err
	}
	account.Groups = group.groupsOf(account.Name, account.GID)
	return account, nil
}

// LookupGroup finds the id of a group by name or by decimal gid. The error is
// a *NotFoundError when the file can be read and has no such group. A number
// that no group has is accepted as it is, as systemd does for Group=.
func LookupGroup(root, name string) (gid int, err error) {
	group, err := load(root, groupFile)
	if err != nil {
		return 0, err
	}
	if row := group.find(name); row != nil {
		return parseID(row[2])
	}
	if gid, err := parseID(name); err == nil {
		return gid, nil
	}
	return 0, &NotFoundError{Kind: "group", Name: name}
}

// PasswordHash returns the crypt(3) string of a user in /etc/shadow, or "" when
// the user has no line there. "*" and "!" strings match no password.
func PasswordHash(root, name string) (string, error) {
	shadow, err := load(root, shadowFile)
	if err != nil {
		return "", err
	}
	if row := shadow.find(name); row != nil {
		return row[1], nil
	}
	return "", nil
}

func accountOf(row []string) (Account, error) {
	uid, err := parseID(row[2])
	if err != nil {
		return Account{}, fmt.Errorf("read uid of user %q in /etc/passwd: %w", row[0], err)
	}
	gid, err := parseID(row[3])
	if err != nil {
		return Account{}, fmt.Errorf("read gid of user %q in /etc/passwd: %w", row[0], err)
	}
	account := Account{Name: row[0], UID: uid, GID: gid, Gecos: row[4], Home: row[5], Shell: row[6]}
	if account.Home == "" {
		account.Home = "/"
	}
	if account.Shell == "" {
		account.Shell = "/bin/sh"
	}
	return account, nil
}

// parseID reads a uid or gid. 65535 and 4294967295 mean "none" to the kernel's
// system calls and are never a user.
func parseID(s string) (int, error) {
	id, err := strconv.ParseUint(s, 10, 32)
	if err != nil || strings.HasPrefix(s, "+") {
		return 0, fmt.Errorf("%q is not an id between 0 and 4294967294", s)
	}
	if id == 65535 || id == 4294967295 {
		return 0, fmt.Errorf("id %d is reserved", id)
	}
	return int(id), nil
}
