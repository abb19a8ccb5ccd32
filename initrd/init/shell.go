package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// shell is for a person at the console of a machine that does not boot and has
// "coracle.debug" on its command line. With the root mounted that is the
// root's own bash; without it, a handful of commands that look around. A full
// shell would be five times as large as the rest of the initrd, and unpacked
// at every boot.
func shell(console *console) {
	if _, err := os.Stat(filepath.Join(sysroot, "usr/bin/bash")); err == nil {
		if err := rootShell(); err == nil {
			return
		}
	}
	input, err := os.OpenFile("/dev/console", os.O_RDWR, 0)
	if err != nil {
		console.Error("open console for the debug shell: " + err.Error())
		return
	}
	defer input.Close()
	fmt.Fprintln(input, "debug shell: \"help\" lists the commands; \"exit\" restarts the machine")
	repl(input, input, commands())
}

// rootShell runs bash inside the verified root.
func rootShell() error {
	for _, name := range []string{"dev", "proc", "sys", "run"} {
		if err := unix.Mount("/"+name, filepath.Join(sysroot, name), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return err
		}
	}
	tty, err := os.OpenFile("/dev/console", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer tty.Close()
	fmt.Fprintln(tty, "debug shell: the verified root is mounted; \"exit\" restarts the machine")
	bash := exec.Command("/usr/bin/bash", "-i")
	bash.Path, bash.Err = "/usr/bin/bash", nil
	bash.Dir = "/"
	bash.Env = []string{"PATH=/usr/sbin:/usr/bin", "TERM=linux", "HOME=/root", "PS1=stage1# "}
	bash.Stdin, bash.Stdout, bash.Stderr = tty, tty, tty
	bash.SysProcAttr = &syscall.SysProcAttr{Chroot: sysroot, Setsid: true, Setctty: true}
	if err := bash.Start(); err != nil {
		return err
	}
	bash.Wait()
	return nil
}

// command is one word of the debug shell.
type command struct {
	help string
	run  func(out io.Writer, args []string) error
}

// repl reads commands until "exit" or the end of the input.
func repl(in io.Reader, out io.Writer, table map[string]command) {
	lines := bufio.NewScanner(in)
	for {
		fmt.Fprint(out, "stage1# ")
		if !lines.Scan() {
			return
		}
		words := strings.Fields(lines.Text())
		if len(words) == 0 {
			continue
		}
		switch name := words[0]; {
		case name == "exit" || name == "reboot":
			return
		case name == "help":
			for _, name := range sortedNames(table) {
				fmt.Fprintf(out, "  %-28s %s\n", name, table[name].help)
			}
		case table[name].run == nil:
			fmt.Fprintf(out, "%q is not a command; \"help\" lists them\n", name)
		default:
			if err := table[name].run(out, words[1:]); err != nil {
				fmt.Fprintln(out, err)
			}
		}
	}
}
