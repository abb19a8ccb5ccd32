package ra

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var router = netip.MustParseAddr("fe80::1%eth0")

// message is an advertisement with both flags, a life of 1800 s, two name
// servers for 600 s and the domains a.example and b.c for ever.
const message = "\x86\x00\x00\x00\x40\xc0\x07\x08\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x19\x05\x00\x00\x00\x00\x02\x58" + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x53" + "\xfe\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x53" +
	"\x1f\x04\x00\x00\xff\xff\xff\xff" + "\x01a\x07example\x00\x01b\x01c\x00\x00\x00\x00\x00\x00\x00\x00\x00"

func TestParse(t *testing.T) {
	got, ok := Parse([]byte(message), router)
	want := Advertisement{Router: netip.MustParseAddr("fe80::1"), Managed: true, Other: true, Lifetime: 30 * time.Minute,
		DNS:     []Server{{netip.MustParseAddr("2001:db8::53"), 10 * time.Minute}, {netip.MustParseAddr("fe80::53"), 10 * time.Minute}},
		Domains: []Domain{{"a.example", infinite}, {"b.c", infinite}}}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" || !ok {
		t.Errorf("(-want +got):\n%s%v", diff, ok)
	}
	for name, bad := range map[string]string{
		"empty": "", "short": message[:15], "another type": "\x85" + message[1:], "another code": "\x86\x01" + message[2:],
		"an option without a length": message[:16] + "\x19\x00\x00\x00\x00\x00\x00\x00", "an option that is cut off": message[:30],
	} {
		if _, ok := Parse([]byte(bad), router); ok {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestKnown(t *testing.T) {
	var k Known
	a, _ := Parse([]byte(message), router)
	if !k.Take(a, 0) || k.Take(a, time.Minute) {
		t.Error("news is told once")
	}
	if next := k.Expire(time.Minute); next != 11*time.Minute || len(k.DNS()) != 2 || len(k.Domains()) != 2 || k.Router() != a.Router {
		t.Errorf("after a minute: next %v, %v, %v", next, k.DNS(), k.Domains())
	}
	if k.Expire(11 * time.Minute); len(k.DNS()) != 0 || len(k.Domains()) != 2 {
		t.Errorf("after the servers' life: %v, %v", k.DNS(), k.Domains())
	}
	a.Lifetime = 0
	if !k.Take(a, 12*time.Minute) || k.Router().IsValid() {
		t.Error("a router that is none any more stays one")
	}
	for i := range 100 {
		a.Domains = []Domain{{strings.Repeat("x", i+1), time.Hour}}
		k.Take(a, 0)
	}
	if n := len(k.Domains()); n > maxEntries {
		t.Errorf("%d domains are kept", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(message))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := Parse(b, router)
		if !ok {
			return
		}
		for _, d := range a.Domains {
			if strings.ContainsAny(d.Name, " \n;") {
				t.Errorf("domain %q", d.Name)
			}
		}
		var k Known
		k.Take(a, 0)
	})
}
