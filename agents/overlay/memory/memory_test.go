package memory

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "flannel.db")
	f, aside, err := Open(path)
	if err != nil || aside != nil {
		t.Fatal(aside, err)
	}
	if s, err := f.Subnet("10.1.0.0/16"); s != (Subnet{}) || err != nil {
		t.Errorf("of nothing: %v, %v", s, err)
	}
	want := Subnet{IPv4: netip.MustParsePrefix("10.1.7.0/24"), IPv6: netip.MustParsePrefix("fd00:0:0:7::/64")}
	if err := f.Keep("10.1.0.0/16", want); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(path); err == nil || !strings.Contains(err.Error(), "another flanneld") {
		t.Errorf("a second one: %v", err)
	}
	f.Close()
	f, _, err = Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := f.Subnet("10.1.0.0/16"); got != want || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	if got, _ := f.Subnet("10.2.0.0/16"); got != (Subnet{}) {
		t.Errorf("another network's subnet is %v", got)
	}
}

// TestDamaged starts with a file that a power cut or a person has spoiled.
func TestDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flannel.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("no database ", 4096)), 0o600); err != nil {
		t.Fatal(err)
	}
	f, aside, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if aside == nil || !strings.Contains(aside.Error(), "flannel.db.bad") {
		t.Errorf("aside: %v", aside)
	}
	if err := f.Keep("n", Subnet{IPv4: netip.MustParsePrefix("10.1.7.0/24")}); err != nil {
		t.Error(err)
	}
}
