// Package overlay is flanneld: it gets the machine its part of the cluster's
// network, sets up the way to the other machines' parts and tells Docker and
// containerd. The back ends (vxlan, host-gw, wireguard), the format of the
// configuration at /coreos.com/network/config and of the leases, and the
// firewall's rules are flannel's own packages, so that machines with flannel
// 0.28 can be in the same network; udp is a package of ours.
//
// Other than flannel it follows a changed configuration, keeps its subnet over
// a reboot, finds the path's MTU, puts its firewall rules back when another
// program has taken them away, and outlives a KV that is lost. Left out: the
// Kubernetes subnet manager, iptables, and the back ends of clouds.
package overlay

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/coracle-os/coracle/agents/kv/pki"
	"github.com/coracle-os/coracle/agents/overlay/settings"
	"github.com/coracle-os/coracle/agents/overlay/udp"
	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/flannel-io/flannel/pkg/backend"
	_ "github.com/flannel-io/flannel/pkg/backend/hostgw"    // registers itself
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan"     // registers itself
	_ "github.com/flannel-io/flannel/pkg/backend/wireguard" // registers itself
	"k8s.io/klog/v2"
)

// Main is the program flanneld.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	err := run(ctx, args[1:], stdio)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, settings.ErrUsage):
		fmt.Fprintf(stdio.Err, "flanneld: %v\n", err)
		return 2
	}
	fmt.Fprintf(stdio.Err, "flanneld: %v\n", err)
	return 1
}

func run(ctx context.Context, args []string, stdio program.Stdio) error {
	s, warnings, err := settings.Parse(args, os.LookupEnv, stdio.Err)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stdio.Err, nil))
	for _, warning := range warnings {
		log.Warn(warning)
	}
	klog.SetSlogLogger(slog.New(slog.NewTextHandler(stdio.Err, &slog.HandlerOptions{Level: slog.LevelWarn})))
	backend.Register(udp.Type, udp.New(log))
	if s.MachineID == "" {
		id, err := os.ReadFile("/etc/machine-id")
		if err != nil {
			return fmt.Errorf("read the machine's id: %w", err)
		}
		s.MachineID = strings.TrimSpace(string(id))
	}
	d := &flanneld{
		settings: s, log: log, pid1: control.Client{}, own: pki.In(s.KVCertificates),
		notify: func(state string) { daemon.SdNotify(false, state) },
	}
	return d.run(ctx)
}
