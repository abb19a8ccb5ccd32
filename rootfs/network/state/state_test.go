package state

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "netif/state.json")
	if _, err := Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before the first write: got %v", err)
	}
	want := State{Online: true, Interfaces: []Interface{{Index: 2, Name: "eth0", MAC: "52:54:00:12:34:56", Type: "ether",
		Addresses: []string{"10.0.2.15/24"}, Gateway: "10.0.2.2", DNS: []string{"10.0.2.3"}, NTP: []string{}, OperState: "routable", SetupState: "configured"}}}
	for i, wantChanged := range []bool{true, false} {
		if changed, err := Write(path, want); err != nil || changed != wantChanged {
			t.Errorf("write %d: got changed %v, %v; want %v", i, changed, err, wantChanged)
		}
	}
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestListsAreNeverNull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	if _, err := Write(path, State{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(path, State{Interfaces: []Interface{{Name: "eth0"}}}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "null") {
		t.Errorf("got %s", data)
	}
}
