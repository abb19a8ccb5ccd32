package debian

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/coracle-os/coracle/image/tree"
)

// Read returns the files of a package, as dpkg would unpack them.
func Read(ctx context.Context, path string) (tree.Tree, error) {
	dpkg, err := exec.LookPath("dpkg-deb")
	if err != nil {
		return tree.Tree{}, fmt.Errorf("find dpkg-deb: %w; install the Debian package dpkg", err)
	}
	cmd := exec.CommandContext(ctx, dpkg, "--fsys-tarfile", path)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	var errOut strings.Builder
	cmd.Stderr = &errOut
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return tree.Tree{}, err
	}
	if err := cmd.Start(); err != nil {
		return tree.Tree{}, fmt.Errorf("start dpkg-deb: %w", err)
	}
	files, readErr := tree.FromTar(pipe)
	if readErr != nil {
		pipe.Close()
	}
	if err := cmd.Wait(); err != nil {
		return tree.Tree{}, fmt.Errorf("unpack %q: %w: %s", path, err, lastLines(errOut.String(), 3))
	}
	if readErr != nil {
		return tree.Tree{}, fmt.Errorf("unpack %q: %w", path, readErr)
	}
	return files, nil
}
