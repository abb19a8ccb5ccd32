package getty

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/coracle-os/coracle/rootfs/user"
	"golang.org/x/sys/unix"
)

// ttyGroup owns terminals, so that programs of that group may write to them.
const ttyGroup = "tty"

// Environment returns the environment of a login shell.
func Environment(account user.Account, terminal string) []string {
	term := "vt220"
	if strings.HasPrefix(terminal, "tty") && strings.Trim(terminal[3:], "0123456789") == "" {
		term = "linux" // a virtual console, not ttyS0
	}
	return []string{"HOME=" + account.Home, "SHELL=" + account.Shell, "USER=" + account.Name, "LOGNAME=" + account.Name,
		"PATH=/opt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "TERM=" + term}
}

// becomeShell turns this process into the login shell of the account. It only
// returns an error.
func becomeShell(t *terminal, name string, account user.Account) error {
	gid := account.GID
	if id, err := user.LookupGroup("/", ttyGroup); err == nil {
		gid = id
	}
	if err := t.file.Chown(account.UID, gid); err != nil {
		return fmt.Errorf("log in %q: %w", account.Name, err)
	}
	if err := t.file.Chmod(0o620); err != nil {
		return fmt.Errorf("log in %q: %w", account.Name, err)
	}
	if motd, err := os.Open("/etc/motd"); err == nil {
		io.Copy(t.file, motd)
		motd.Close()
	}
	for fd := range 3 {
		if err := unix.Dup2(t.fd, fd); err != nil {
			return fmt.Errorf("log in %q: %w", account.Name, err)
		}
	}
	if t.fd > 2 {
		unix.CloseOnExec(t.fd)
	}
	if err := become(account); err != nil {
		return fmt.Errorf("log in %q: %w", account.Name, err)
	}
	if err := os.Chdir(account.Home); err != nil {
		fmt.Fprintf(os.Stdout, "No directory %s; logging in with HOME=/\n", account.Home)
		account.Home = "/"
		os.Chdir("/")
	}
	signal.Reset()
	shell := account.Shell
	err := unix.Exec(shell, []string{"-" + filepath.Base(shell)}, Environment(account, name))
	return fmt.Errorf("log in %q: run shell %q: %w", account.Name, shell, err)
}

// become takes the user's ids; there is no way back. Package syscall changes all
// threads of the process, package unix (for the groups) only this one.
func become(account user.Account) error {
	if err := syscall.Setgroups(account.Groups); err != nil {
		return fmt.Errorf("set groups: %w", err)
	}
	if err := syscall.Setgid(account.GID); err != nil {
		return fmt.Errorf("set gid %d: %w", account.GID, err)
	}
	if err := syscall.Setuid(account.UID); err != nil {
		return fmt.Errorf("set uid %d: %w", account.UID, err)
	}
	return nil
}
