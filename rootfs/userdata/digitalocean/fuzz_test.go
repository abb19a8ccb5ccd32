package digitalocean

import (
	"net/netip"
	"os"
	"strings"
	"testing"
)

// FuzzParse reads any documents: the parser must end and give nothing that can
// not be applied.
func FuzzParse(f *testing.F) {
	read := func(name string) []byte {
		data, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		return data
	}
	f.Add(read("v1.json"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, _ := Parse(data)
		for _, key := range r.Metadata.SSHKeys {
			if strings.ContainsAny(key, "\n\r") || key == "" {
				t.Errorf("key %q", key)
			}
		}
		for _, ip := range []string{r.Metadata.PublicIPv4, r.Metadata.PrivateIPv4, r.Metadata.PublicIPv6, r.Metadata.PrivateIPv6} {
			if _, err := netip.ParseAddr(ip); ip != "" && err != nil {
				t.Errorf("address %q", ip)
			}
		}
	})
}
