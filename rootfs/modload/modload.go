// Package modload is the program systemd-modules-load: it loads the drivers of
// the hardware that is there and the modules that modules-load.d(5) names. It
// runs once at boot as a unit, in a process of its own so that the module index
// never is in PID 1's memory.
//
// Which driver a device needs comes from initrd/modules, as in stage 1. Left out
// on purpose: devices that come later (package hotplug), blacklists and module
// options.
package modload

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/coracle-os/coracle/initrd/modules"
	"github.com/coracle-os/coracle/rootfs/early"
	"github.com/coracle-os/coracle/rootfs/program"
)

// Main runs the program. It exits with 1 when a named module cannot be loaded;
// a driver that fails is only told.
func Main(_ context.Context, _ []string, stdio program.Stdio) int {
	loader, err := modules.New("/")
	if err != nil {
		fmt.Fprintln(stdio.Err, err)
		return 1
	}
	code := 0
	// The hardware first: the network waits for its driver.
	if _, err := loader.LoadForAll("/sys"); err != nil {
		fmt.Fprintln(stdio.Err, err)
	}
	for _, name := range Named("/") {
		err := loader.Load(name)
		if err == nil {
			continue
		}
		fmt.Fprintln(stdio.Err, err)
		if !strings.Contains(err.Error(), "could not find") {
			code = 1
		}
	}
	return code
}

// Named returns the modules that the modules-load.d files below root name, in
// their order.
func Named(root string) []string {
	var names []string
	for _, f := range early.ConfFiles(root, "modules-load.d") {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' && line[0] != ';' {
				names = append(names, line)
			}
		}
	}
	return names
}

var _ program.Main = Main
