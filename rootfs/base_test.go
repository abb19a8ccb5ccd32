package rootfs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestLinks: what is to be a link in base is one, and what it leads to is there
// or made at run time. A copy of the tree that loses links builds all the same.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`^etc/resolv\.conf$|\.(wants|requires)/`)
	atRun := regexp.MustCompile(`/run/`)
	links := 0
	err := fs.WalkDir(os.DirFS("base"), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !link.MatchString(path) {
			return err
		}
		links++
		to, err := os.Readlink(filepath.Join("base", path))
		if err != nil {
			t.Errorf("%s is no link: %v", path, err)
			return nil
		}
		if _, err := os.Stat(filepath.Join("base", path)); err != nil && !atRun.MatchString(to) {
			t.Errorf("%s leads to nothing: %v", path, err)
		}
		return nil
	})
	if err != nil || links < 10 {
		t.Errorf("%d links: %v", links, err)
	}
}
