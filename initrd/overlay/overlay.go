// Package overlay puts the owner's changes over the root's /etc, for stage 1:
// an overlayfs (Documentation/filesystems/overlayfs.rst) with the verified /etc
// below and a directory of the state partition above.
//
// System users and groups that a newer root brings are added to the owner's
// copies of the account files. All else that the owner has changed hides what a
// newer root has in its place, as a whole file.
//
// If the state partition cannot take it (full, read-only), what was changed
// before is still shown, and new changes go to memory.
package overlay

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Dirs are the places of the overlay.
type Dirs struct {
	Etc      string // the root's /etc: lower layer and mount point
	State    string // directory for "upper" and "work" in the state partition
	Volatile string // the same in memory
}

// Mount mounts the overlay at d.Etc. The notice is "" if all is well; an error
// means that /etc is the root's own, read-only.
func Mount(d Dirs) (notice string, err error) {
	notices, err := addAccounts(d.Etc, filepath.Join(d.State, "upper"))
	if err != nil {
		notices = append(notices, err.Error())
	}
	stateErr := prepareAndMount(d.State, d.Etc, d.Etc)
	if stateErr == nil {
		return strings.Join(notices, "; "), nil
	}
	lower := d.Etc
	if upper := filepath.Join(d.State, "upper"); isDir(upper) {
		lower = upper + ":" + d.Etc
	}
	if err := prepareAndMount(d.Volatile, lower, d.Etc); err != nil {
		return "", fmt.Errorf("set up /etc: %w; and in memory: %w", stateErr, err)
	}
	return fmt.Sprintf("changes to /etc are lost at the next boot: %v", stateErr), nil
}

func prepareAndMount(directory, lower, target string) error {
	upper, work := filepath.Join(directory, "upper"), filepath.Join(directory, "work")
	for _, path := range []string{upper, work} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return fmt.Errorf("set up the overlay of /etc: %w", err)
		}
	}
	options := "lowerdir=" + lower + ",upperdir=" + upper + ",workdir=" + work
	if err := unix.Mount("overlay", target, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount the overlay of /etc: %w", err)
	}
	return nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
