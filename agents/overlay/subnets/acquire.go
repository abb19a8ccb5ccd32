package subnets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/lease"
	"github.com/flannel-io/flannel/pkg/subnet"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// ttl is how long a subnet stays a machine's that is not there any more.
	ttl = 24 * time.Hour
	// races is how often machines that choose at the same time may be in each
	// other's way.
	races = 20
	// choices is among how many free subnets one is taken by chance, so that
	// machines that come together seldom want the same.
	choices = 100
)

// ErrUsedUp says that every subnet has a machine.
var ErrUsedUp = errors.New("out of subnets")

// held is a subnet in the KV; kv.Lease is 0 for a reservation, which somebody
// wrote without an end.
type held struct {
	lease.Lease
	kv *mvccpb.KeyValue
}

// AcquireLease gets the machine a subnet: the one that the KV has for its
// public address, else the one that it had before, else a free one. A lease
// that the KV has is taken over, a reservation stays one.
func (m *Manager) AcquireLease(ctx context.Context, attrs *lease.LeaseAttrs) (*lease.Lease, error) {
	config, err := m.GetNetworkConfig(ctx)
	if err != nil {
		return nil, err
	}
	value, err := json.Marshal(attrs)
	if err != nil {
		return nil, fmt.Errorf("get a subnet: %w", err)
	}
	for range races {
		l, done, err := m.acquire(ctx, config, attrs, string(value))
		switch {
		case errors.Is(err, rpctypes.ErrLeaseNotFound): // it ended just now
		case err != nil:
			return nil, fmt.Errorf("get a subnet: %w", err)
		case done:
			return l, nil
		}
		if err := pause(ctx, rand.N(100*time.Millisecond)); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("get a subnet: too many machines choose at the same time; it is tried again")
}

// acquire is one try; it is not done if somebody wrote meanwhile.
func (m *Manager) acquire(ctx context.Context, config *subnet.Config, attrs *lease.LeaseAttrs, value string) (*lease.Lease, bool, error) {
	all, revision, err := m.held(ctx)
	if err != nil {
		return nil, false, err
	}
	own, gone := ours(config, attrs, all)
	l := &lease.Lease{EnableIPv4: true, Attrs: *attrs}
	var granted clientv3.LeaseID
	if own == nil {
		if l.Subnet, l.IPv6Subnet, err = m.choose(config, all, gone); err != nil {
			return nil, false, err
		}
	} else {
		l.Subnet, l.IPv6Subnet, granted = own.Subnet, own.IPv6Subnet, clientv3.LeaseID(own.kv.Lease)
	}
	l.EnableIPv6 = !l.IPv6Subnet.Empty()
	var options []clientv3.OpOption
	if own == nil || granted != 0 { // no reservation
		if granted, l.Expiration, err = m.grant(ctx, granted); err != nil {
			return nil, false, err
		}
		options = append(options, clientv3.WithLease(granted))
	}
	ops := []clientv3.Op{clientv3.OpPut(m.key(l), value, options...)}
	for _, h := range gone {
		ops = append(ops, clientv3.OpDelete(string(h.kv.Key)))
	}
	// Not only a new key: in a network with IPv6 two keys can have the same part
	// of the IPv4 network.
	unchanged := clientv3.Compare(clientv3.ModRevision(m.subnets()), "<", revision+1).WithPrefix()
	if own != nil {
		unchanged = clientv3.Compare(clientv3.ModRevision(m.key(l)), "=", own.kv.ModRevision)
	}
	answer, err := m.KV.Txn(ctx).If(unchanged).Then(ops...).Commit()
	if err != nil {
		return nil, false, err
	}
	m.granted.Store(int64(granted))
	return l, answer.Succeeded, nil
}

// grant renews a lease of the KV, or gets one, for ttl.
func (m *Manager) grant(ctx context.Context, id clientv3.LeaseID) (clientv3.LeaseID, time.Time, error) {
	now := time.Now()
	for _, id := range []clientv3.LeaseID{id, clientv3.LeaseID(m.granted.Load())} {
		if id == 0 {
			continue
		}
		alive, err := m.KV.KeepAliveOnce(ctx, id)
		if err == nil && alive.TTL >= int64(ttl.Seconds()) {
			return id, now.Add(ttl), nil
		}
		if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return 0, now, err
		}
	}
	granted, err := m.KV.Grant(ctx, int64(ttl.Seconds()))
	if err != nil {
		return 0, now, err
	}
	m.granted.Store(int64(granted.ID)) // a try that fails leaves it for the next
	return granted.ID, now.Add(ttl), nil
}

// ours finds what the KV has for the machine, and what it has for it that does
// not fit the network any more. Reservations are nobody's to remove.
func ours(config *subnet.Config, attrs *lease.LeaseAttrs, all []held) (own *held, gone []held) {
	for i, h := range all {
		reserved := h.kv.Lease == 0
		switch {
		case h.Attrs.PublicIP != attrs.PublicIP:
		case fits(config, h.Subnet, h.IPv6Subnet) && (own == nil || reserved && own.kv.Lease != 0):
			if own != nil {
				gone = append(gone, *own)
			}
			own = &all[i]
		case !reserved:
			gone = append(gone, h)
		}
	}
	return own, gone
}

// choose takes the subnet from before, or a free one.
func (m *Manager) choose(config *subnet.Config, all, gone []held) (ip.IP4Net, ip.IP6Net, error) {
	taken := map[string]bool{}
	for _, h := range gone {
		taken[string(h.kv.Key)] = true
	}
	var others []lease.Lease
	for _, h := range all {
		if !taken[string(h.kv.Key)] {
			others = append(others, h.Lease)
		}
	}
	if fits(config, m.Before4, m.Before6) && free4(m.Before4, others) && (!config.EnableIPv6 || free6(m.Before6, others)) {
		return m.Before4, m.Before6, nil
	}
	var list4 []ip.IP4Net
	for n := (ip.IP4Net{IP: config.SubnetMin, PrefixLen: config.SubnetLen}); n.IP <= config.SubnetMax && len(list4) < choices; n = n.Next() {
		if free4(n, others) {
			list4 = append(list4, n)
		}
		if n.Next().IP < n.IP { // the end of all addresses
			break
		}
	}
	list6 := []ip.IP6Net{none6()}
	if config.EnableIPv6 {
		list6 = nil
		for n := (ip.IP6Net{IP: config.IPv6SubnetMin, PrefixLen: config.IPv6SubnetLen}); n.IP.Cmp(config.IPv6SubnetMax) <= 0 && len(list6) < choices; n = n.Next() {
			if free6(n, others) {
				list6 = append(list6, n)
			}
		}
	}
	if len(list4) == 0 || len(list6) == 0 {
		return ip.IP4Net{}, ip.IP6Net{}, ErrUsedUp
	}
	return list4[rand.IntN(len(list4))], list6[rand.IntN(len(list6))], nil
}

func none6() ip.IP6Net { return ip.IP6Net{IP: new(ip.IP6)} }

func free4(n ip.IP4Net, others []lease.Lease) bool {
	for _, l := range others {
		if n.Overlaps(l.Subnet) {
			return false
		}
	}
	return true
}

func free6(n ip.IP6Net, others []lease.Lease) bool {
	for _, l := range others {
		if l.EnableIPv6 && n.Overlaps(l.IPv6Subnet) {
			return false
		}
	}
	return true
}

// fits tells whether the network has such subnets.
func fits(config *subnet.Config, n4 ip.IP4Net, n6 ip.IP6Net) bool {
	if n4.PrefixLen != config.SubnetLen || n4.IP < config.SubnetMin || n4.IP > config.SubnetMax {
		return false
	}
	if !config.EnableIPv6 {
		return n6.Empty()
	}
	return !n6.Empty() && n6.PrefixLen == config.IPv6SubnetLen && n6.IP.Cmp(config.IPv6SubnetMin) >= 0 && n6.IP.Cmp(config.IPv6SubnetMax) <= 0
}

// held lists all subnets.
func (m *Manager) held(ctx context.Context) ([]held, int64, error) {
	got, err := m.KV.Get(ctx, m.subnets(), clientv3.WithPrefix())
	if err != nil {
		return nil, 0, fmt.Errorf("list the subnets: %w", err)
	}
	var all []held
	for _, kv := range got.Kvs {
		if l, ok := m.read(string(kv.Key), kv.Value); ok {
			all = append(all, held{Lease: l, kv: kv})
		}
	}
	return all, got.Header.Revision, nil
}

// RenewLease makes the lease good for another day. A reservation has no end.
func (m *Manager) RenewLease(ctx context.Context, l *lease.Lease) error {
	if l.Expiration.IsZero() {
		return nil
	}
	now := time.Now()
	if _, err := m.KV.KeepAliveOnce(ctx, clientv3.LeaseID(m.granted.Load())); err != nil {
		return fmt.Errorf("renew the subnet's lease: %w", err)
	}
	l.Expiration = now.Add(ttl)
	return nil
}
