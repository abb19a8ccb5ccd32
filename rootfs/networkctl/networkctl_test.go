package networkctl

import (
	"bytes"
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/rootfs/network/config"
	"github.com/coracle-os/coracle/rootfs/network/link"
	"github.com/coracle-os/coracle/rootfs/network/plan"
	"github.com/coracle-os/coracle/rootfs/network/state"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/google/go-cmp/cmp"
)

func example() ([]row, state.State) {
	known := state.State{Online: true, Interfaces: []state.Interface{
		{Index: 2, Name: "eth0", MAC: "52:54:00:12:34:56", Type: "ether", Addresses: []string{"10.0.2.15/24"}, Gateway: "10.0.2.2",
			DNS: []string{"10.0.2.3", "10.0.2.4"}, Domain: "a.example b.example", OperState: "routable", SetupState: "configured",
			File: "/usr/lib/systemd/network/zz-default.network", DHCPServer: "10.0.2.2", DHCPAddress: "10.0.2.15"},
		{Index: 3, Name: "eth1", Type: "ether", OperState: "carrier", SetupState: "configuring", Problem: "no DHCP server answers"},
	}}
	links := []link.Link{
		{Index: 1, Carrier: true, Match: config.Link{Name: "lo", Type: "loopback"},
			Have: plan.Config{Up: true, Addresses: []plan.Address{{Prefix: netip.MustParsePrefix("127.0.0.1/8")}}}},
		{Index: 2, Carrier: true, Match: config.Link{Name: "eth0", Type: "ether"},
			Have: plan.Config{Up: true, Addresses: []plan.Address{{Prefix: netip.MustParsePrefix("10.0.2.15/24")}}}},
		{Index: 3, Carrier: true, Match: config.Link{Name: "eth1", Type: "ether"}, Have: plan.Config{Up: true}},
	}
	return join(links, known), known
}

func TestList(t *testing.T) {
	rows, _ := example()
	var out strings.Builder
	if err := list(&out, rows, true); err != nil {
		t.Fatal(err)
	}
	want := `IDX LINK TYPE     OPERATIONAL SETUP
  1 lo   loopback carrier     unmanaged
  2 eth0 ether    routable    configured
  3 eth1 ether    carrier     configuring

3 links listed.
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
}

func TestStatus(t *testing.T) {
	rows, known := example()
	var out strings.Builder
	if err := overview(&out, rows, known); err != nil {
		t.Fatal(err)
	}
	want := `●          State: routable
    Online state: online
         Address: 10.0.2.15 (DHCP4 via 10.0.2.2) on eth0
         Gateway: 10.0.2.2 on eth0
             DNS: 10.0.2.3
                  10.0.2.4
  Search Domains: a.example
                  b.example
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("overview (-want +got):\n%s", diff)
	}
	chosen, err := choose(rows, []string{"eth*"})
	if err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := details(&out, chosen); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"● 2: eth0\n", " State: routable (configured)\n", " Address: 10.0.2.15 (DHCP4 via 10.0.2.2)\n",
		"● 3: eth1\n", " Problem: no DHCP server answers\n", "Hardware Address: 52:54:00:12:34:56\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("details lack %q:\n%s", want, &out)
		}
	}
	if _, err := choose(rows, []string{"wlan0"}); err == nil || !strings.Contains(err.Error(), `"wlan0"`) {
		t.Errorf("an interface that is not there: got %v", err)
	}
}

// TestProgram asks the kernel of this machine.
func TestProgram(t *testing.T) {
	for _, test := range []struct {
		args string
		code int
		want string
	}{
		{"networkctl --no-legend list lo", 0, "1 lo loopback"},
		{"networkctl status lo", 0, "1: lo"},
		{"networkctl --help", 0, "networkctl status"},
		{"networkctl bogus", 1, `unknown command verb "bogus"`},
		{"networkctl --bogus", 1, `unknown option "--bogus"`},
		{"networkctl lldp", 0, "0 neighbors listed."},
		{"networkctl up", 1, "too few arguments"},
		{"networkctl renew nosuch", 1, `interface "nosuch" not found`},
		{"networkctl reconfigure lo", 1, "is it running?"},
		{"networkctl reload", 1, "is it running?"},
		{"networkctl list nosuch", 1, `interface "nosuch" not found`},
	} {
		var out bytes.Buffer
		code := Main(context.Background(), strings.Fields(test.args), program.Stdio{Out: &out, Err: &out})
		if code != test.code || !strings.Contains(out.String(), test.want) {
			t.Errorf("%s: got code %d and %q, want %d and %q", test.args, code, &out, test.code, test.want)
		}
	}
}
