package main

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain lets the test's own binary be docker-init.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_DOCKER_INIT") != "" {
		os.Unsetenv("TEST_DOCKER_INIT")
		os.Exit(run(os.Args, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// command runs docker-init as process 1 of a PID namespace of its own.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), "TEST_DOCKER_INIT=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	return cmd
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		out  string
	}{
		{[]string{"--", "sh", "-c", "echo $PPID; exit 7"}, 7, "1\n"},
		{[]string{"--", "sh", "-c", "kill -KILL $$"}, 137, ""},
		{[]string{"true"}, 0, ""},
		{[]string{"--", "/nosuch/program"}, 127, "docker-init: start \"/nosuch/program\""},
		{[]string{"--", "/etc/passwd"}, 126, "docker-init: start \"/etc/passwd\""},
		{nil, 1, "Usage:"},
		// An orphan becomes a child of process 1 and must not stay a zombie.
		{[]string{"--", "sh", "-c", "(sh -c 'exit 3' &) ; sleep 0.2; exit 4"}, 4, ""},
	} {
		cmd := command(t, c.args...)
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.HasPrefix(string(out), c.out) {
			t.Errorf("%q: exit code %d, output %q, want %d, %q", c.args, code, out, c.code, c.out)
		}
	}
}

func TestPassesSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGUSR1, unix.SIGHUP, unix.SIGWINCH} {
		cmd := command(t, "--", "sh", "-c", "trap 'exit 9' "+strings.TrimPrefix(unix.SignalName(sig), "SIG")+"; echo ready; while :; do sleep 0.05; done")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		cmd.Process.Signal(sig)
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 9 {
			t.Errorf("%v: exit code %d, want 9", sig, code)
		}
	}
}
