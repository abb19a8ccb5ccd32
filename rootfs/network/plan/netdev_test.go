package plan

import (
	"testing"

	"github.com/coracle-os/coracle/rootfs/network/config"
	"github.com/google/go-cmp/cmp"
)

func TestNetdevs(t *testing.T) {
	file := func(name, text string) config.Network {
		n, _ := config.Parse(name, []byte(text))
		return n
	}
	c := config.Config{
		Networks: []config.Network{file("a.network", "[Match]\nName=eth0\n[Network]\nVLAN=v5 v6 lost\n"), file("b.network", "[Match]\nName=v5\n[Network]\nMACVLAN=m0\n")},
		Netdevs: []config.Netdev{{File: "b.netdev", Name: "b0", Kind: "bond"}, {File: "v5.netdev", Name: "v5", Kind: "vlan"}, {File: "v6.netdev", Name: "v6", Kind: "vlan"},
			{File: "m.netdev", Name: "m0", Kind: "macvlan"}, {File: "x.netdev", Name: "x0", Kind: "vxlan"}, {File: "y.netdev", Name: "y0", Kind: "vxlan", VXLAN: config.VXLAN{Independent: true}}},
	}
	devices := []Device{{2, config.Link{Name: "eth0", Type: "ether"}}, {3, config.Link{Name: "v6", Kind: "bridge"}}}
	tasks, problems := Netdevs(c, devices)
	var got []string
	for _, task := range tasks {
		got = append(got, task.String())
	}
	for _, p := range problems {
		got = append(got, p.Netdev+": "+p.Text)
	}
	want := []string{`make bond "b0": b.netdev`, `make vlan "v5": v5.netdev`, `make vxlan "y0": y.netdev`,
		"lost: a.network names it, but no .netdev file describes it",
		`v6: v6.netdev: an interface of this name is there, and is of kind "bridge", not vlan; it is left as it is`,
		"m0: m.netdev: it waits for an interface whose .network file says MACVLAN=m0",
		"x0: x.netdev: it waits for an interface whose .network file says VXLAN=x0"}
	if diff := cmp.Diff(want, got); diff != "" || tasks[1].Parent != 2 {
		t.Errorf("tasks (-want +got):\n%s", diff)
	}
	// The next one on top is possible once the first is there.
	devices = append(devices, Device{4, config.Link{Name: "v5", Kind: "vlan"}}, Device{5, config.Link{Name: "b0", Kind: "bond"}}, Device{6, config.Link{Name: "y0", Kind: "vxlan"}})
	if tasks, _ := Netdevs(c, devices); len(tasks) != 1 || tasks[0].Netdev.Name != "m0" || tasks[0].Parent != 4 {
		t.Errorf("then: %v", tasks)
	}
}

func TestGlobal(t *testing.T) {
	n, _ := config.Parse("a", []byte("[Match]\nName=a\n[RoutingPolicyRule]\nFrom=10.0.0.0/8\nTable=7\n[RoutingPolicyRule]\nTable=8\nFamily=both\nPriority=9\n[Route]\nDestination=10.1.0.0/16\nType=prohibit\n"))
	want := WantGlobal([]config.Network{n, n})
	if len(want.Rules) != 3 || len(want.Routes) != 1 {
		t.Fatalf("want %+v", want)
	}
	tasks := MakeGlobal(want, Global{})
	if len(tasks) != 4 || tasks[0].String() != "add rule from 10.0.0.0/8 table 7: the machine does not have it" || tasks[3].Kind != AddRoute {
		t.Errorf("from nothing: %v", tasks)
	}
	have := want
	have.Rules = append([]Rule{{Rule: config.Rule{Table: 254, Priority: 32766, SuppressPrefixLength: -1}}}, want.Rules...)
	have.Rules[1].Priority = 32765 // that the kernel chose
	if tasks := MakeGlobal(want, have); len(tasks) != 0 {
		t.Errorf("nothing to do: %v", tasks)
	}
	if tasks := MakeGlobal(Global{}, have); len(tasks) != 4 {
		t.Errorf("all of ours goes, the kernel's stays: %v", tasks)
	}
}
