package docker

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var dual = Network{
	Network: netip.MustParsePrefix("10.1.0.0/16"), Subnet: netip.MustParsePrefix("10.1.15.0/24"),
	IPv6Network: netip.MustParsePrefix("fd00::/48"), IPv6Subnet: netip.MustParsePrefix("fd00:0:0:f::/64"),
	MTU: 1450, Mark: 0x40, Masquerade: true,
}

func TestOptions(t *testing.T) {
	want := "DOCKER_OPT_BIP=--bip=10.1.15.1/24 --fixed-cidr=10.1.15.0/25\nDOCKER_OPT_IPMASQ=--ip-masq=false\n" +
		"DOCKER_OPT_MTU=--mtu=1450 --default-network-opt=bridge=com.docker.network.driver.mtu=1450\n" +
		"DOCKER_OPT_OVERLAY=--allow-direct-routing --bridge-accept-fwmark=0x40/0x40\n" +
		"DOCKER_OPT_IPV6=--ipv6 --bip6=fd00:0:0:f::1/64 --fixed-cidr-v6=fd00:0:0:f::/65\n"
	if diff := cmp.Diff(want, string(Options(dual))); diff != "" {
		t.Error(diff)
	}
}

func TestList(t *testing.T) {
	data, err := List(dual)
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Name    string
		Plugins []struct {
			Type, Bridge string
			MTU          int
			IPMasq       bool
			IPAM         struct {
				Ranges [][]struct{ Subnet, RangeStart, Gateway string }
			}
		}
	}
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	p := list.Plugins[0]
	if list.Name != "overlay" || p.Type != "bridge" || p.MTU != 1450 || p.IPMasq {
		t.Errorf("got %s", data)
	}
	if r := p.IPAM.Ranges[0][0]; r.Subnet != "10.1.15.0/24" || r.RangeStart != "10.1.15.128" || r.Gateway != "10.1.15.1" {
		t.Errorf("IPv4: %+v", r)
	}
	if r := p.IPAM.Ranges[1][0]; r.Subnet != "fd00:0:0:f::/64" || r.RangeStart != "fd00:0:0:f:8000::" || r.Gateway != "fd00:0:0:f::1" {
		t.Errorf("IPv6: %+v", r)
	}
	if _, err := List(Network{Subnet: netip.MustParsePrefix("10.1.15.0/31")}); err == nil {
		t.Error("a /31 was divided")
	}
}

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flannel", "opts.env")
	for i, want := range []bool{true, false} {
		if changed, err := Write(path, []byte("A=1\n")); changed != want || err != nil {
			t.Errorf("time %d: changed %v, %v", i, changed, err)
		}
	}
	if changed, err := Write(path, []byte("A=2\n")); !changed || err != nil {
		t.Errorf("another text: changed %v, %v", changed, err)
	}
	if got, _ := os.ReadFile(path); string(got) != "A=2\n" {
		t.Errorf("got %q", got)
	}
}

// TestChange is interrupted before Docker was told, and goes on the next time.
func TestChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "options")
	for i, step := range []struct {
		data   string
		broken bool
		told   int
	}{{"a", true, 1}, {"a", false, 1}, {"a", false, 0}, {"b", false, 1}, {"b", true, 0}, {"c", true, 1}, {"b", true, 1}, {"b", false, 1}, {"b", false, 0}} {
		told := 0
		err := Change(path, []byte(step.data), func() error {
			told++
			if step.broken {
				return context.Canceled
			}
			return nil
		})
		if told != step.told || (err != nil) != (step.broken && told > 0) {
			t.Errorf("step %d: told %d times, want %d; %v", i, told, step.told, err)
		}
		if got, err := os.ReadFile(path); string(got) != step.data {
			t.Errorf("step %d: the options are %q, %v", i, got, err)
		}
	}
}
