package session

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// confine puts the program into a control group of its own, so that it is no
// part of the server's service: it outlives a restart of that and its memory
// is counted by itself. A machine without control groups runs it all the same.
// release is called when the program has started.
func (s *session) confine(cmd *exec.Cmd) (release func()) {
	nothing := func() {}
	if s.CgroupRoot == "" || os.Geteuid() != 0 {
		return nothing
	}
	user := filepath.Join(s.CgroupRoot, "user.slice", fmt.Sprintf("user-%d.slice", s.Account.UID))
	if err := os.MkdirAll(user, 0o755); err != nil {
		return nothing
	}
	dir, err := os.MkdirTemp(user, "session-*.scope")
	if err != nil {
		return nothing
	}
	// Whatever the program leaves behind keeps the group, and goes with the
	// machine; an empty one cannot be told from a full one before trying.
	s.cleanup = append(s.cleanup, func() { os.Remove(dir) })
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nothing
	}
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, fd
	return func() { unix.Close(fd) }
}
