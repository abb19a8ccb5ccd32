package user

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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
