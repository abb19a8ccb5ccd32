// Package wireguard gives a WireGuard link the keys and peers of its .netdev
// file, by wgctrl. It is for the network daemon.
//
// Names of endpoints are looked up by the caller's resolver, whenever the
// device is configured; left out on purpose: following a name whose address
// changes while the tunnel stands, which systemd does not do either.
package wireguard

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/config"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// Resolve looks a name up.
type Resolve func(ctx context.Context, name string) ([]netip.Addr, error)

// Want is a device as the file has it. What of it cannot be had (a key file
// that is not there, a name that nobody knows) is a problem; the rest is in the
// result, unless ready is false.
func Want(ctx context.Context, w config.WireGuard, resolve Resolve) (want wgtypes.Config, ready bool, problems []error) {
	private := wgtypes.Key(w.PrivateKey)
	if w.PrivateKeyFile != "" {
		key, err := readKey(w.PrivateKeyFile)
		if err != nil {
			return want, false, []error{fmt.Errorf("PrivateKeyFile=: %w", err)}
		}
		private = key
	}
	port, mark := w.Port, w.Mark
	want = wgtypes.Config{PrivateKey: &private, FirewallMark: &mark, ReplacePeers: true}
	if port != 0 {
		want.ListenPort = &port
	}
	for _, p := range w.Peers {
		peer, err := wantPeer(ctx, p, resolve)
		if err != nil {
			problems = append(problems, err)
		}
		want.Peers = append(want.Peers, peer)
	}
	return want, true, problems
}

func wantPeer(ctx context.Context, p config.Peer, resolve Resolve) (wgtypes.PeerConfig, error) {
	keepalive := time.Duration(p.Keepalive) * time.Second
	shared := wgtypes.Key(p.PresharedKey)
	peer := wgtypes.PeerConfig{PublicKey: wgtypes.Key(p.PublicKey), PersistentKeepaliveInterval: &keepalive, ReplaceAllowedIPs: true}
	for _, prefix := range p.Allowed {
		peer.AllowedIPs = append(peer.AllowedIPs, net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())})
	}
	var problem error
	if p.PresharedKeyFile != "" {
		if shared, problem = readKey(p.PresharedKeyFile); problem != nil {
			// Without its key the peer would be answered less well protected than
			// its owner wants: it cannot be reached at all.
			peer.AllowedIPs = nil
			return peer, fmt.Errorf("PresharedKeyFile=: %w", problem)
		}
	}
	peer.PresharedKey = &shared
	if p.Endpoint != "" {
		peer.Endpoint, problem = address(ctx, p.Endpoint, resolve)
	}
	return peer, problem
}

func readKey(path string) (wgtypes.Key, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return wgtypes.Key{}, err
	}
	key, err := config.Key(string(text))
	if err != nil {
		return wgtypes.Key{}, fmt.Errorf("%s: %w", path, err)
	}
	return wgtypes.Key(key), nil
}

func address(ctx context.Context, endpoint string, resolve Resolve) (*net.UDPAddr, error) {
	host, portText, err := net.SplitHostPort(endpoint)
	if err != nil {
		return nil, fmt.Errorf("Endpoint=: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("Endpoint=: %w", err)
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		found, err := resolve(ctx, host)
		if err != nil || len(found) == 0 {
			return nil, fmt.Errorf("Endpoint=: look %q up: %w", host, err)
		}
		ip = found[0]
	}
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(port))), nil
}

// Plan is what to change so that the device is as wanted; ok is false if it is
// already. Peers that stay keep their sessions.
func Plan(want wgtypes.Config, have wgtypes.Device) (change wgtypes.Config, ok bool) {
	change.Peers = []wgtypes.PeerConfig{}
	if *want.PrivateKey != have.PrivateKey {
		change.PrivateKey, ok = want.PrivateKey, true
	}
	if want.ListenPort != nil && *want.ListenPort != have.ListenPort {
		change.ListenPort, ok = want.ListenPort, true
	}
	if *want.FirewallMark != have.FirewallMark {
		change.FirewallMark, ok = want.FirewallMark, true
	}
	for _, peer := range want.Peers {
		i := slices.IndexFunc(have.Peers, func(h wgtypes.Peer) bool { return h.PublicKey == peer.PublicKey })
		if i < 0 || !same(peer, have.Peers[i]) {
			change.Peers, ok = append(change.Peers, peer), true
		}
	}
	for _, peer := range have.Peers {
		if !slices.ContainsFunc(want.Peers, func(w wgtypes.PeerConfig) bool { return w.PublicKey == peer.PublicKey }) {
			change.Peers, ok = append(change.Peers, wgtypes.PeerConfig{PublicKey: peer.PublicKey, Remove: true}), true
		}
	}
	return change, ok
}

func same(want wgtypes.PeerConfig, have wgtypes.Peer) bool {
	if want.PresharedKey != nil && *want.PresharedKey != have.PresharedKey || *want.PersistentKeepaliveInterval != have.PersistentKeepaliveInterval {
		return false
	}
	// A peer may have moved: only the lack of an endpoint is mended.
	if want.Endpoint != nil && have.Endpoint == nil {
		return false
	}
	return slices.Equal(texts(want.AllowedIPs), texts(have.AllowedIPs))
}

func texts(list []net.IPNet) []string {
	var all []string
	for _, n := range list {
		all = append(all, n.String())
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Apply makes a device as wanted and reports whether something changed.
func Apply(name string, want wgtypes.Config) (changed bool, err error) {
	client, err := wgctrl.New()
	if err != nil {
		return false, fmt.Errorf("configure WireGuard link %s: %w", name, err)
	}
	defer client.Close()
	have, err := client.Device(name)
	if err != nil {
		return false, fmt.Errorf("configure WireGuard link %s: %w", name, err)
	}
	change, changed := Plan(want, *have)
	if !changed {
		return false, nil
	}
	if err := client.ConfigureDevice(name, change); err != nil {
		return false, fmt.Errorf("configure WireGuard link %s: %w", name, err)
	}
	return true, nil
}
