package wireguard

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/rootfs/network/config"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

func TestPlan(t *testing.T) {
	path := t.TempDir() + "/key"
	private, peer, gone := wgtypes.Key{1}, wgtypes.Key{2}, wgtypes.Key{3}
	if err := os.WriteFile(path, []byte(private.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	resolve := func(_ context.Context, name string) ([]netip.Addr, error) {
		if name == "boat.example" {
			return []netip.Addr{netip.MustParseAddr("192.0.2.5")}, nil
		}
		return nil, errors.New("not found")
	}
	file := config.WireGuard{PrivateKeyFile: path, Port: 51820, Peers: []config.Peer{
		{PublicKey: peer, Endpoint: "boat.example:51820", Keepalive: 25, Allowed: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}}
	want, ready, problems := Want(context.Background(), file, resolve)
	if !ready || len(problems) > 0 || want.Peers[0].Endpoint.String() != "192.0.2.5:51820" {
		t.Fatalf("want %+v, %v, %v", want, ready, problems)
	}
	change, ok := Plan(want, wgtypes.Device{Peers: []wgtypes.Peer{{PublicKey: gone}}})
	if !ok || len(change.Peers) != 2 || change.Peers[0].PublicKey != peer || !change.Peers[1].Remove || *change.PrivateKey != private || *change.ListenPort != 51820 {
		t.Errorf("from nothing: %+v, %v", change, ok)
	}
	_, allowed, _ := net.ParseCIDR("10.0.0.0/8")
	have := wgtypes.Device{PrivateKey: private, ListenPort: 51820, Peers: []wgtypes.Peer{{PublicKey: peer, PersistentKeepaliveInterval: 25e9,
		Endpoint: &net.UDPAddr{IP: net.IPv4(192, 0, 2, 77)}, AllowedIPs: []net.IPNet{*allowed}}}}
	if change, ok := Plan(want, have); ok {
		t.Errorf("a device that is right, whose peer moved: %+v", change)
	}
	have.Peers[0].AllowedIPs = nil
	if change, ok := Plan(want, have); !ok || len(change.Peers) != 1 || change.ListenPort != nil {
		t.Errorf("a peer that may do less: %+v, %v", change, ok)
	}

	file.Peers = append(file.Peers, config.Peer{PublicKey: gone, Endpoint: "no.example:1"}, config.Peer{PublicKey: gone, PresharedKeyFile: path + ".none", Allowed: file.Peers[0].Allowed})
	want, ready, problems = Want(context.Background(), file, resolve)
	if !ready || len(problems) != 2 || len(want.Peers) != 3 || want.Peers[2].AllowedIPs != nil {
		t.Errorf("what cannot be had: %+v, %v, %v", want, ready, problems)
	}
	os.WriteFile(path, []byte("nonsense"), 0o600)
	if _, ready, problems := Want(context.Background(), file, resolve); ready || len(problems) != 1 || strings.Contains(problems[0].Error(), "nonsense") {
		t.Errorf("a bad key: %v, %v", ready, problems)
	}
}
