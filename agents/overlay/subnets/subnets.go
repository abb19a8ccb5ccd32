// Package subnets keeps a machine's subnet in the cluster's KV and tells of
// the others', for flannel's back ends. Keys and values are those of flannel's
// etcd subnet manager (github.com/flannel-io/flannel/pkg/subnet/etcd), so that
// machines with flannel are in the same network; the program is ours since
// flannel's v0.28.4
//
//   - gives a reservation an end, and so loses it;
//   - ends with a panic when a network with IPv6 has a lease without;
//   - can give two machines the same IPv4 subnet when they come together in a
//     network with IPv6;
//   - begins a watch again at the revision where it first began, which a
//     compaction makes impossible for ever.
//
// Left out: IPv6 without IPv4, which flannel's format for etcd has no keys for.
//
// It also holds a claim on the machine's public address, so that two machines
// with one address do not share a subnet without a word.
package subnets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coracle-os/coracle/agents/kv/history"
	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/lease"
	"github.com/flannel-io/flannel/pkg/subnet"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrLost says that the machine's lease is not its own any more: it ended
// while the KV was away, or somebody removed it.
var ErrLost = errors.New("the lease of this machine's subnet was removed")

// Manager is the subnet manager that flannel's back ends get.
type Manager struct {
	KV     *clientv3.Client
	Prefix string
	Margin time.Duration // before the end of a lease at which it is renewed
	// Before4 and Before6 are what the machine had when it was in the network
	// the last time; zero for nothing.
	Before4 ip.IP4Net
	Before6 ip.IP6Net
	// Seen, if not nil, hears of the leases of all machines before the back end
	// hears of what changed.
	Seen func([]lease.Lease)
	Log  *slog.Logger

	granted atomic.Int64 // the KV's lease
}

var _ subnet.Manager = (*Manager)(nil)

// retry is the pause before another try at the KV.
const retry = time.Second

// GetNetworkConfig reads and checks the cluster's network. Without a "Backend"
// it is vxlan: flannel's default, udp, copies every packet through a program.
// Masquerading is nftables' always; the image has no iptables.
func (m *Manager) GetNetworkConfig(ctx context.Context) (*subnet.Config, error) {
	config, _, err := m.config(ctx)
	return config, err
}

// ErrNoConfig says that the KV has no network yet.
var ErrNoConfig = errors.New("the cluster has no network")

func (m *Manager) config(ctx context.Context) (*subnet.Config, *etcdserverpb.ResponseHeader, error) {
	key := path.Join(m.Prefix, "config")
	got, err := m.KV.Get(ctx, key)
	if err != nil {
		return nil, nil, fmt.Errorf("read the network from the KV: %w", err)
	}
	if len(got.Kvs) == 0 {
		return nil, got.Header, fmt.Errorf(`%w: write one with etcdctl put %s '{"Network":"10.1.0.0/16"}'`, ErrNoConfig, key)
	}
	config, err := Parse(got.Kvs[0].Value)
	if err != nil {
		return nil, got.Header, fmt.Errorf("read the network at %s: %w", key, err)
	}
	return config, got.Header, nil
}

// Parse reads and checks a network's configuration.
func Parse(text []byte) (*subnet.Config, error) {
	var given struct{ Backend json.RawMessage }
	if err := json.Unmarshal(text, &given); err != nil {
		return nil, fmt.Errorf("it is not JSON: %w", err)
	}
	config, err := subnet.ParseConfig(string(text))
	if err != nil {
		return nil, err
	}
	if len(given.Backend) == 0 || string(given.Backend) == "null" {
		config.BackendType, config.Backend = "vxlan", json.RawMessage(`{"Type":"vxlan"}`)
	}
	config.EnableNFTables = true
	if !config.EnableIPv4 {
		return nil, errors.New("it has no IPv4, without which subnets have no keys: leave EnableIPv4 out")
	}
	if err := subnet.CheckNetworkConfig(config); err != nil {
		return nil, err
	}
	return config, nil
}

// WriteDefault writes text as the network if there is none, in one step with
// the look, so that machines that start together agree on one.
func (m *Manager) WriteDefault(ctx context.Context, text string) error {
	if _, err := Parse([]byte(text)); err != nil {
		return fmt.Errorf("use the default network %q: %w", text, err)
	}
	key := path.Join(m.Prefix, "config")
	_, err := m.KV.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).Then(clientv3.OpPut(key, text)).Commit()
	if err != nil {
		return fmt.Errorf("write the default network: %w", err)
	}
	return nil
}

// Changed returns when the network's configuration is another than at
// revision, or with ctx's error.
func (m *Manager) Changed(ctx context.Context, old *subnet.Config) error {
	for {
		config, header, err := m.config(ctx)
		if err == nil && !same(old, config) {
			return nil
		}
		if errors.Is(err, ErrNoConfig) {
			m.Log.Warn("the network's configuration was removed; this machine keeps what it has", "key", path.Join(m.Prefix, "config"))
		} else if err != nil && ctx.Err() == nil {
			m.Log.Warn("the network's configuration cannot be used; this machine keeps what it has", "error", err)
		}
		if header != nil {
			m.next(ctx, path.Join(m.Prefix, "config"), header)
		}
		if err := pause(ctx, retry); err != nil {
			return err
		}
	}
}

func same(a, b *subnet.Config) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && a.BackendType == b.BackendType && string(x) == string(y)
}

// WatchLeases sends the leases of all machines, and then what changes, until
// ctx ends; then it closes receiver, as flannel's does. What it sends are
// always differences to what it sent before: flannel's watcher takes a second
// list of all leases for the end of the machine's own.
func (m *Manager) WatchLeases(ctx context.Context, receiver chan []lease.LeaseWatchResult) error {
	defer close(receiver)
	sent, told := map[string]lease.Lease{}, ""
	for {
		err := m.watchOnce(ctx, sent, receiver)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err.Error() != told { // once, however long the KV is away
			m.Log.Warn("the list of subnets is read anew", "reason", err)
			told = err.Error()
		}
		if err := pause(ctx, retry); err != nil {
			return err
		}
	}
}

// watchOnce lists and watches until the watch ends. sent is what the receiver
// knows.
func (m *Manager) watchOnce(ctx context.Context, sent map[string]lease.Lease, receiver chan<- []lease.LeaseWatchResult) error {
	all, header, err := m.list(ctx)
	if err != nil {
		return err
	}
	ctx, stop := history.While(clientv3.WithRequireLeader(ctx), m.KV, header)
	defer stop()
	if err := m.send(ctx, sent, all, receiver); err != nil {
		return err
	}
	for answer := range m.KV.Watch(ctx, m.subnets(), clientv3.WithPrefix(), clientv3.WithRev(header.Revision+1)) {
		if err := answer.Err(); err != nil {
			return fmt.Errorf("watch the subnets: %w", err)
		}
		for _, event := range answer.Events {
			delete(all, string(event.Kv.Key))
			if event.Type == clientv3.EventTypePut {
				m.add(all, string(event.Kv.Key), event.Kv.Value)
			}
		}
		if err := m.send(ctx, sent, all, receiver); err != nil {
			return err
		}
	}
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("watch the subnets: %w", err)
	}
	return errors.New("watch the subnets: the KV ended the watch")
}

// send tells the receiver what all has and sent has not, and the reverse.
func (m *Manager) send(ctx context.Context, sent, all map[string]lease.Lease, receiver chan<- []lease.LeaseWatchResult) error {
	events := difference(sent, all)
	if len(events) == 0 {
		return nil
	}
	if m.Seen != nil {
		m.Seen(slices.Collect(maps.Values(all)))
	}
	select {
	case receiver <- []lease.LeaseWatchResult{{Events: events}}:
		clear(sent)
		maps.Copy(sent, all)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// difference is what leads from old to now, in the order of the keys; a lease
// with other attributes is a new one.
func difference(old, now map[string]lease.Lease) (events []lease.Event) {
	for _, key := range slices.Sorted(maps.Keys(old)) {
		if _, there := now[key]; !there {
			events = append(events, lease.Event{Type: lease.EventRemoved, Lease: old[key]})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(now)) {
		if before, there := old[key]; !there || !reflect.DeepEqual(before.Attrs, now[key].Attrs) {
			events = append(events, lease.Event{Type: lease.EventAdded, Lease: now[key]})
		}
	}
	return events
}

func (m *Manager) subnets() string { return path.Join(m.Prefix, "subnets") + "/" }

// Leases lists the leases of all machines.
func (m *Manager) Leases(ctx context.Context) ([]lease.Lease, error) {
	all, _, err := m.list(ctx)
	leases := make([]lease.Lease, 0, len(all))
	for _, l := range all {
		leases = append(leases, l)
	}
	return leases, err
}

func (m *Manager) list(ctx context.Context) (map[string]lease.Lease, *etcdserverpb.ResponseHeader, error) {
	got, err := m.KV.Get(ctx, m.subnets(), clientv3.WithPrefix())
	if err != nil {
		return nil, nil, fmt.Errorf("list the subnets: %w", err)
	}
	all := make(map[string]lease.Lease, len(got.Kvs))
	for _, kv := range got.Kvs {
		m.add(all, string(kv.Key), kv.Value)
	}
	return all, got.Header, nil
}

func (m *Manager) add(all map[string]lease.Lease, key string, value []byte) {
	if l, ok := m.read(key, value); ok {
		all[key] = l
	}
}

// read reads one lease. What is none is passed over: others write there too.
func (m *Manager) read(key string, value []byte) (l lease.Lease, ok bool) {
	v4, v6 := subnet.ParseSubnetKey(key)
	if v4 == nil {
		m.Log.Warn("passed over what is no subnet", "key", key)
		return l, false
	}
	if err := json.Unmarshal(value, &l.Attrs); err != nil {
		m.Log.Warn("passed over a subnet that cannot be read", "key", key, "error", err)
		return l, false
	}
	l.EnableIPv4, l.Subnet, l.IPv6Subnet = true, *v4, none6()
	if v6 != nil {
		l.EnableIPv6, l.IPv6Subnet = true, *v6
	}
	return l, true
}

func (m *Manager) key(l *lease.Lease) string {
	return m.subnets() + subnet.MakeSubnetKey(l.Subnet, l.IPv6Subnet)
}

// CompleteLease renews the machine's lease and ends when it is lost (ErrLost)
// or with ctx. While the KV is away the machine keeps its subnet: a lease is
// good for a day.
func (m *Manager) CompleteLease(ctx context.Context, mine *lease.Lease, _ *sync.WaitGroup) error {
	key := m.key(mine)
	gone := make(chan error, 1)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() { gone <- m.removed(ctx, key, mine.Attrs) }()
	for {
		left := time.Until(mine.Expiration) - m.Margin
		if mine.Expiration.IsZero() { // a reservation
			left = ttl
		}
		timer := time.NewTimer(max(left, 0))
		select {
		case err := <-gone:
			timer.Stop()
			return err
		case <-timer.C:
			if err := m.RenewLease(ctx, mine); err != nil && ctx.Err() == nil {
				m.Log.Warn("the subnet's lease is not renewed yet", "error", err, "ends", mine.Expiration)
				if err := pause(ctx, min(time.Minute, m.Margin)); err != nil {
					return err
				}
			}
		}
	}
}

// removed waits until the key is gone, or another machine's.
func (m *Manager) removed(ctx context.Context, key string, mine lease.LeaseAttrs) error {
	for {
		got, err := m.KV.Get(ctx, key)
		if err == nil {
			if len(got.Kvs) == 0 || other(got.Kvs[0].Value, mine.PublicIP) {
				return ErrLost
			}
			m.next(ctx, key, got.Header)
		}
		if err := pause(ctx, retry); err != nil {
			return err
		}
	}
}

// next waits for an event of key after header, or until it must be read anew.
func (m *Manager) next(ctx context.Context, key string, header *etcdserverpb.ResponseHeader) {
	ctx, stop := history.While(clientv3.WithRequireLeader(ctx), m.KV, header)
	defer stop()
	for answer := range m.KV.Watch(ctx, key, clientv3.WithRev(header.Revision+1)) {
		if answer.Err() != nil || len(answer.Events) > 0 {
			return
		}
	}
}

// What follows is for flannel's other subnet managers.

// HandleSubnetFile writes subnet.env.
func (m *Manager) HandleSubnetFile(path string, config *subnet.Config, masquerade bool, n4 ip.IP4Net, n6 ip.IP6Net, mtu int) error {
	return subnet.WriteSubnetFile(path, config, masquerade, n4, n6, mtu)
}

// WatchLease is not there: CompleteLease watches by itself.
func (m *Manager) WatchLease(context.Context, ip.IP4Net, ip.IP6Net, chan []lease.LeaseWatchResult) error {
	return errors.ErrUnsupported
}

// GetStoredMacAddresses has none.
func (m *Manager) GetStoredMacAddresses(context.Context) (string, string) { return "", "" }

// GetStoredPublicIP has none.
func (m *Manager) GetStoredPublicIP(context.Context) (string, string) { return "", "" }

// Name is for logs.
func (m *Manager) Name() string { return "the KV at " + m.Prefix }

func other(value []byte, mine ip.IP4) bool {
	var attrs lease.LeaseAttrs
	return json.Unmarshal(value, &attrs) != nil || attrs.PublicIP != mine
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
