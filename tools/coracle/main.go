// Command coracle builds, looks at, runs and publishes Coracle images.
//
//	coracle build        build the image that a recipe describes
//	coracle convert      write an image in the form that a platform takes
//	coracle run          boot an image in QEMU and log in
//	coracle inspect      say what is in an image
//	coracle verify       check an image's root against its root hash
//	coracle key          make and change the keys that sign releases
//	coracle release      publish an image as a release, give it to channels
//	coracle bundle       write a release as one file
//	coracle cluster      several machines on this computer, as one cluster
//	coracle publish      give an image to a cloud, or print how
//	coracle pxe          start machines over the network
//	coracle config       check user-data before a machine has it
//	coracle demo-update  show an update that is kept and one that is not
//
// Each command explains its flags with -h.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/coracle-os/coracle/rootfs/program"
)

// command is one subcommand. Its error is printed and ends the program with
// code 1; flag.ErrHelp ends it quietly.
type command struct {
	name, summary string
	run           func(ctx context.Context, args []string, stdio program.Stdio) error
}

// commands are the subcommands in the order of the help text.
func commands() []command {
	return []command{
		{"build", "build the image that a recipe describes", cmdBuild},
		{"convert", "write an image in the form that a platform takes", cmdConvert},
		{"run", "boot an image in QEMU and log in", cmdRun},
		{"inspect", "say what is in an image", cmdInspect},
		{"verify", "check an image's root against its root hash", cmdVerify},
		{"key", "make and change the keys that sign releases", cmdKey},
		{"release", "publish an image as a release, give it to channels", cmdRelease},
		{"bundle", "write a release as one file, for machines without a network", cmdBundle},
		{"cluster", "up, status, ssh, down: several machines in QEMU as one cluster", cmdCluster},
		{"publish", "give an image to a cloud, or print the commands that do", cmdPublish},
		{"pxe", "start machines over the network", cmdPXE},
		{"config", "check user-data, print its plan, before a machine has it", cmdConfig},
		{"demo-update", "show in QEMU an update that is kept and one that is not", cmdDemoUpdate},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args, program.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}

// run calls the subcommand and returns the exit code: 1 for a failure, 2 for a
// command line that is not understood.
func run(ctx context.Context, args []string, stdio program.Stdio) int {
	if len(args) < 2 {
		usage(stdio.Err)
		return 2
	}
	switch args[1] {
	case "-h", "-help", "--help", "help":
		usage(stdio.Out)
		return 0
	}
	for _, c := range commands() {
		if c.name != args[1] {
			continue
		}
		err := c.run(ctx, args[2:], stdio)
		var code exitCode
		switch {
		case err == nil:
			return 0
		case errors.As(err, &code):
			return int(code)
		case errors.Is(err, flag.ErrHelp):
			return 0
		case errors.Is(err, errUsage):
			return 2
		case ctx.Err() != nil:
			fmt.Fprintf(stdio.Err, "coracle %s: stopped\n", c.name)
			return 130
		}
		fmt.Fprintf(stdio.Err, "coracle %s: %v\n", c.name, err)
		return 1
	}
	fmt.Fprintf(stdio.Err, "coracle: no command %q\n", args[1])
	usage(stdio.Err)
	return 2
}

// errUsage says that a command line is not understood and that this was said.
var errUsage = errors.New("usage")

func usage(w io.Writer) {
	fmt.Fprintln(w, "Usage: coracle COMMAND [ARGUMENT...]")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-10s %s\n", c.name, c.summary)
	}
	fmt.Fprintln(w, "coracle COMMAND -h explains the flags of a command.")
}
