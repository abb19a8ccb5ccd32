// Package hostnamectl is the program hostnamectl(1): it shows and sets the
// machine's name. Chassis, icon and location are left out, and so is the
// transient name: what is set is the static name and the kernel's.
package hostnamectl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/firmware"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
)

var _ program.Main = Main

// Main is the program on the running machine.
func Main(_ context.Context, args []string, stdio program.Stdio) int {
	if err := run("/", func(n string) error { return unix.Sethostname([]byte(n)) }, args[1:], stdio); err != nil {
		fmt.Fprintln(stdio.Err, "hostnamectl:", err)
		return 1
	}
	return 0
}

// run works on the files below root; set gives the kernel its name.
func run(root string, set func(string) error, args []string, stdio program.Stdio) error {
	var words []string
	for _, a := range args {
		if !strings.HasPrefix(a, "-") {
			words = append(words, a)
		}
	}
	switch {
	case len(words) == 0 || words[0] == "status":
		return status(root, stdio)
	case words[0] == "hostname" && len(words) == 1:
		fmt.Fprintln(stdio.Out, specifier.ReadHost(os.DirFS(root)).Hostname)
		return nil
	case (words[0] == "set-hostname" || words[0] == "hostname") && len(words) == 2:
		return setName(root, words[1], set)
	}
	return fmt.Errorf("unknown command %q: use status, hostname or set-hostname NAME", strings.Join(words, " "))
}

func status(root string, stdio program.Stdio) error {
	h := specifier.ReadHost(os.DirFS(root))
	static, err := os.ReadFile(filepath.Join(root, "etc/hostname"))
	name := strings.TrimSpace(string(static))
	if err != nil || name == "" {
		name = "(unset)"
	}
	rows := [][2]string{{"Static hostname", name}}
	if h.Hostname != name {
		rows = append(rows, [2]string{"Transient hostname", h.Hostname})
	}
	system := h.OSRelease["PRETTY_NAME"]
	if system == "" {
		system = h.OSRelease["NAME"]
	}
	rows = append(rows, [][2]string{{"Machine ID", h.MachineID}, {"Boot ID", h.BootID}, {"Operating System", system},
		{"Kernel", "Linux " + h.Kernel}, {"Architecture", h.Arch}}...)
	trust := firmware.Read(os.DirFS(root))
	rows = append(rows, [2]string{"Secure Boot", trust.Boot()}, [2]string{"TPM", trust.Module()})
	for _, r := range rows {
		fmt.Fprintf(stdio.Out, "%18s: %s\n", r[0], r[1])
	}
	return nil
}

// setName writes the static name, then tells the kernel.
func setName(root, name string, set func(string) error) error {
	if err := check(name); err != nil {
		return err
	}
	at := filepath.Join(root, "etc/hostname")
	temporary := fmt.Sprintf("%s.%d", at, os.Getpid())
	if err := os.WriteFile(temporary, []byte(name+"\n"), 0o644); err != nil {
		return fmt.Errorf("set hostname: %w: this needs root, use sudo", err)
	}
	if err := os.Rename(temporary, at); err != nil {
		return errors.Join(fmt.Errorf("set hostname: %w", err), os.Remove(temporary))
	}
	if err := set(name); err != nil {
		return fmt.Errorf("set hostname: %w: the new name counts from the next boot on", err)
	}
	return nil
}

// check refuses what hostname(7) does not allow.
func check(name string) error {
	if len(name) == 0 || len(name) > 64 {
		return fmt.Errorf("hostname %q: it has 1 to 64 characters", name)
	}
	for _, label := range strings.Split(name, ".") {
		bad := strings.IndexFunc(label, func(r rune) bool {
			return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
		})
		if label == "" || bad >= 0 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return fmt.Errorf("hostname %q: use letters, digits and, between them, - and .", name)
		}
	}
	return nil
}
