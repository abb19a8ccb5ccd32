// Command sshd is the SSH server of a Coracle machine, see agents/ssh. It calls
// itself by the name sftp-server for each sftp session.
//
// It is a program of its own and not a part of coracled, because it starts
// first at every boot and once more for each sftp session: alone it is 5 MB,
// initialises in 0.7 ms and runs in 8 MiB, of which 2.5 are its own; in coracled
// it would initialise etcd and gRPC each time, which is 8 ms, ten times that
// under emulation.
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/coracle-os/coracle/agents/ssh"
	"github.com/coracle-os/coracle/rootfs/program"
)

func main() {
	// Who starts sshd deaf to hangups, as nohup does, does not want that for
	// what its users run: caught here, the signal is theirs to hear again.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	stdio := program.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	if filepath.Base(os.Args[0]) == ssh.SFTPName || len(os.Args) == 2 && os.Args[1] == ssh.SFTPName {
		os.Exit(ssh.SFTPMain(ctx, os.Args, stdio))
	}
	os.Exit(ssh.Main(ctx, os.Args, stdio))
}
