// Package switchroot leaves the initrd for the real root: it moves /dev, /proc,
// /sys and /run there, deletes the initrd's files, whose memory nothing else
// frees, and becomes the init of the new root.
//
// The work is u-root's pkg/mount. This package checks first what can be
// checked, because after the files are gone there is no way back.
package switchroot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/u-root/u-root/pkg/mount"
)

// ErrNoInit says that the new root has no program to start.
var ErrNoInit = errors.New("the root has no init: the image was built wrong")

// Check tells whether Exec can be expected to work: root has an executable
// init (a path inside the root) and the directories to move mounts to.
func Check(root, init string) error {
	info, err := os.Stat(filepath.Join(root, init))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoInit, err)
	}
	if !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("%w: %s is not executable", ErrNoInit, init)
	}
	for _, name := range []string{"dev", "proc", "sys", "run"} {
		if info, err := os.Stat(filepath.Join(root, name)); err != nil || !info.IsDir() {
			return fmt.Errorf("the root has no directory /%s: the image was built wrong", name)
		}
	}
	return nil
}

// Exec switches to root and becomes init. It returns only when that failed,
// and then the initrd may be gone.
func Exec(root, init string) error {
	if err := Check(root, init); err != nil {
		return err
	}
	return fmt.Errorf("switch root to %s: %w", root, mount.SwitchRoot(root, init))
}
