package user

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// makeHome makes the home directory with the files of /etc/skel. A directory
// that exists already is left as it is, as useradd does.
func makeHome(root string, account Account) error {
	home := filepath.Join(root, account.Home)
	if _, err := os.Stat(home); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(home), 0o755); err != nil {
		return fmt.Errorf("make home: %w", err)
	}
	if err := os.Mkdir(home, 0o755); err != nil {
		return fmt.Errorf("make home: %w", err)
	}
	if err := CopySkeleton(filepath.Join(root, "etc/skel"), home, account.UID, account.GID); err != nil {
		return err
	}
	return chown(home, account.UID, account.GID)
}

// CopySkeleton copies the files, directories and symbolic links of skel into
// home, owned by uid and gid. Files that exist in home are kept. A missing
// skel directory is an empty one.
func CopySkeleton(skel, home string, uid, gid int) error {
	if _, err := os.Stat(skel); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	err := filepath.WalkDir(skel, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == skel {
			return err
		}
		rel, err := filepath.Rel(skel, path)
		if err != nil {
			return err
		}
		target := filepath.Join(home, rel)
		if _, err := os.Lstat(target); err == nil {
			return nil
		}
		if err := copyOne(path, target, entry); err != nil {
			return err
		}
		return chown(target, uid, gid)
	})
	if err != nil {
		return fmt.Errorf("copy %q to %q: %w", skel, home, err)
	}
	return nil
}

func copyOne(from, to string, entry fs.DirEntry) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	switch info.Mode().Type() {
	case fs.ModeDir:
		return os.Mkdir(to, info.Mode().Perm())
	case fs.ModeSymlink:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	case 0:
		source, err := os.Open(from)
		if err != nil {
			return err
		}
		defer source.Close()
		file, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm())
		if err != nil {
			return err
		}
		if _, err := io.Copy(file, source); err != nil {
			file.Close()
			return err
		}
		return file.Close()
	}
	return nil // devices and sockets are nobody's skeleton
}

// chown does not follow a symbolic link. Without root's rights there is only
// one owner, and nothing to do.
func chown(path string, uid, gid int) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(path, uid, gid)
}

// validKeysName is the name of a file with keys.
var validKeysName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@-]*$`)

// AuthorizeKeys replaces the set of SSH public keys called name of one user:
// the file ~/.ssh/authorized_keys.d/<name>, one key a line, mode 0600, owned by
// the user. sshd reads every file there and ~/.ssh/authorized_keys. With no
// keys the file is removed. Links out of the home directory are not followed:
// the user must not be able to send root's writes elsewhere.
func AuthorizeKeys(root, user, name string, keys []string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("authorize SSH keys of %q: %w", user, err)
		}
	}()
	if !validKeysName.MatchString(name) {
		return fmt.Errorf("%q is not a name for a set of keys", name)
	}
	account, err := Lookup(root, user)
	if err != nil {
		return err
	}
	home, err := os.OpenRoot(filepath.Join(root, account.Home))
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeHome(root, account); err != nil {
			return err
		}
		home, err = os.OpenRoot(filepath.Join(root, account.Home))
	}
	if err != nil {
		return err
	}
	defer home.Close()
	return writeKeys(home, account, name, keys)
}

func writeKeys(home *os.Root, account Account, name string, keys []string) error {
	const dir = ".ssh/authorized_keys.d"
	for _, path := range []string{".ssh", dir} {
		err := home.Mkdir(path, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := chownIn(home, path, account); err != nil {
			return err
		}
	}
	path := dir + "/" + name
	var text strings.Builder
	for _, key := range keys {
		if key = strings.TrimSpace(key); key != "" {
			text.WriteString(key + "\n")
		}
	}
	if text.Len() == 0 {
		if err := home.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	temporary := dir + "/." + name + ".new"
	if err := home.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := home.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.WriteString(text.String()); err != nil {
		return err
	}
	if err := chownIn(home, temporary, account); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return home.Rename(temporary, path)
}

func chownIn(home *os.Root, path string, account Account) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return home.Lchown(path, account.UID, account.GID)
}
