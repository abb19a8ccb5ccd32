package lab

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/fleet/fleetd"
	"github.com/coracle-os/coracle/agents/kv"
	"github.com/coracle-os/coracle/rootfs/program"
)

// The lab's programs are this test's binary, told by a variable which to be.
func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	switch os.Getenv("LAB_PROGRAM") {
	case "setup":
		fmt.Fprintln(os.Stderr, setup(os.Args[1], os.Args[2], os.Args[3]))
		os.Exit(1)
	case "etcd":
		os.Exit(kv.Main(ctx, []string{"etcd"}, program.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
	case "fleetd":
		os.Exit(fleetd.Main(ctx, []string{"fleetd"}, program.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
	}
	os.Exit(m.Run())
}

// ttl is that of the machines' leases, and election the store's election
// timeout: the hold of a lost store must be above two of it.
const (
	ttl      = 10 * time.Second
	election = 500 * time.Millisecond
)
