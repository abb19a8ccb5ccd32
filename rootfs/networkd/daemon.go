package networkd

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/rootfs/network/config"
	"github.com/coracle-os/coracle/rootfs/network/dhcp"
	"github.com/coracle-os/coracle/rootfs/network/lease"
	"github.com/coracle-os/coracle/rootfs/network/link"
	"github.com/coracle-os/coracle/rootfs/network/plan"
	"github.com/coracle-os/coracle/rootfs/network/resolv"
	"github.com/coracle-os/coracle/rootfs/network/state"
	"golang.org/x/sys/unix"
)

// networkDaemon is what the loop knows. Only the loop uses it; the DHCP clients
// talk to it by events.
type networkDaemon struct {
	paths  Paths
	kernel *link.Kernel
	log    *slog.Logger

	files       []config.Network
	time        config.Time
	managed     map[int]*managed // by index
	events      chan event
	timeServers chan []string
	lastServers []string
	givenName   string // host name that we set
}

// managed is an interface that a .network file is for.
type managed struct {
	link    link.Link
	network config.Network
	lease   *lease.Lease
	own     []netip.Prefix // addresses that we gave it
	problem string         // of DHCP
	failed  string         // of the last task that the kernel refused

	carrier bool
	machine lease.Machine // while no client runs
	stop    func()        // ends the client; nil if none runs
}

// event is news of a DHCP client.
type event struct {
	index  int
	report dhcp.Report
}

func newDaemon(paths Paths, kernel *link.Kernel, log *slog.Logger) *networkDaemon {
	return &networkDaemon{paths: paths, kernel: kernel, log: log, managed: map[int]*managed{},
		events: make(chan event), timeServers: make(chan []string, 1)}
}

// refresh makes everything as it should be.
func (d *networkDaemon) refresh(ctx context.Context) error {
	links, err := d.kernel.List()
	if err != nil {
		return err
	}
	present := map[int]bool{}
	current := state.State{}
	for _, l := range links {
		if l.Match.Type == "loopback" {
			if !l.Have.Up {
				d.apply(l.Index, l.Match.Name, plan.Task{Kind: plan.SetUp, Reason: "loopback"}, nil)
			}
			continue
		}
		m := d.adopt(l)
		if m != nil {
			present[l.Index] = true
			d.configure(ctx, m)
		}
		current.Interfaces = append(current.Interfaces, describe(l, m))
	}
	for index, m := range d.managed {
		if !present[index] {
			d.drop(m)
			delete(d.managed, index)
		}
	}
	current.Online = d.online(links)
	d.publish(current)
	return nil
}

// adopt finds the file for an interface. It returns nil if it is none of ours.
func (d *networkDaemon) adopt(l link.Link) *managed {
	network, ok := config.Select(d.files, l.Match)
	m := d.managed[l.Index]
	if !ok || network.Unmanaged {
		if m != nil {
			d.drop(m)
			delete(d.managed, l.Index)
		}
		return nil
	}
	if m == nil || m.link.Match.Name != l.Match.Name || m.link.Match.MAC != l.Match.MAC {
		if m != nil {
			d.drop(m)
		}
		m = &managed{}
		d.managed[l.Index] = m
		d.recall(m, l)
		promoteSecondaries(l.Match.Name)
		d.log.Debug(fmt.Sprintf("%s: %s applies", l.Match.Name, network.File))
	}
	m.link, m.network = l, network
	return m
}

// promoteSecondaries has the kernel keep the other addresses of a network when
// the first one goes: a new lease's address comes before the old one goes.
func promoteSecondaries(name string) {
	// Without it the address is put back as soon as the kernel tells.
	os.WriteFile(filepath.Join("/proc/sys/net/ipv4/conf", name, "promote_secondaries"), []byte("1"), 0o644)
}

// drop ends the work on an interface that is gone or no longer ours. Its
// addresses stay: whoever takes it over decides about them.
func (d *networkDaemon) drop(m *managed) {
	if m.stop != nil {
		m.stop()
	}
}

func (d *networkDaemon) stopAll() {
	for _, m := range d.managed {
		d.drop(m)
		d.remember(m)
	}
}

// configure brings one interface to what it should be.
func (d *networkDaemon) configure(ctx context.Context, m *managed) {
	d.client(ctx, m)
	if m.lease != nil && m.lease.ExpiresAt() <= dhcp.Uptime() {
		m.lease = nil // without a link nobody renewed it
	}
	want := plan.Want(m.network, m.lease, dhcp.Uptime())
	tasks := plan.Make(want, m.link.Have, m.own)
	m.own = m.own[:0]
	for _, address := range want.Addresses {
		m.own = append(m.own, address.Prefix)
	}
	// Before the kernel has them: a crash in between must not orphan them.
	if len(tasks) > 0 {
		d.remember(m)
	}
	failed := ""
	for _, task := range tasks {
		if !d.apply(m.link.Index, m.link.Match.Name, task, &failed) {
			break // what comes later builds on it
		}
	}
	if failed != "" && failed != m.failed {
		d.log.Error(m.link.Match.Name + ": " + failed)
	}
	m.failed = failed
}

// apply does a task; with failed the error is left there for the caller.
func (d *networkDaemon) apply(index int, name string, task plan.Task, failed *string) bool {
	err := d.kernel.Apply(index, task)
	if err == nil {
		d.log.Debug(name + ": " + task.String())
		return true
	}
	if failed != nil {
		*failed = err.Error()
	} else {
		d.log.Error(name + ": " + err.Error())
	}
	return false
}

// client starts, restarts or ends the DHCP client of an interface.
func (d *networkDaemon) client(ctx context.Context, m *managed) {
	wanted := m.network.DHCP && m.link.Carrier && len(m.link.HWAddr) == 6
	cameUp := m.link.Carrier && !m.carrier
	m.carrier = m.link.Carrier
	if !m.network.DHCP && m.lease != nil {
		m.lease, m.machine, m.problem = nil, lease.Machine{}, ""
	}
	switch {
	case wanted && m.stop == nil:
		if cameUp {
			m.machine.LinkUp()
		}
		d.start(ctx, m)
	case !wanted && m.stop != nil:
		m.stop()
	}
}

func (d *networkDaemon) start(ctx context.Context, m *managed) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan lease.Machine, 1)
	index, machine := m.link.Index, m.machine
	client := dhcp.Client{Interface: m.link.Match.Name, HWAddr: m.link.HWAddr, Hostname: d.sendName(m.network), Log: d.log}
	go func() {
		defer cancel()
		done <- client.Run(ctx, machine, func(report dhcp.Report) {
			select {
			case d.events <- event{index, report}:
			case <-ctx.Done():
			}
		})
	}()
	m.stop = func() {
		cancel()
		m.machine = <-done
		m.stop = nil
	}
}

// lease takes the news of a client.
func (d *networkDaemon) lease(e event) {
	m := d.managed[e.index]
	if m == nil || m.stop == nil {
		return
	}
	m.lease, m.problem = e.report.Lease, e.report.Problem
	d.remember(m)
	if m.lease != nil && m.network.DHCPv4.UseHostname {
		d.takeName(m.lease.Hostname)
	}
}

// sendName is the name that servers are told: the file's, or the machine's if
// somebody gave it one.
func (d *networkDaemon) sendName(network config.Network) string {
	if !network.DHCPv4.SendHostname {
		return ""
	}
	if network.DHCPv4.Hostname != "" {
		return network.DHCPv4.Hostname
	}
	if name, err := os.Hostname(); err == nil && !defaultName(name) && config.ValidName(name) {
		return name
	}
	return ""
}

// defaultName tells whether a host name is what a machine has that nobody named.
func defaultName(name string) bool {
	return slices.Contains([]string{"", "(none)", "localhost", "localhost.localdomain", "coracle"}, name)
}

// takeName gives the machine the name from DHCP, if it has none of its own.
func (d *networkDaemon) takeName(name string) {
	if name == "" {
		return
	}
	if text, err := os.ReadFile(d.paths.Hostname); err == nil && strings.TrimSpace(string(text)) != "" {
		return
	}
	current, err := os.Hostname()
	if err != nil || current == name || (!defaultName(current) && current != d.givenName) {
		return
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		d.log.Warn("set the host name from DHCP: " + err.Error())
		return
	}
	d.givenName = name
	d.log.Info(fmt.Sprintf("the host name is %q, from DHCP", name))
}

// failing tells whether the kernel refused something that may work later.
func (d *networkDaemon) failing() bool {
	for _, m := range d.managed {
		if m.failed != "" {
			return true
		}
	}
	return false
}

// publish writes the files that others read.
func (d *networkDaemon) publish(current state.State) {
	if _, err := state.Write(d.paths.State, current); err != nil {
		d.log.Error(err.Error())
	}
	var servers []netip.Addr
	var domains, clocks []string
	if local, ok := resolv.ReadLocal(d.paths.Local); ok {
		servers, domains = append(servers, local.Server), append(domains, local.Domain)
	}
	clocks = append(clocks, d.time.Servers...)
	for _, index := range d.order() {
		m := d.managed[index]
		dns, search, ntp := m.names()
		servers, domains, clocks = append(servers, dns...), append(domains, search...), append(clocks, ntp...)
	}
	if err := resolv.Write(d.paths.Resolv, resolv.Text(servers, domains)); err != nil {
		d.log.Error(err.Error())
	}
	if len(clocks) == 0 {
		clocks = d.time.Fallback
	}
	if !current.Online {
		clocks = nil
	}
	d.tellServers(clocks)
}

// tellServers hands the time client its servers when they changed; an older
// list that it has not taken yet is replaced.
func (d *networkDaemon) tellServers(servers []string) {
	if slices.Equal(servers, d.lastServers) {
		return
	}
	d.lastServers = slices.Clone(servers)
	select {
	case <-d.timeServers:
	default:
	}
	d.timeServers <- slices.Clone(servers)
}

func (d *networkDaemon) order() []int {
	var all []int
	for index := range d.managed {
		all = append(all, index)
	}
	slices.Sort(all)
	return all
}
