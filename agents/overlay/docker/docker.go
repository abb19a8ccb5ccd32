// Package docker gives the machine's subnet and MTU to the container runtimes:
// to dockerd as options in a file that docker.service reads (the names are
// those of flannel's mk-docker-opts.sh), and to containerd's clients as a CNI
// network list.
//
// dockerd takes its bridge's address when it starts, so a running one is
// restarted when its options change. Containers end with it and come back by
// their restart policies or units, with addresses of the new subnet.
//
// dockerd drops what comes from another machine to a container's own address,
// as if nobody else had routes there. Two options let the overlay in, and only
// the overlay: packets that have Network.Mark are accepted.
package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/coracle-os/coracle/rootfs/control"
)

// Network is what the machine got.
type Network struct {
	Network, Subnet         netip.Prefix // of the cluster, and the part that is this machine's
	IPv6Network, IPv6Subnet netip.Prefix // zero without dual stack
	MTU                     int          // bytes
	Mark                    uint32       // of packets from the other machines
	Masquerade              bool         // the overlay masquerades; the runtime need not
}

// gateway is the first address of the subnet, which the bridge gets.
func gateway(p netip.Prefix) netip.Prefix {
	return netip.PrefixFrom(p.Masked().Addr().Next(), p.Bits())
}

// lowerHalf is Docker's part of the subnet.
func lowerHalf(p netip.Prefix) netip.Prefix { return netip.PrefixFrom(p.Masked().Addr(), p.Bits()+1) }

// Options is the file for docker.service.
func Options(n Network) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "DOCKER_OPT_BIP=--bip=%v --fixed-cidr=%v\n", gateway(n.Subnet), lowerHalf(n.Subnet))
	fmt.Fprintf(&b, "DOCKER_OPT_IPMASQ=--ip-masq=%v\n", !n.Masquerade)
	// The second is for networks that people make.
	fmt.Fprintf(&b, "DOCKER_OPT_MTU=--mtu=%d --default-network-opt=bridge=com.docker.network.driver.mtu=%d\n", n.MTU, n.MTU)
	fmt.Fprintf(&b, "DOCKER_OPT_OVERLAY=--allow-direct-routing --bridge-accept-fwmark=%#x/%#x\n", n.Mark, n.Mark)
	if n.IPv6Subnet.IsValid() {
		fmt.Fprintf(&b, "DOCKER_OPT_IPV6=--ipv6 --bip6=%v --fixed-cidr-v6=%v\n", gateway(n.IPv6Subnet), lowerHalf(n.IPv6Subnet))
	}
	return b.Bytes()
}

// List is the CNI network list (cni.dev specification 1.0.0) of containerd's
// containers, as `ctr run --cni` and nerdctl have them. They are on Docker's
// bridge and have the upper half of the subnet, so that no address is given
// twice.
func List(n Network) ([]byte, error) {
	type object = map[string]any
	half, err := upperHalf(n.Subnet)
	if err != nil {
		return nil, err
	}
	ranges := []any{[]any{object{"subnet": n.Subnet.String(), "rangeStart": half.String(), "gateway": gateway(n.Subnet).Addr().String()}}}
	routes := []any{object{"dst": "0.0.0.0/0"}}
	if n.IPv6Subnet.IsValid() {
		half, err := upperHalf(n.IPv6Subnet)
		if err != nil {
			return nil, err
		}
		ranges = append(ranges, []any{object{"subnet": n.IPv6Subnet.String(), "rangeStart": half.String(), "gateway": gateway(n.IPv6Subnet).Addr().String()}})
		routes = append(routes, object{"dst": "::/0"})
	}
	return json.MarshalIndent(object{
		"cniVersion": "1.0.0",
		"name":       "overlay",
		"plugins": []any{object{
			"type": "bridge", "bridge": "docker0", "mtu": n.MTU, "isGateway": true, "ipMasq": !n.Masquerade, "hairpinMode": true,
			// What has an address is forgotten with /run: no container outlives a boot.
			"ipam": object{"type": "host-local", "dataDir": "/run/cni/networks", "ranges": ranges, "routes": routes},
		}},
	}, "", "  ")
}

// upperHalf is the first address of the second half of p.
func upperHalf(p netip.Prefix) (netip.Addr, error) {
	if p.Bits() >= p.Addr().BitLen()-1 {
		return netip.Addr{}, fmt.Errorf("divide the subnet %v: it is too small", p)
	}
	bytes := p.Masked().Addr().AsSlice()
	bytes[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	half, _ := netip.AddrFromSlice(bytes)
	return half, nil
}

// Write replaces the file at path if its content is another, and tells so.
func Write(path string, data []byte) (changed bool, err error) {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.WriteFile(path+".new", data, 0o644); err != nil {
		return false, fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return false, fmt.Errorf("write %s: %w", path, err)
	}
	return true, nil
}

// Change replaces the options at path and calls follow, unless Docker was told of
// these before. A mark beside the file is there until follow has succeeded, so
// that what a failure or the program's end interrupts is done the next time.
func Change(path string, data []byte, follow func() error) error {
	mark := path + ".untold"
	if old, err := os.ReadFile(path); err != nil || !bytes.Equal(old, data) {
		if _, err := Write(mark, nil); err != nil {
			return err
		}
		if _, err := Write(path, data); err != nil {
			return err
		}
	}
	if _, err := os.Stat(mark); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := follow(); err != nil {
		return err
	}
	if err := os.Remove(mark); err != nil {
		return fmt.Errorf("note that Docker knows its options: %w", err)
	}
	return nil
}

// Follow restarts a docker.service that runs, or starts just now, with other
// options; one that is not running reads the file when it starts. It tells
// whether it did. A machine without PID 1's socket has nothing to follow.
func Follow(ctx context.Context, pid1 control.Client) (restarted bool, err error) {
	answer, err := pid1.Collect(ctx, control.Request{Verb: control.Show, Units: []string{"docker.service"}})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look at docker.service: %w", err)
	}
	for _, unit := range answer.Units {
		if unit.Active == "active" || unit.Active == "activating" || unit.Active == "reloading" {
			_, err := pid1.Collect(ctx, control.Request{Verb: control.Restart, Units: []string{"docker.service"}, Flags: control.Flags{NoBlock: true}})
			if err != nil {
				return false, fmt.Errorf("restart docker.service for its new subnet: %w", err)
			}
			return true, nil
		}
	}
	return false, nil
}
