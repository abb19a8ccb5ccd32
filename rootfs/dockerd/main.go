// Command dockerd is the Docker Engine of a Coracle machine: upstream's daemon
// (github.com/moby/moby/v2), unchanged, with containerd as a service of its
// own. What it does on this system is said by docker.service and daemon.json.
//
// Build tags leave out what cannot be used here: the embedded containerd, the
// storage drivers btrfs, zfs and fuse-overlayfs, and project quotas, which need
// C. The log drivers of cloud services cannot be left out by tags.
//
// Measured (amd64, stripped): 88 MB; answers 0.3 s after its start; idle 14 MB
// of memory of its own and 61 MB of pages of the program. One program with the
// docker command was 93 MB, 24 MB less than the two, but every `docker` call
// then took 20 ms of initialisation in place of 4 and 75 MB in place of 22, so
// they are two.
//
// docker-proxy is not built, as the kernel's rules forward ports of loopback
// addresses too ("userland-proxy": false in daemon.json).
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/moby/moby/v2/daemon/command"
	"github.com/moby/sys/reexec"
	"github.com/moby/term"
)

func main() {
	if reexec.Init() { // a helper process of the daemon, which has done its work
		return
	}
	// The journal may be restarted while the daemon runs.
	signal.Ignore(syscall.SIGPIPE)
	_, stdout, stderr := term.StdStreams()
	if err := run(context.Background(), stdout, stderr); err != nil {
		fmt.Fprintln(stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, stdout, stderr io.Writer) error {
	r, err := command.NewDaemonRunner(stdout, stderr)
	if err != nil {
		return err
	}
	return r.Run(ctx)
}
