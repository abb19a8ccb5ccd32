package platform

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// TestDetect looks at DMI trees as machines of the platforms have them.
func TestDetect(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d trees, %v", len(files), err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sys, err := txtar.FS(archive)
		if err != nil {
			t.Fatal(err)
		}
		want, _, _ := strings.Cut(string(archive.Comment), "\n")
		if got := Detect(ReadDMI(sys)); string(got) != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
	if got := Detect(ReadDMI(os.DirFS(t.TempDir()))); got != None {
		t.Errorf("a machine without DMI is on %q", got)
	}
}

func TestChoose(t *testing.T) {
	dmi := DMI{SysVendor: "Amazon EC2"}
	tests := []struct {
		line    string
		want    Name
		problem string
	}{
		{"quiet", EC2, ""},
		{"coracle.platform=openstack", OpenStack, ""},
		{"coracle.platform=none", None, ""},
		{"coracle.platform=", EC2, ""},
		{"coracle.platform=amazon", EC2, "use none, ec2, gce"},
	}
	for _, tt := range tests {
		got, problem := Choose(dmi, tt.line)
		if got != tt.want || (problem == "") != (tt.problem == "") || !strings.Contains(problem, tt.problem) {
			t.Errorf("%q: %q, %q", tt.line, got, problem)
		}
	}
}

func TestValues(t *testing.T) {
	var r Result
	for _, name := range []string{"", "  ", "bad name!", "-x", strings.Repeat("a", 65)} {
		r.SetHostname(name)
	}
	if r.Metadata.Hostname != "bad" { // the first word
		t.Errorf("host name %q", r.Metadata.Hostname)
	}
	if len(r.Notes) != 2 {
		t.Errorf("notes %q", r.Notes)
	}
	r.Public("203.0.113.1/24")
	r.Public("203.0.113.2")
	r.Private("::ffff:10.0.0.1")
	r.Sort("fd00::1")
	r.Sort("169.254.1.1")
	r.Sort("2001:db8::1")
	r.Private("host")
	a := r.Metadata.Addresses
	if a.PublicIPv4 != "203.0.113.1" || a.PrivateIPv4 != "10.0.0.1" || a.PrivateIPv6 != "fd00::1" || a.PublicIPv6 != "2001:db8::1" {
		t.Errorf("%+v", a)
	}
	r.AddKey("ssh-ed25519 A\nssh-ed25519 B")
	r.AddKey("# comment")
	r.AddKey("ssh-ed25519 A x\r\n")
	r.AddKey("ssh-ed25519 A x")
	if len(r.Metadata.SSHKeys) != 1 || len(r.Notes) != 4 {
		t.Errorf("keys %q, notes %q", r.Metadata.SSHKeys, r.Notes)
	}
}
