package overlay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/coracle-os/coracle/agents/overlay/firewall"
	"github.com/coracle-os/coracle/agents/overlay/subnets"
	"github.com/coracle-os/coracle/agents/overlay/udp"
	"github.com/flannel-io/flannel/pkg/backend"
	"github.com/flannel-io/flannel/pkg/lease"
	"github.com/flannel-io/flannel/pkg/subnet"
	"github.com/vishvananda/netlink"
)

// usable makes the tun device's node be there for udp; the kernel loads the
// modules of the other back ends by itself.
func usable(ctx context.Context, kind string) error {
	if strings.ToLower(kind) != udp.Type {
		return nil
	}
	if out, err := exec.CommandContext(ctx, "modprobe", "tun").CombinedOutput(); err != nil {
		if _, missing := os.Stat("/dev/net/tun"); missing != nil {
			return fmt.Errorf("use the back end %q: load the kernel's module tun: %w: %s", kind, err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// forward lets the kernel forward the overlay's packets. A machine that
// forwards IPv6 does not listen to routers any more unless it is told to.
func (d *flanneld) forward(config *subnet.Config) error {
	set := map[string]string{}
	if config.EnableIPv4 {
		set["/proc/sys/net/ipv4/ip_forward"] = "1"
	}
	if config.EnableIPv6 {
		listening, _ := filepath.Glob("/proc/sys/net/ipv6/conf/*/accept_ra")
		for _, path := range listening {
			if value, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(value)) == "1" {
				set[path] = "2"
			}
		}
	}
	err := write(set)
	if config.EnableIPv6 && err == nil {
		err = write(map[string]string{"/proc/sys/net/ipv6/conf/default/forwarding": "1", "/proc/sys/net/ipv6/conf/all/forwarding": "1"})
	}
	return err
}

func write(files map[string]string) error {
	for path, value := range files {
		if old, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(old)) == value {
			continue
		}
		// An interface may go meanwhile.
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("let the kernel forward: %w", err)
		}
	}
	return nil
}

// devices are the names that a back end's devices have. All begin with
// "flannel", and so do those of no other program.
func devices(config *subnet.Config) []string {
	switch strings.ToLower(config.BackendType) {
	case "vxlan":
		given := struct{ VNI int }{VNI: 1}
		json.Unmarshal(config.Backend, &given)
		return []string{fmt.Sprintf("flannel.%d", given.VNI), fmt.Sprintf("flannel-v6.%d", given.VNI)}
	case "wireguard":
		return []string{"flannel-wg", "flannel-wg-v6"}
	case udp.Type:
		return []string{udp.Device}
	}
	return nil
}

// clear removes the devices of other configurations, which the machine had
// before.
func (d *flanneld) clear(config *subnet.Config) {
	links, err := netlink.LinkList()
	if err != nil {
		d.log.Warn("devices of other back ends may be left", "error", err)
	}
	for _, link := range links {
		name := link.Attrs().Name
		if strings.HasPrefix(name, "flannel") && !slices.Contains(devices(config), name) {
			d.log.Info("removed the device of another back end", "device", name, "error", netlink.LinkDel(link))
		}
	}
}

// watchMachines tells the rules how the other machines' packets come. Back
// ends with a device of their own give machines addresses of the overlay on
// it; with host-gw they come by the network's, with the addresses that they
// have there.
func watchMachines(m *subnets.Manager, ext *backend.ExternalInterface, config *subnet.Config, rules *firewall.Rules) {
	rules.Interface = "flannel*"
	if len(devices(config)) > 0 {
		return
	}
	rules.Interface = ext.Iface.Name
	var machines atomic.Pointer[[]netip.Addr]
	changed := make(chan struct{}, 1)
	m.Seen = func(all []lease.Lease) {
		list := addressesOf(all)
		machines.Store(&list)
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	rules.Changed = changed
	rules.Machines = func() []netip.Addr {
		if list := machines.Load(); list != nil {
			return *list
		}
		return nil
	}
}

func addressesOf(leases []lease.Lease) (all []netip.Addr) {
	for _, l := range leases {
		if a, ok := netip.AddrFromSlice(l.Attrs.PublicIP.ToIP().To4()); ok && l.EnableIPv4 {
			all = append(all, a)
		}
		if l.EnableIPv6 && l.Attrs.PublicIPv6 != nil {
			if a, ok := netip.AddrFromSlice(l.Attrs.PublicIPv6.ToIP()); ok {
				all = append(all, a)
			}
		}
	}
	return all
}
