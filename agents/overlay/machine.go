package overlay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/coracle-os/coracle/agents/kv/pki"
	"github.com/coracle-os/coracle/agents/overlay/docker"
	"github.com/coracle-os/coracle/agents/overlay/firewall"
	"github.com/coracle-os/coracle/agents/overlay/memory"
	"github.com/coracle-os/coracle/agents/overlay/pathmtu"
	"github.com/coracle-os/coracle/agents/overlay/subnets"
	"github.com/flannel-io/flannel/pkg/backend"
	"github.com/flannel-io/flannel/pkg/ip"
	"github.com/flannel-io/flannel/pkg/ipmatch"
	"github.com/flannel-io/flannel/pkg/subnet"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// connect makes the client of the KV. It does not wait for the KV.
func (d *flanneld) connect() (*clientv3.Client, error) {
	s := d.settings
	if s.EtcdCAFile == "" && s.EtcdCertfile == "" {
		var own pki.Files
		s.EtcdEndpoints, own = pki.Own(s.EtcdEndpoints, d.own)
		s.EtcdCAFile, s.EtcdCertfile, s.EtcdKeyfile = own.Authority, own.Certificate, own.Key
	}
	config := clientv3.Config{
		Endpoints: s.EtcdEndpoints, Username: s.EtcdUsername, Password: s.EtcdPassword, Logger: zap.NewNop(),
		DialTimeout: 5 * time.Second, DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second,
	}
	if s.EtcdCAFile != "" || s.EtcdCertfile != "" {
		tls, err := transport.TLSInfo{TrustedCAFile: s.EtcdCAFile, CertFile: s.EtcdCertfile, KeyFile: s.EtcdKeyfile}.ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("read the files for TLS with the KV: %w", err)
		}
		config.TLS = tls
	}
	kv, err := clientv3.New(config)
	if err != nil {
		return nil, fmt.Errorf("connect to the KV %q: %w", s.EtcdEndpoints, err)
	}
	return kv, nil
}

// kvWait is how long one answer of the KV is waited for.
const kvWait = 10 * time.Second

// prepare finds out what the network is and by which interface this machine is
// in it.
func (d *flanneld) prepare(ctx context.Context) (*subnets.Manager, *backend.ExternalInterface, *subnet.Config, error) {
	m := &subnets.Manager{KV: d.kv, Prefix: d.settings.EtcdPrefix, Margin: d.settings.RenewMargin, Log: d.log}
	asking, done := context.WithTimeout(ctx, kvWait)
	defer done()
	config, err := m.GetNetworkConfig(asking)
	if errors.Is(err, subnets.ErrNoConfig) && d.settings.DefaultNetwork != "" {
		if err := m.WriteDefault(asking, d.settings.DefaultNetwork); err != nil {
			return nil, nil, nil, err
		}
		config, err = m.GetNetworkConfig(asking)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	ext, err := d.interfaceFor(config)
	if err != nil {
		return nil, nil, nil, err
	}
	if mtu, err := d.pathMTU(asking, m, ext); err != nil {
		d.log.Warn("the path's MTU is taken to be the interface's", "error", err)
	} else {
		ext.Iface.MTU = mtu
	}
	before, err := d.memory.Subnet(config.Network.String())
	if err != nil {
		d.log.Warn("the machine may get another subnet than before", "error", err)
	}
	m.Before4, m.Before6 = ip4Net(before.IPv4), ip6Net(before.IPv6)
	return m, ext, config, nil
}

// interfaceFor picks the interface that reaches the other machines.
func (d *flanneld) interfaceFor(config *subnet.Config) (*backend.ExternalInterface, error) {
	s := d.settings
	stack, err := ipmatch.GetIPFamily(config.EnableIPv4, config.EnableIPv6)
	if err != nil {
		return nil, fmt.Errorf("read the network: %w", err)
	}
	public := ipmatch.PublicIPOpts{PublicIP: s.PublicIP, PublicIPv6: s.PublicIPv6}
	type choice struct{ name, regex, reach string }
	var choices []choice
	for _, name := range s.Interfaces {
		choices = append(choices, choice{name: name})
	}
	for _, regex := range s.IfaceRegex {
		choices = append(choices, choice{regex: regex})
	}
	if s.CanReach != "" {
		choices = append(choices, choice{reach: s.CanReach})
	}
	if len(choices) == 0 {
		choices = []choice{{name: s.PublicIP}} // "" is the default route's
	}
	var problems []error
	for _, c := range choices {
		ext, err := ipmatch.LookupExtIface(c.name, c.regex, c.reach, stack, public)
		if err == nil && ext != nil {
			return ext, nil
		}
		problems = append(problems, err)
	}
	return nil, fmt.Errorf("find the interface to the other machines: %w; name it with --iface or FLANNELD_IFACE", errors.Join(problems...))
}

// probeWait is how long a router's answer to a probe is waited for.
const probeWait = 300 * time.Millisecond

// pathMTU is the least of the MTUs on the way to the other machines.
func (d *flanneld) pathMTU(ctx context.Context, m *subnets.Manager, ext *backend.ExternalInterface) (int, error) {
	mtu := ext.Iface.MTU
	leases, err := m.Leases(ctx)
	if err != nil {
		return 0, err
	}
	for _, l := range leases {
		peer, ok := netip.AddrFromSlice(l.Attrs.PublicIP.ToIP().To4())
		if !ok || peer.String() == ext.ExtAddr.String() {
			continue
		}
		found, err := pathmtu.To(peer, mtu, probeWait)
		if err != nil {
			d.log.Debug("path not looked at", "error", err)
			continue
		}
		mtu = min(mtu, found)
	}
	return mtu, nil
}

// pathEvery is the time between looks at the paths.
const pathEvery = 5 * time.Minute

// smaller returns when a path takes less than is used.
func (d *flanneld) smaller(ctx context.Context, m *subnets.Manager, ext *backend.ExternalInterface) (int, error) {
	used := ext.Iface.MTU
	for {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(pathEvery):
		}
		if mtu, err := d.pathMTU(ctx, m, ext); err == nil && mtu < used {
			return mtu, nil
		}
	}
}

// publish tells the runtimes and remembers the subnet.
func (d *flanneld) publish(ctx context.Context, config *subnet.Config, network backend.Network) error {
	mine := network.Lease()
	n := docker.Network{
		Network: prefix4(config.Network), Subnet: prefix4(mine.Subnet), MTU: network.MTU(), Mark: firewall.Mark, Masquerade: d.settings.IPMasq,
		IPv6Network: prefix6(config.IPv6Network), IPv6Subnet: prefix6(mine.IPv6Subnet),
	}
	if err := d.memory.Keep(config.Network.String(), memory.Subnet{IPv4: n.Subnet, IPv6: n.IPv6Subnet}); err != nil {
		d.log.Warn("the machine may get another subnet after a reboot", "error", err)
	}
	if err := subnet.WriteSubnetFile(d.settings.SubnetFile, config, d.settings.IPMasq, mine.Subnet, mine.IPv6Subnet, n.MTU); err != nil {
		return fmt.Errorf("write %s: %w", d.settings.SubnetFile, err)
	}
	if d.settings.CNI != "" {
		list, err := docker.List(n)
		if err != nil {
			return fmt.Errorf("write the network of containerd's containers: %w", err)
		}
		if _, err := docker.Write(filepath.Join(d.settings.CNI, "10-overlay.conflist"), list); err != nil {
			return err
		}
	}
	var notTold error
	err := docker.Change(d.settings.DockerOptions, docker.Options(n), func() error {
		var restarted bool
		if restarted, notTold = docker.Follow(ctx, d.pid1); restarted {
			d.log.Info("docker.service is restarted: its containers get the new subnet", "subnet", n.Subnet, "mtu", n.MTU)
		}
		return notTold
	})
	if notTold != nil {
		d.log.Error("Docker keeps its old subnet: restart it with systemctl restart docker", "error", notTold)
		return nil
	}
	return err
}

func ip4Net(p netip.Prefix) ip.IP4Net {
	if !p.IsValid() {
		return ip.IP4Net{}
	}
	return ip.IP4Net{IP: ip.FromIP(p.Addr().AsSlice()), PrefixLen: uint(p.Bits())}
}

func ip6Net(p netip.Prefix) ip.IP6Net {
	if !p.IsValid() {
		return ip.IP6Net{IP: new(ip.IP6)}
	}
	return ip.IP6Net{IP: ip.FromIP6(p.Addr().AsSlice()), PrefixLen: uint(p.Bits())}
}
