package fleetd

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/agent"
	"github.com/coracle-os/coracle/agents/fleet/config"
)

// addressEvery is how often the machine's address is looked for.
const addressEvery = time.Minute

// facts are what this machine says of itself; the address may change.
type facts struct {
	machine fleet.Machine
	address atomic.Pointer[string]
}

// learn asks the machine what it is.
func learn(cfg config.Config, p paths, log *slog.Logger) (*facts, error) {
	id, err := readID(p.machineID, "local machine ID")
	if err != nil {
		return nil, err
	}
	boot, err := readID(p.bootID, "the boot id")
	if err != nil {
		return nil, err
	}
	cpu, memory, err := agent.Resources(p.proc)
	if err != nil {
		log.Warn("What this machine has is not known: CPU= and Memory= of units keep them from it", "err", err)
	}
	f := &facts{machine: fleet.Machine{ID: id, BootID: boot, PublicIP: cfg.PublicIP, Metadata: cfg.Metadata, Version: fleet.Version, CPU: cpu, Memory: memory}}
	f.address.Store(&cfg.PublicIP)
	return f, nil
}

// current is for the agent, whenever it asks.
func (f *facts) current() fleet.Machine {
	m := f.machine
	m.Metadata, m.PublicIP = maps.Clone(m.Metadata), *f.address.Load()
	return m
}

// follow looks for the machine's address until ctx ends, if none is configured,
// and calls changed when it is another.
func (f *facts) follow(ctx context.Context, changed func()) {
	if f.machine.PublicIP != "" {
		return
	}
	tick := time.NewTicker(addressEvery)
	defer tick.Stop()
	for {
		if now := outside(); now != "" && now != *f.address.Load() {
			f.address.Store(&now)
			changed()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// outside is the first address of the interface with the default route that
// others can use, as fleet chose it: IPv4, else IPv6; "" if there is none.
func outside() string {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteList(nil, family)
		if err != nil {
			continue
		}
		for _, r := range routes {
			if r.Dst != nil && !r.Dst.IP.IsUnspecified() || r.LinkIndex == 0 {
				continue
			}
			if a := addressOf(r.LinkIndex, family == netlink.FAMILY_V4); a != "" {
				return a
			}
		}
	}
	return ""
}

func addressOf(index int, four bool) string {
	link, err := net.InterfaceByIndex(index)
	if err != nil {
		return ""
	}
	list, err := link.Addrs()
	if err != nil {
		return ""
	}
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && (n.IP.To4() != nil) == four {
			return n.IP.String()
		}
	}
	return ""
}
