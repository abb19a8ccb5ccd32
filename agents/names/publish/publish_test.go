package publish

import (
	"net/netip"
	"testing"

	"github.com/coracle-os/coracle/agents/names/containers"
	"github.com/coracle-os/coracle/agents/names/directory"
	"github.com/coracle-os/coracle/agents/names/zone"
	"github.com/google/go-cmp/cmp"
)

func addrs(texts ...string) (list []netip.Addr) {
	for _, text := range texts {
		list = append(list, netip.MustParseAddr(text))
	}
	return list
}

func TestEntries(t *testing.T) {
	got := Entries(Machine{
		ID: "m1", Hostname: "alpha", Addresses: addrs("10.0.0.1"),
		Units: map[string]string{
			"nginx.service": "[Service]\nExecStart=/usr/bin/docker run --name nginx nginx\n",
			"web@1.service": "[X-Names]\nPort=8080 http\nPort=53/UDP\nPort=nonsense\nPort=0\nPort=70000\n",
			"db.service":    "",
			"plain.service": "[Service]\nExecStart=/usr/bin/x\n",
			"host.service":  "",
		},
		Containers: []containers.Container{
			{Name: "nginx", Addresses: addrs("10.1.1.2"), Ports: []containers.Port{{Number: 80, Proto: "tcp"}}},
			{Name: "web-1", Addresses: addrs("10.1.1.3"), Ports: []containers.Port{{Number: 9, Proto: "tcp"}}},
			{Name: "odd", Unit: "db.service", Addresses: addrs("10.1.1.4")},
			{Name: "plain", Unit: "other.service", Addresses: addrs("10.1.1.5")},
			{Name: "host"},
		},
	})
	want := map[string]directory.Entry{
		"machines/m1":               {Name: "alpha", Addresses: addrs("10.0.0.1")},
		"services/m1/nginx":         {Container: true, Addresses: addrs("10.1.1.2"), Ports: []zone.Port{{Number: 80, Proto: "tcp"}}},
		"services/m1/web-1":         {Container: true, Addresses: addrs("10.1.1.3"), Ports: []zone.Port{{Number: 9, Proto: "tcp"}}},
		"services/m1/odd":           {Container: true, Addresses: addrs("10.1.1.4")},
		"services/m1/plain":         {Container: true, Addresses: addrs("10.1.1.5")},
		"services/m1/host":          {Container: true, Addresses: addrs("10.0.0.1")},
		"services/m1/nginx.service": {Addresses: addrs("10.1.1.2"), Ports: []zone.Port{{Number: 80, Proto: "tcp"}}},
		"services/m1/web@1.service": {Addresses: addrs("10.1.1.3"), Ports: []zone.Port{{Name: "http", Number: 8080, Proto: "tcp"}, {Number: 53, Proto: "udp"}}},
		"services/m1/db.service":    {Addresses: addrs("10.1.1.4")},
		"services/m1/plain.service": {Addresses: addrs("10.0.0.1")},
		"services/m1/host.service":  {Addresses: addrs("10.0.0.1")},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}
