package overlay

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// firstOwn is the first user and group id that is not the system's: what has it
// or more is the owner's to remove.
const firstOwn = 500

// accountFiles are the files of users and groups, each with the one that has its
// ids.
var accountFiles = []struct{ name, ids string }{
	{"passwd", "passwd"}, {"shadow", "passwd"}, {"group", "group"}, {"gshadow", "group"},
}

// addAccounts puts the system users and groups that a newer root has into the
// owner's changed copies of the account files, which would hide them. lower and
// upper are the two directories etc. The notices name what could not be added.
func addAccounts(lower, upper string) (notices []string, err error) {
	var errs []error
	for _, f := range accountFiles {
		own, err := os.ReadFile(filepath.Join(upper, f.name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // the root's own is seen
		}
		ids, idsErr := os.ReadFile(filepath.Join(lower, f.ids))
		given, givenErr := os.ReadFile(filepath.Join(lower, f.name))
		if err := errors.Join(err, idsErr, givenErr); err != nil {
			errs = append(errs, err)
			continue
		}
		merged, taken := mergeAccounts(string(own), string(given), systemNames(string(ids)), f.name == f.ids)
		for _, name := range taken {
			notices = append(notices, fmt.Sprintf("/etc/%s: the id of this release's %q is taken by another name; give that one another id", f.name, name))
		}
		if merged != string(own) {
			errs = append(errs, replace(filepath.Join(upper, f.name), merged))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return notices, fmt.Errorf("add the release's system accounts to the owner's: %w", err)
	}
	return notices, nil
}

// systemNames are the names with ids below firstOwn.
func systemNames(text string) map[string]bool {
	names := map[string]bool{}
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) < 3 {
			continue
		}
		if id, err := strconv.Atoi(fields[2]); err == nil && id < firstOwn {
			names[fields[0]] = true
		}
	}
	return names
}

// mergeAccounts appends to own the lines of given that are of system and whose
// name it lacks. With ids, the third field must not be taken; the names where
// it is are returned.
func mergeAccounts(own, given string, system map[string]bool, ids bool) (merged string, taken []string) {
	names, numbers := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(own) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		names[fields[0]] = true
		if len(fields) > 2 {
			numbers[fields[2]] = true
		}
	}
	merged = own
	for line := range strings.Lines(given) {
		line = strings.TrimSuffix(line, "\n")
		fields := strings.Split(line, ":")
		if !system[fields[0]] || names[fields[0]] || len(fields) < 3 {
			continue
		}
		if ids && numbers[fields[2]] {
			taken = append(taken, fields[0])
			continue
		}
		if merged != "" && !strings.HasSuffix(merged, "\n") {
			merged += "\n"
		}
		merged += line + "\n"
	}
	return merged, taken
}

// replace writes the file anew, with its mode and owner, as a whole.
func replace(name, text string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".accounts-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone when it was renamed
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chmod(info.Mode().Perm()))
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		err = errors.Join(err, f.Chown(int(owner.Uid), int(owner.Gid)))
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
