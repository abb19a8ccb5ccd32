package early

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Consoles are the terminals besides tty1 that a login belongs on: those that
// the kernel writes its messages to, the first serial port, and the console of a
// hypervisor (hvc0), each only if the machine has it. A serial port that the
// driver has a name for and no hardware is none. sys is /sys.
func Consoles(sys fs.FS) []string {
	active, _ := fs.ReadFile(sys, "class/tty/console/active")
	var found []string
	for _, name := range append(strings.Fields(string(active)), "ttyS0", "hvc0") {
		// tty0 and tty1 are the screen; its terminals have getty@.service.
		isScreen := strings.HasPrefix(name, "tty") && strings.Trim(name[3:], "0123456789") == ""
		if !isScreen && hasTerminal(sys, name) && !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	return found
}

func hasTerminal(sys fs.FS, name string) bool {
	if !fs.ValidPath(name) || strings.Contains(name, "/") {
		return false
	}
	if _, err := fs.Stat(sys, "class/tty/"+name); err != nil {
		return false
	}
	kind, err := fs.ReadFile(sys, "class/tty/"+name+"/type")
	return err != nil || strings.TrimSpace(string(kind)) != "0" // PORT_UNKNOWN of serial_core.h
}

// Gettys makes getty.target want a login on each of the terminals, as
// systemd-getty-generator does.
func Gettys(root string, terminals []string) error {
	var errs []error
	for _, name := range terminals {
		link := filepath.Join(root, "run/systemd/system/getty.target.wants", "serial-getty@"+name+".service")
		err := os.MkdirAll(filepath.Dir(link), 0o755)
		if err == nil {
			err = os.Symlink("/usr/lib/systemd/system/serial-getty@.service", link)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			errs = append(errs, fmt.Errorf("put a login on %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
