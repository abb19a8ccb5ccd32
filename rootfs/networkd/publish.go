package networkd

import (
	"context"
	"net/netip"
	"slices"

	"github.com/coracle-os/coracle/rootfs/network/resolv"
	"github.com/coracle-os/coracle/rootfs/network/split"
	"github.com/coracle-os/coracle/rootfs/network/state"
	"github.com/coracle-os/coracle/rootfs/network/stub"
)

// publish writes the files that others read.
func (d *networkDaemon) publish(ctx context.Context, current state.State) {
	if _, err := state.Write(d.paths.State, current); err != nil {
		d.log.Error(err.Error())
	}
	var domains, clocks []string
	clocks = append(clocks, d.time.Servers...)
	for _, index := range d.order() {
		_, search, _, ntp := d.managed[index].names()
		domains, clocks = append(domains, search...), append(clocks, ntp...)
	}
	d.publishResolver(ctx, split.FromState(current), domains)
	if len(clocks) == 0 {
		clocks = d.time.Fallback
	}
	if !current.Online {
		clocks = nil
	}
	d.tellServers(clocks)
}

// publishResolver writes the resolver's two files, as systemd-resolved has
// them: one with the network's own servers, which containers use, and one for
// the machine, which has the stub if it matters whom one asks.
func (d *networkDaemon) publishResolver(ctx context.Context, scopes []split.Scope, domains []string) {
	var first []netip.Addr
	if local, ok := resolv.ReadLocal(d.paths.Local); ok {
		// It knows more names, and asks the right ones for the others, too.
		first, domains = []netip.Addr{local.Server}, append([]string{local.Domain}, domains...)
	}
	uplinks := slices.Concat(first, split.Uplinks(scopes))
	machine := uplinks
	if d.serveStub(ctx, scopes) {
		machine = append(first, netip.MustParseAddrPort(stub.Address).Addr())
	}
	for path, servers := range map[string][]netip.Addr{d.paths.Resolv: uplinks, d.paths.Stub: machine} {
		if err := resolv.Write(path, resolv.Text(servers, domains)); err != nil {
			d.log.Error(err.Error())
		}
	}
}

// serveStub has the stub answer while it is needed, and tells whether it does.
func (d *networkDaemon) serveStub(ctx context.Context, scopes []split.Scope) bool {
	if !split.Needed(scopes) {
		d.stopStub()
		return false
	}
	if d.stub == nil {
		server, err := stub.Listen(stub.Address, d.log)
		if err != nil {
			if text := err.Error(); text != d.stubProblem {
				d.log.Error(text + "; the servers of interfaces with domains of their own are not asked")
				d.stubProblem = text
			}
			return false
		}
		d.stubProblem = ""
		ctx, cancel := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() { defer close(ended); server.Serve(ctx) }()
		d.stub, d.endStub = server, func() { cancel(); <-ended }
	}
	d.stub.Use(scopes)
	return true
}

func (d *networkDaemon) stopStub() {
	if d.stub != nil {
		d.endStub()
		d.stub = nil
	}
}
