package locksmith

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coracle-os/coracle/agents/locksmith/semaphore"
)

// callTimeout bounds one exchange with the store.
const callTimeout = 10 * time.Second

// Cluster is the key-value store, for the semaphore and for its own health.
type Cluster struct {
	config StoreConfig
	// own tells if a member runs on this machine.
	own func(ctx context.Context, m *etcdserverpb.Member) bool
}

// NewCluster is the store that config names. own may be nil: then a member with
// an address of this machine is its own.
func NewCluster(config StoreConfig, own func(context.Context, *etcdserverpb.Member) bool) Cluster {
	if own == nil {
		own = ownMember
	}
	return Cluster{config, own}
}

// with calls f with the semaphore and a bounded context.
func (c Cluster) with(ctx context.Context, f func(context.Context, semaphore.Store) error) error {
	client, err := c.config.dial(c.config.Endpoints)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return f(ctx, semaphore.Store{KV: client, Group: c.config.Group})
}

// Lock takes a place for the machine id.
func (c Cluster) Lock(ctx context.Context, id string) error {
	return c.with(ctx, func(ctx context.Context, s semaphore.Store) error { return s.Lock(ctx, id) })
}

// Unlock gives it back.
func (c Cluster) Unlock(ctx context.Context, id string) error {
	return c.with(ctx, func(ctx context.Context, s semaphore.Store) error { return s.Unlock(ctx, id) })
}

// Members asks every member how it is.
func (c Cluster) Members(ctx context.Context) ([]Member, error) {
	client, err := c.config.dial(c.config.Endpoints)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := client.MemberList(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the members of the key-value store: %w", err)
	}
	members := make([]Member, len(resp.Members))
	var wg sync.WaitGroup
	for i, m := range resp.Members {
		wg.Go(func() {
			members[i] = Member{Name: m.Name, Own: c.own(ctx, m), Voter: !m.IsLearner, Healthy: c.healthy(ctx, m)}
			if m.Name == "" {
				members[i].Name = fmt.Sprintf("%x", m.ID)
			}
		})
	}
	wg.Wait()
	return members, nil
}

// healthy asks one member itself.
func (c Cluster) healthy(ctx context.Context, m *etcdserverpb.Member) bool {
	ctx, cancel := context.WithTimeout(ctx, callTimeout/2)
	defer cancel()
	if len(m.ClientURLs) == 0 {
		return false // it was added and never started
	}
	client, err := c.config.dial(m.ClientURLs)
	if err != nil {
		return false
	}
	defer client.Close()
	for _, u := range m.ClientURLs {
		var status *clientv3.StatusResponse
		if status, err = client.Status(ctx, u); err == nil {
			return status.Leader != 0 && len(status.Errors) == 0 && status.Header.MemberId == m.ID
		}
	}
	return false
}

// ownMember tells if one of the member's addresses is of this machine, as a
// loopback address always is: a store that others are to reach has none.
func ownMember(ctx context.Context, m *etcdserverpb.Member) bool {
	local, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	isLocal := func(ip net.IP) bool {
		return ip.IsLoopback() || slices.ContainsFunc(local, func(a net.Addr) bool {
			n, ok := a.(*net.IPNet)
			return ok && n.IP.Equal(ip)
		})
	}
	for _, address := range m.PeerURLs {
		u, err := url.Parse(address)
		if err != nil {
			continue
		}
		ips := []net.IP{net.ParseIP(u.Hostname())}
		if ips[0] == nil {
			if ips, err = net.DefaultResolver.LookupIP(ctx, "ip", u.Hostname()); err != nil {
				continue
			}
		}
		if slices.ContainsFunc(ips, isLocal) {
			return true
		}
	}
	return false
}
