package overlay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/coracle-os/coracle/agents/kv/pki"
	"github.com/coracle-os/coracle/agents/overlay/firewall"
	"github.com/coracle-os/coracle/agents/overlay/memory"
	"github.com/coracle-os/coracle/agents/overlay/settings"
	"github.com/coracle-os/coracle/agents/overlay/subnets"
	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/flannel-io/flannel/pkg/backend"
	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/lease"
	"github.com/flannel-io/flannel/pkg/subnet"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Waits of the daemon.
const (
	retryFirst = time.Second
	retryMost  = 30 * time.Second
	// readyAfter is how long the rest of the machine waits for the overlay: a
	// KV that is not there must not keep the machine from starting.
	readyAfter = 20 * time.Second
	lookEvery  = 5 * time.Second // at the KV's certificates
	// leaveMost is how long a back end is waited for: flannel's vxlan waits for
	// ever for a reader of its own that has gone, when it is told of a lease at
	// the moment of its end.
	leaveMost = 3 * time.Second
)

// flanneld is the daemon. All that it touches is in its fields.
type flanneld struct {
	settings settings.Settings
	log      *slog.Logger
	pid1     control.Client
	notify   func(state string)
	own      pki.Files // the certificates of the machine's own member of the KV

	memory *memory.File
	kv     *clientv3.Client
	ready  sync.Once
	told   string // the last problem, to be told once
}

// run joins the network again and again until ctx ends: after a loss of the
// lease, a change of the configuration or of the path's MTU, or an error. When
// the KV gets certificates it ends with an error, so that it is started anew.
func (d *flanneld) run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	secured := d.own.Readable()
	go func() { stop(pki.Await(ctx, d.own, secured, lookEvery)) }()
	var aside, err error
	if d.memory, aside, err = memory.Open(d.settings.Memory); err != nil {
		return err
	}
	defer d.memory.Close()
	if aside != nil {
		d.log.Warn(aside.Error())
	}
	if d.kv, err = d.connect(); err != nil {
		return err
	}
	defer d.kv.Close()
	timer := time.AfterFunc(readyAfter, func() { d.tellReady("STATUS=Waiting for the network; see the journal") })
	defer timer.Stop()
	wait := retryFirst
	for {
		began := time.Now()
		err := d.join(ctx)
		if ctx.Err() != nil {
			return d.end(ctx)
		}
		if time.Since(began) > retryMost {
			wait = retryFirst
		}
		d.tell(err)
		select {
		case <-ctx.Done():
			return d.end(ctx)
		case <-time.After(wait):
		}
		wait = min(2*wait, retryMost)
	}
}

// end is nil unless there is a reason to start anew.
func (d *flanneld) end(ctx context.Context) error {
	if err := context.Cause(ctx); errors.Is(err, pki.ErrOther) {
		return err
	}
	return nil
}

func (d *flanneld) tellReady(status string) {
	d.ready.Do(func() { d.notify("READY=1") })
	d.notify(status)
}

// tell logs why the network was left, or cannot be joined, once each.
func (d *flanneld) tell(err error) {
	var again errAgain
	switch {
	case errors.As(err, &again):
		d.log.Info("joining the network anew", "reason", again.reason)
		d.told = ""
	case err != nil && err.Error() != d.told:
		d.log.Error("not in the network", "error", err)
		d.told = err.Error()
		d.notify("STATUS=" + err.Error())
	}
}

// errAgain is a reason to join anew that is no failure.
type errAgain struct{ reason string }

func (e errAgain) Error() string { return e.reason }

// join takes part in the network until something changes.
func (d *flanneld) join(ctx context.Context) error {
	ctx, leave := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	var ended chan struct{} // when the back end has
	defer func() {
		if ended == nil {
			return
		}
		select {
		case <-ended:
		case <-time.After(leaveMost):
		}
	}()
	defer leave()
	manager, ext, config, err := d.prepare(ctx)
	if err != nil {
		return err
	}
	lost, err := manager.Claim(ctx, ext.ExtAddr.String(), d.settings.MachineID)
	if err != nil {
		return err
	}
	if err := usable(ctx, config.BackendType); err != nil {
		return err
	}
	if err := d.forward(config); err != nil {
		return err
	}
	d.clear(config)
	rules := firewall.Rules{Config: config, Masquerade: d.settings.IPMasq, RandomPorts: d.settings.RandomPorts, Forward: d.settings.Forward}
	watchMachines(manager, ext, config, &rules)
	back, err := backend.NewManager(ctx, manager, ext).GetBackend(config.BackendType)
	if err != nil {
		return fmt.Errorf("start the back end %q: %w; there are vxlan, host-gw, wireguard and udp", config.BackendType, err)
	}
	network, err := back.RegisterNetwork(ctx, &running, config)
	if err != nil {
		if config.EnableIPv6 && ext.Iface.MTU < least6+100 { // the device refuses an address
			return errors.Join(errSmall(config, ext), err)
		}
		return fmt.Errorf("start the back end %q: %w", config.BackendType, d.explain(err))
	}
	if config.EnableIPv6 && network.MTU() < least6 {
		return errSmall(config, ext)
	}
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		network.Run(ctx)
	}()
	rules.Lease = network.Lease()
	running.Go(func() { firewall.Keep(ctx, rules, d.settings.Resync, d.log) })
	if err := d.publish(ctx, config, network); err != nil {
		return err
	}
	d.told = ""
	d.log.Info("in the network", "network", config.Network, "subnet", network.Lease().Subnet, "backend", config.BackendType, "mtu", network.MTU())
	d.tellReady(fmt.Sprintf("STATUS=%s of %s by %s, MTU %d", network.Lease().Subnet, config.Network, config.BackendType, network.MTU()))
	return d.watch(ctx, manager, config, network.Lease(), ext, lost, &running)
}

// least6 is the least that IPv6 needs of a link, in bytes (RFC 8200).
const least6 = 1280

func errSmall(config *subnet.Config, ext *backend.ExternalInterface) error {
	return fmt.Errorf("use the back end %q: on the way to other machines packets can have %d bytes, less than that in the overlay, where IPv6 needs %d: make the network's frames larger, take host-gw, or leave IPv6 out",
		config.BackendType, ext.Iface.MTU, least6)
}

// watch returns the reason to leave.
func (d *flanneld) watch(ctx context.Context, m *subnets.Manager, config *subnet.Config, mine *lease.Lease, ext *backend.ExternalInterface, lost <-chan struct{}, running *sync.WaitGroup) error {
	reasons := make(chan error, 4)
	running.Go(func() { reasons <- m.CompleteLease(ctx, mine, running) })
	running.Go(func() {
		if m.Changed(ctx, config) == nil {
			reasons <- errAgain{"the network's configuration changed"}
		}
	})
	running.Go(func() {
		if mtu, err := d.smaller(ctx, m, ext); err == nil {
			reasons <- errAgain{fmt.Sprintf("the path to other machines takes no more than %d bytes", mtu)}
		}
	})
	running.Go(func() { d.claim(ctx, m, ext.ExtAddr.String(), lost, reasons) })
	return <-reasons
}

// claim holds the claim on the address over the KV's absence.
func (d *flanneld) claim(ctx context.Context, m *subnets.Manager, address string, lost <-chan struct{}, reasons chan<- error) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-lost:
		}
		again, err := m.Claim(ctx, address, d.settings.MachineID)
		var held subnets.ErrHeld
		if errors.As(err, &held) {
			reasons <- err
			return
		}
		if lost = again; err != nil {
			closed := make(chan struct{})
			close(closed)
			lost = closed
			select {
			case <-ctx.Done():
				return
			case <-time.After(retryFirst):
			}
		}
	}
}

// explain adds the next step to flannel's errors.
func (d *flanneld) explain(err error) error {
	switch {
	case strings.Contains(err.Error(), subnets.ErrUsedUp.Error()): // by flannel's back ends, which do not wrap
		return fmt.Errorf("%w: every subnet of the network has a machine; make Network larger or SubnetLen longer at %s/config, or remove leases of machines that are gone below %s/subnets",
			err, d.settings.EtcdPrefix, d.settings.EtcdPrefix)
	case strings.Contains(err.Error(), "operation not supported"):
		return fmt.Errorf("%w: this kernel lacks what the back end needs; choose another Type at %s/config", err, d.settings.EtcdPrefix)
	}
	return err
}

func prefix4(n ip.IP4Net) netip.Prefix {
	p, _ := netip.ParsePrefix(n.String())
	return p
}

func prefix6(n ip.IP6Net) netip.Prefix {
	if n.Empty() {
		return netip.Prefix{}
	}
	p, _ := netip.ParsePrefix(n.String())
	return p
}
