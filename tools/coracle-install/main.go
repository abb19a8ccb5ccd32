// Command coracle-install is the installer of package agents/diskinstall as a
// program of its own, for other Linux systems; an image has it in coracled.
// `CGO_ENABLED=0 go build ./tools/coracle-install` makes one static file.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/coracle-os/coracle/agents/diskinstall"
	"github.com/coracle-os/coracle/rootfs/program"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(diskinstall.Main(ctx, os.Args, program.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
