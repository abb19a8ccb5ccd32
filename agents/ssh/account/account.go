// Package account knows the users of the machine as the SSH server needs them:
// who they are, which keys let them in, and how to act with their rights. It
// reads passwd(5) and group(5).
//
// The library's os/user is not used because it does not give the shell, and
// because a test needs accounts of its own. Name services other than the two
// files are left out on purpose.
package account

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Account is one user.
type Account struct {
	Name     string
	UID, GID uint32
	Groups   []uint32 // all groups, GID among them
	Home     string
	Shell    string
}

// Lookup finds a user in the files etc/passwd and etc/group under root; ok is
// false when there is no such user. A line that is malformed is passed over.
func Lookup(root, name string) (a Account, ok bool, err error) {
	passwd, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
	if err != nil {
		return a, false, fmt.Errorf("look up user %q: %w", name, err)
	}
	if a, ok = findUser(passwd, name); !ok {
		return a, false, nil
	}
	group, err := os.ReadFile(filepath.Join(root, "etc/group"))
	if err != nil && !os.IsNotExist(err) {
		return a, false, fmt.Errorf("look up the groups of %q: %w", name, err)
	}
	a.Groups = groups(group, a)
	return a, true, nil
}

func findUser(passwd []byte, name string) (Account, bool) {
	lines := bufio.NewScanner(bytes.NewReader(passwd))
	for lines.Scan() {
		f := strings.Split(lines.Text(), ":")
		if len(f) != 7 || f[0] != name || name == "" {
			continue
		}
		uid, err1 := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(f[3], 10, 32)
		if err1 != nil || err2 != nil {
			continue
		}
		a := Account{Name: name, UID: uint32(uid), GID: uint32(gid), Home: f[5], Shell: f[6]}
		if a.Home == "" {
			a.Home = "/"
		}
		if a.Shell == "" {
			a.Shell = "/bin/sh"
		}
		return a, true
	}
	return Account{}, false
}

func groups(group []byte, a Account) []uint32 {
	out := []uint32{a.GID}
	lines := bufio.NewScanner(bytes.NewReader(group))
	for lines.Scan() {
		f := strings.Split(lines.Text(), ":")
		if len(f) != 4 || !slices.Contains(strings.Split(f[3], ","), a.Name) {
			continue
		}
		gid, err := strconv.ParseUint(f[2], 10, 32)
		if err == nil && !slices.Contains(out, uint32(gid)) {
			out = append(out, uint32(gid))
		}
	}
	return out
}

// Do calls fn with the user's rights on files and sockets (and no others, when
// the user is not root). Only for what needs it and is short: it takes an
// operating system thread of its own, which ends with it.
//
// Linux keeps credentials per thread, and these system calls change those of
// the calling one alone.
func (a Account) Do(fn func() error) error {
	if os.Geteuid() != 0 {
		return fn() // nothing to give up
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("act as user %q: %v", a.Name, p)
			}
		}()
		if err := a.enter(); err != nil {
			done <- fmt.Errorf("act as user %q: %w", a.Name, err)
			return
		}
		done <- fn()
	}()
	return <-done
}

func (a Account) enter() error {
	if err := setGroups(a.Groups); err != nil {
		return err
	}
	if err := unix.Setfsgid(int(a.GID)); err != nil {
		return err
	}
	if err := unix.Setfsuid(int(a.UID)); err != nil {
		return err
	}
	// The call itself does not report that it was refused.
	if now, _ := unix.SetfsuidRetUid(-1); now != int(a.UID) {
		return fmt.Errorf("take file system uid %d: still %d", a.UID, now)
	}
	return nil
}

// maxKeys bounds an authorized_keys file, in bytes.
const maxKeys = 1 << 20

// KeyFiles returns the contents of the files that list the user's keys, by
// path: ~/.ssh/authorized_keys and each file in ~/.ssh/authorized_keys.d. A
// file that others could have written is not used and told in problems.
func (a Account) KeyFiles() (files map[string][]byte, problems []error) {
	files = map[string][]byte{}
	err := a.Do(func() error {
		dir := filepath.Join(a.Home, ".ssh")
		paths := []string{filepath.Join(dir, "authorized_keys")}
		more, _ := os.ReadDir(filepath.Join(dir, "authorized_keys.d"))
		for _, e := range more {
			paths = append(paths, filepath.Join(dir, "authorized_keys.d", e.Name()))
		}
		for _, p := range paths {
			data, err := a.readKeyFile(p)
			switch {
			case os.IsNotExist(err):
			case err != nil:
				problems = append(problems, err)
			default:
				files[p] = data
			}
		}
		return nil
	})
	if err != nil {
		problems = append(problems, err)
	}
	return files, problems
}

func (a Account) readKeyFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("use %q: it is not a file", path)
	}
	if err := a.safe(path, info); err != nil {
		return nil, err
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return nil, err
		}
		if err := a.safe(dir, info); err != nil {
			return nil, err
		}
		if dir == a.Home || dir == "/" || dir == "." {
			break
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeys+1))
	if err == nil && len(data) > maxKeys {
		return nil, fmt.Errorf("use %q: it is larger than %d bytes", path, maxKeys)
	}
	return data, err
}

// safe refuses what somebody other than the user and root can write.
func (a Account) safe(path string, info os.FileInfo) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fmt.Errorf("use %q: %w", path, err)
	}
	if st.Uid != 0 && st.Uid != a.UID {
		return fmt.Errorf("use %q: it belongs to user %d, not to %s; chown it", path, st.Uid, a.Name)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("use %q: others may write it (mode %o); chmod go-w it", path, info.Mode().Perm())
	}
	return nil
}
