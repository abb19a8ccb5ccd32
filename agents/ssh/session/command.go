package session

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// searchPath is where commands are found. /opt/bin is the owner's own.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/bin"

// command says what to run for a request: kind is shell, exec or subsystem,
// text the command or the subsystem's name.
func (s *session) command(kind, text string) (*exec.Cmd, error) {
	shell := s.Account.Shell
	cmd := &exec.Cmd{Path: shell}
	original := text
	switch {
	case s.Limits.Command != "":
		cmd.Args = []string{filepath.Base(shell), "-c", s.Limits.Command}
	case kind == "subsystem" && text == "sftp":
		cmd.Path, cmd.Args = s.SFTP[0], s.SFTP
	case kind == "subsystem":
		return nil, fmt.Errorf("start subsystem %q: there is only sftp", text)
	case kind == "exec":
		cmd.Args = []string{filepath.Base(shell), "-c", text}
	default:
		cmd.Args = []string{"-" + filepath.Base(shell)}
	}
	cmd.Env = s.environment(original)
	cmd.Dir = s.Account.Home
	if info, err := os.Stat(cmd.Dir); err != nil || !info.IsDir() {
		fmt.Fprintf(s.ch.Stderr(), "Could not change to the home directory %s; starting in /\r\n", s.Account.Home)
		cmd.Dir = "/"
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: s.Account.UID, Gid: s.Account.GID, Groups: s.Account.Groups}
	}
	return cmd, nil
}

func (s *session) environment(original string) []string {
	a := s.Account
	env := append([]string{
		"USER=" + a.Name, "LOGNAME=" + a.Name, "HOME=" + a.Home, "SHELL=" + a.Shell, "PATH=" + searchPath,
	}, s.Environ...)
	env = append(env, s.environ...)
	if s.pty != nil {
		env = append(env, "TERM="+s.pty.term, "SSH_TTY="+s.pty.name)
	}
	if s.agent != "" {
		env = append(env, "SSH_AUTH_SOCK="+s.agent)
	}
	if s.Limits.Command != "" && original != "" {
		env = append(env, "SSH_ORIGINAL_COMMAND="+original)
	}
	return env
}
