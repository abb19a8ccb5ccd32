// Init is the multi-call program of the root: process 1, and by its other
// names the light programs that people and scripts call often. It starts in
// milliseconds, so nothing heavy belongs here: agents and their tools are in
// agents/coracled.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/coracle-os/coracle/rootfs/dockerport"
	"github.com/coracle-os/coracle/rootfs/getty"
	"github.com/coracle-os/coracle/rootfs/hostnamectl"
	"github.com/coracle-os/coracle/rootfs/ignition/detect"
	"github.com/coracle-os/coracle/rootfs/journalctl"
	"github.com/coracle-os/coracle/rootfs/journald"
	"github.com/coracle-os/coracle/rootfs/modload"
	"github.com/coracle-os/coracle/rootfs/modprobe"
	"github.com/coracle-os/coracle/rootfs/networkctl"
	"github.com/coracle-os/coracle/rootfs/networkd"
	"github.com/coracle-os/coracle/rootfs/pid1"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/rootfs/provision"
	"github.com/coracle-os/coracle/rootfs/resolvectl"
	"github.com/coracle-os/coracle/rootfs/spawn"
	"github.com/coracle-os/coracle/rootfs/systemctl"
	"github.com/coracle-os/coracle/rootfs/systemdanalyze"
	"github.com/coracle-os/coracle/rootfs/systemdescape"
	"github.com/coracle-os/coracle/rootfs/systemdrun"
	"github.com/coracle-os/coracle/rootfs/updatectl"
	"github.com/coracle-os/coracle/rootfs/waitonline"
)

// programs maps the names that the binary is called by to what they run. One
// line for each name, in alphabetical order.
func programs() map[string]program.Main {
	return map[string]program.Main{
		"agetty":                       getty.Main,
		"cloud-init":                   provision.Main, // Vagrant looks for a program of this name
		"coreos-cloudinit":             provision.Main,
		"docker-exposed":               dockerport.Main,
		"halt":                         systemctl.Main,
		"hostnamectl":                  hostnamectl.Main,
		"ignition-detect":              detect.Main,
		"init":                         pid1.Main,
		"journalctl":                   journalctl.Main,
		"modprobe":                     modprobe.Main,
		"networkctl":                   networkctl.Main,
		"poweroff":                     systemctl.Main,
		"reboot":                       systemctl.Main,
		"resolvectl":                   resolvectl.Main,
		"shutdown":                     systemctl.Main,
		"systemctl":                    systemctl.Main,
		"systemd-analyze":              systemdanalyze.Main,
		"systemd-escape":               systemdescape.Main,
		"systemd-journald":             journald.Main,
		"systemd-modules-load":         modload.Main,
		"systemd-networkd":             networkd.Main,
		"systemd-networkd-wait-online": waitonline.Main,
		"systemd-run":                  systemdrun.Main,
		"updatectl":                    updatectl.Main,
	}
}

func main() {
	name := filepath.Base(os.Args[0])
	if name == spawn.ShimName { // before anything else: it is in the way of each start
		os.Exit(spawn.Shim(os.Args, os.Stderr))
	}
	if os.Getpid() == 1 {
		name = "init"
	}
	run, ok := programs()[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "%s: no program of that name in this binary; call it by a name such as systemctl\n", name)
		os.Exit(127)
	}
	os.Exit(run(context.Background(), os.Args, program.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
