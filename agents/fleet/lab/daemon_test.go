package lab

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/agent"
	"github.com/coracle-os/coracle/agents/fleet/agent/memory"
	"github.com/coracle-os/coracle/agents/fleet/agent/store"
	"github.com/coracle-os/coracle/agents/fleet/agent/units"
	"github.com/coracle-os/coracle/agents/fleet/engine"
	"github.com/coracle-os/coracle/agents/fleet/registry"
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
		if err := fleetd(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// ttl is that of the machines' leases, and election the store's election
// timeout: the hold of a lost store must be above two of it.
const (
	ttl      = 4 * time.Second
	election = 500 * time.Millisecond
)

// fleetd is what a machine runs: agent and engine in one process.
func fleetd(ctx context.Context) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			log.Error("Read", "error", err)
		}
		return strings.TrimSpace(string(b))
	}
	machine := fleet.Machine{ID: read("/etc/machine-id"), BootID: read("/proc/sys/kernel/random/boot_id"), PublicIP: os.Getenv("LAB_ADDRESS"), Version: "lab", CPU: 4000, Memory: 1 << 30}
	client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(os.Getenv("LAB_STORE"), ","), Logger: zap.NewNop(),
		DialTimeout: time.Second, DialKeepAliveTime: time.Second, DialKeepAliveTimeout: 500 * time.Millisecond})
	if err != nil {
		return err
	}
	defer client.Close()
	m, err := memory.Open("/var/lib/fleet/agent.db")
	if err != nil {
		return err
	}
	defer m.Close()
	r := registry.New(client, "", time.Second)
	a := agent.New(agent.Config{Machine: func() fleet.Machine { return machine }, TTL: ttl, Store: store.Store{Registry: r, ID: machine.ID},
		Init: units.System{}, Memory: m, Log: log, StopLimit: 5 * time.Second})
	engineDone := make(chan struct{})
	go func() {
		defer close(engineDone)
		engine.Run(ctx, engine.Options{Registry: r, MachineID: machine.ID, TTL: 2 * time.Second, Log: log})
	}()
	go func() {
		for tick := time.NewTicker(250 * time.Millisecond); ; <-tick.C {
			_ = a.Registered() // it takes the agent's lock: one that hangs is not told alive
			_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog)
		}
	}()
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		return err
	}
	err = a.Run(ctx)
	<-engineDone
	return err
}
