// Command coracled is the agents of a Coracle machine and their heavier tools
// in one program: it acts as the program whose name it is called by, so that
// one copy of the Go runtime, of gRPC and of etcd is on the disk and in the
// page cache.
//
// `coracled NAME [ARGUMENT...]` does the same without a link of that name, and
// `coracled` alone lists the names.
//
// The SSH server is a program of its own, agents/sshd: see there.
package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/coracle-os/coracle/agents/config"
	"github.com/coracle-os/coracle/agents/cryptenroll"
	"github.com/coracle-os/coracle/agents/curl"
	"github.com/coracle-os/coracle/agents/diskinstall"
	"github.com/coracle-os/coracle/agents/etcdctl"
	"github.com/coracle-os/coracle/agents/etcdutl"
	"github.com/coracle-os/coracle/agents/fleet/ctl"
	"github.com/coracle-os/coracle/agents/fleet/fleetd"
	"github.com/coracle-os/coracle/agents/health"
	"github.com/coracle-os/coracle/agents/kv"
	"github.com/coracle-os/coracle/agents/kv/registry"
	"github.com/coracle-os/coracle/agents/locksmith"
	"github.com/coracle-os/coracle/agents/names"
	"github.com/coracle-os/coracle/agents/overlay"
	"github.com/coracle-os/coracle/agents/reset"
	"github.com/coracle-os/coracle/agents/rsync"
	"github.com/coracle-os/coracle/agents/update/engine"
	"github.com/coracle-os/coracle/agents/wget"
	"github.com/coracle-os/coracle/rootfs/ignition/firstboot"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/rootfs/userdata/fetch"
	"github.com/coracle-os/coracle/rootfs/userdata/metadata"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args, program.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}

// programs are the names that coracled answers to.
func programs() map[string]program.Main {
	return map[string]program.Main{
		"coracle-health":  health.Main,
		config.Name:       config.Main,
		cryptenroll.Name:  cryptenroll.Main,
		"curl":            curl.Main,
		"discovery":       registry.Main,
		"etcd":            kv.Main,
		"etcdctl":         etcdctl.Main,
		"etcdutl":         etcdutl.Main,
		"flanneld":        overlay.Main,
		"fleetctl":        ctl.Main,
		"fleetd":          fleetd.Main,
		"locksmithctl":    locksmith.CtlMain,
		"locksmithd":      locksmith.Main,
		"ignition":        firstboot.Main,
		"names":           names.Main,
		"rsync":           rsync.Main,
		"update-engine":   engine.Main,
		"wget":            wget.Main,
		fetch.Name:        fetch.Main,
		platform.Program:  metadata.Main,
		"coracle-install": diskinstall.Main,
		"coracle-reset":   reset.Main,
	}
}

// run picks the program by the base name of args[0], or by args[1] when
// coracled is called by its own name.
func run(ctx context.Context, args []string, stdio program.Stdio) int {
	table := programs()
	name := strings.TrimPrefix(filepath.Base(args[0]), "-")
	if main, ok := table[name]; ok {
		return main(ctx, args, stdio)
	}
	names := slices.Sorted(maps.Keys(table))
	if len(args) < 2 {
		fmt.Fprintf(stdio.Out, "Usage: coracled NAME [ARGUMENT...]\nNames: %s\n", strings.Join(names, ", "))
		return 0
	}
	if main, ok := table[args[1]]; ok {
		return main(ctx, args[1:], stdio)
	}
	fmt.Fprintf(stdio.Err, "coracled: no program %q in this binary; it has: %s\n", args[1], strings.Join(names, ", "))
	return 127
}
