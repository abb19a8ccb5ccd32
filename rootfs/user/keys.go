package user

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

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
	home, account, err := openHome(root, user)
	if err != nil {
		return err
	}
	defer home.Close()
	return writeKeys(home, account, name, keys)
}

// AddKeys adds SSH public keys to a user's own ~/.ssh/authorized_keys, those
// that are not in it: keys that the user, or a program that logs in as the user,
// may take out again. The file is replaced as a whole.
func AddKeys(root, user string, keys []string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("add SSH keys of %q: %w", user, err)
		}
	}()
	home, account, err := openHome(root, user)
	if err != nil {
		return err
	}
	defer home.Close()
	const path = ".ssh/authorized_keys"
	if err := keyFolder(home, account, ".ssh"); err != nil {
		return err
	}
	now, err := home.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	lines := strings.Split(strings.TrimRight(string(now), "\n"), "\n")
	if len(now) == 0 {
		lines = nil
	}
	for _, key := range keys {
		if key = strings.TrimSpace(key); key != "" && !slices.Contains(lines, key) {
			lines = append(lines, key)
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return replaceIn(home, account, path, ".ssh/.authorized_keys.new", strings.Join(lines, "\n")+"\n")
}

// openHome opens a user's home directory, which is made if need be.
func openHome(root, user string) (*os.Root, Account, error) {
	account, err := Lookup(root, user)
	if err != nil {
		return nil, account, err
	}
	home, err := os.OpenRoot(filepath.Join(root, account.Home))
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeHome(root, account); err != nil {
			return nil, account, err
		}
		home, err = os.OpenRoot(filepath.Join(root, account.Home))
	}
	return home, account, err
}

func keyFolder(home *os.Root, account Account, path string) error {
	err := home.Mkdir(path, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return chownIn(home, path, account)
}

func writeKeys(home *os.Root, account Account, name string, keys []string) error {
	const dir = ".ssh/authorized_keys.d"
	for _, path := range []string{".ssh", dir} {
		if err := keyFolder(home, account, path); err != nil {
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
	return replaceIn(home, account, path, dir+"/."+name+".new", text.String())
}

// replaceIn replaces a file of a user's at once.
func replaceIn(home *os.Root, account Account, path, temporary, text string) error {
	if err := home.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := home.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.WriteString(text); err != nil {
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
