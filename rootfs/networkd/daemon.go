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
	"github.com/coracle-os/coracle/rootfs/network/ra"
	"github.com/coracle-os/coracle/rootfs/network/state"
	"github.com/coracle-os/coracle/rootfs/network/stub"
	"golang.org/x/sys/unix"
)

// networkDaemon is what the loop knows. Only the loop uses it; the clients talk
// to it by events.
type networkDaemon struct {
	paths  Paths
	kernel *link.Kernel
	log    *slog.Logger

	files       config.Config
	time        config.Time
	managed     map[int]*managed // by index
	seen        map[int]bool     // links that a .link file was looked for
	tunnels     map[string]bool  // WireGuard links that are configured
	said        map[string]bool  // problems that the log has
	problems    []plan.Problem   // of netdevs
	events      chan event
	timeServers chan []string
	lastServers []string
	givenName   string // host name that we set
	stub        *stub.Server
	endStub     func()
	stubProblem string // that the log has
}

// managed is an interface that a .network file is for.
type managed struct {
	link    link.Link
	network config.Network
	own     []netip.Prefix // addresses that we gave it
	part    bool           // we made it a part of another one
	setUp   bool           // it was set up, or down, as its file wants
	failed  string         // of the last task that the kernel refused
	carrier bool

	dhcp4, dhcp6 session
	stateless    bool // what dhcp6 asks for
	router       ra.Known
	heard        bool   // an advertisement
	listening    func() // ends the listener; nil if none runs
	ownChoice    ownChoice
}

// session is a DHCP client of an interface and what it got.
type session struct {
	lease   *lease.Lease
	problem string
	machine lease.Machine // while no client runs
	stop    func()        // ends the client; nil if none runs
	again   chan struct{}
}

func (s *session) end() {
	if s.stop != nil {
		s.stop()
	}
}

// forget drops what the session got.
func (s *session) forget() {
	s.end()
	s.lease, s.machine, s.problem = nil, lease.Machine{}, ""
}

// event is news of a client or of a listener, or somebody's wish.
type event struct {
	index  int
	v6     bool
	report dhcp.Report
	router *ra.Advertisement
	wish   *wish
	// linkLocal is news of the IPv4 address that the machine chooses.
	linkLocal *netip.Addr
}

func newDaemon(paths Paths, kernel *link.Kernel, log *slog.Logger) *networkDaemon {
	return &networkDaemon{paths: paths, kernel: kernel, log: log, managed: map[int]*managed{}, seen: map[int]bool{},
		tunnels: map[string]bool{}, said: map[string]bool{}, events: make(chan event), timeServers: make(chan []string, 1)}
}

// refresh makes everything as it should be.
func (d *networkDaemon) refresh(ctx context.Context) error {
	links, err := d.devices()
	if err != nil {
		return err
	}
	ports, err := d.kernel.VLANs()
	if err != nil {
		d.log.Debug(err.Error()) // a kernel without bridges has no ports
	}
	present := map[int]bool{}
	current := state.State{}
	for _, l := range links {
		if l.Match.Type == "loopback" {
			if !l.Have.Up {
				d.apply(l.Index, l.Match.Name, plan.Task{Kind: plan.SetUp, Reason: "loopback"}, nil)
			}
			if _, ok := config.Select(d.files.Networks, l.Match); !ok {
				continue
			}
		}
		l.Have.VLANs = ports[l.Index]
		m := d.adopt(l)
		if m != nil {
			present[l.Index] = true
			d.configure(ctx, m, links)
		}
		if l.Match.Type != "loopback" {
			current.Interfaces = append(current.Interfaces, describe(l, m))
		}
	}
	for index, m := range d.managed {
		if !present[index] {
			d.drop(m)
			delete(d.managed, index)
		}
	}
	d.global()
	d.secure(ctx, links)
	current.Online = d.online(links)
	d.publish(ctx, current)
	return nil
}

// adopt finds the file for an interface. It returns nil if it is none of ours.
func (d *networkDaemon) adopt(l link.Link) *managed {
	network, ok := config.Select(d.files.Networks, l.Match)
	m := d.managed[l.Index]
	if !ok || network.Unmanaged {
		if m != nil {
			d.drop(m)
			delete(d.managed, l.Index)
		}
		return nil
	}
	if m == nil || m.link.Match.Name != l.Match.Name || (m.link.Match.MAC != l.Match.MAC && m.network.MAC == "" && m.network.Master.Kind == "") {
		if m != nil {
			d.drop(m)
		}
		m = &managed{}
		d.managed[l.Index] = m
		d.recall(m, l)
		promoteSecondaries(l.Match.Name)
		d.log.Debug(fmt.Sprintf("%s: %s applies", l.Match.Name, network.File))
	}
	if m.network.File != network.File || m.network.Activation != network.Activation {
		m.setUp = false
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
	m.dhcp4.end()
	m.dhcp6.end()
	m.ownChoice.end()
	m.deafen()
}

func (d *networkDaemon) stopAll() {
	for _, m := range d.managed {
		d.drop(m)
		d.remember(m)
	}
	d.stopStub()
}

// configure brings one interface to what it should be.
func (d *networkDaemon) configure(ctx context.Context, m *managed, links []link.Link) {
	d.clients(ctx, m)
	for _, s := range []*session{&m.dhcp4, &m.dhcp6} {
		if s.lease != nil && s.lease.Address.IsValid() && s.lease.ExpiresAt() <= dhcp.Uptime() && !s.outlive(m.network.KeepLease) {
			s.lease = nil // without a link nobody renewed it
		}
	}
	want := plan.Want(m.network, m.link.Match.Name, d.facts(m, links), dhcp.Uptime())
	m.link.Have.Settings = link.Settings(want.Settings)
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
		if !d.apply(m.link.Index, m.link.Match.Name, task, &failed) && task.Kind != plan.Set {
			break // what comes later builds on it
		}
	}
	if failed != "" && failed != m.failed {
		d.log.Error(m.link.Match.Name + ": " + failed)
	}
	m.failed = failed
	m.setUp = m.setUp || failed == ""
	m.part = m.network.Master.Kind != "" && want.Master > 0
}

// facts are what the plan needs to know beside the file.
func (d *networkDaemon) facts(m *managed, links []link.Link) plan.Facts {
	facts := plan.Facts{Lease: m.dhcp4.lease, Lease6: m.dhcp6.lease, LinkLocal: m.ownChoice.address, Router: m.router.Router(), WasPart: m.part, SetUp: m.setUp}
	for i, netdev := range d.files.Netdevs {
		if netdev.Name == m.link.Match.Name {
			facts.Netdev = &d.files.Netdevs[i]
		}
		if m.network.Master.Kind == "vrf" && netdev.Kind == "vrf" && netdev.Name == m.network.Master.Name {
			facts.Table = netdev.Table
		}
	}
	for _, l := range links {
		if m.network.Master.Name != "" && l.Match.Name == m.network.Master.Name {
			facts.Master = l.Index
		}
	}
	return facts
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

// sendName is the name that servers are told: the file's, or the machine's if
// somebody gave it one.
func (d *networkDaemon) sendName(send bool, given string) string {
	switch {
	case !send:
		return ""
	case given != "":
		return given
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
