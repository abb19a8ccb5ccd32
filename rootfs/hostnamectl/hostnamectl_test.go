package hostnamectl

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/rootfs/program"
)

func TestSetHostname(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	var told string
	set := func(n string) error { told = n; return nil }
	var out bytes.Buffer
	stdio := program.Stdio{Out: &out, Err: &out}
	if err := run(root, set, []string{"set-hostname", "box-1.example"}, stdio); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(root, "etc/hostname"))
	if err != nil || string(data) != "box-1.example\n" || told != "box-1.example" {
		t.Errorf("/etc/hostname %q, %v; kernel %q", data, err, told)
	}
	if err := run(root, set, nil, stdio); err != nil || !strings.Contains(out.String(), "Static hostname: box-1.example") {
		t.Errorf("%q, %v", out.String(), err)
	}
	for _, bad := range []string{"", "-a", "a..b", "a_b", "a b", strings.Repeat("x", 65)} {
		if err := run(root, set, []string{"set-hostname", bad}, stdio); err == nil {
			t.Errorf("set-hostname %q: no error", bad)
		}
	}
	if err := run(root, func(string) error { return errors.New("no") }, []string{"set-hostname", "c"}, stdio); err == nil {
		t.Error("the kernel's refusal is not told")
	}
	if err := run(root, set, []string{"frob"}, stdio); err == nil {
		t.Error("no error for an unknown command")
	}
}
