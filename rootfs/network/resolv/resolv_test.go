package resolv

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestText(t *testing.T) {
	ip := netip.MustParseAddr
	tests := []struct {
		name    string
		servers []netip.Addr
		domains []string
		want    string
	}{
		{"nothing", nil, nil, ""},
		{"usual", []netip.Addr{ip("10.0.0.1"), ip("10.0.0.1"), ip("2001:db8::1")}, []string{"a.example", "b.example", "a.example"},
			"nameserver 10.0.0.1\nnameserver 2001:db8::1\nsearch a.example b.example\n"},
		{"too many", []netip.Addr{ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.3"), ip("10.0.0.4")}, strings.Fields("a b c d e f g"),
			"nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n# The C library takes no more than three servers:\n# nameserver 10.0.0.4\nsearch a b c d e f\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, got, _ := strings.Cut(Text(test.servers, test.domains), "\n")
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolve/resolv.conf")
	for _, text := range []string{"a", "a", "b"} {
		if err := Write(path, text); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("got %q, %v; want %q", got, err, text)
		}
	}
}
