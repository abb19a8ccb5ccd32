package debian

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var compareSources = cmp.AllowUnexported(source{})

func TestParseOneLine(t *testing.T) {
	text := `# comment
deb http://mirror.example/debian bookworm main contrib # and a comment
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64 signed-by=/k/debian-archive-keyring.gpg] mirror+file:/etc/apt/list bookworm-updates main
deb http://mirror.example/debian-security bookworm-security main
deb cdrom:[Debian 12]/ bookworm main
deb http://vendor.example/apt stable tools
deb http://flat.example/repo ./
deb [signed-by=/k/broken http://x.example bookworm main
`
	want := []source{
		{uri: "http://mirror.example/debian", suites: []string{"bookworm"}},
		{uri: "mirror+file:/etc/apt/list", suites: []string{"bookworm-updates"}, signedBy: "/k/debian-archive-keyring.gpg"},
		{uri: "http://mirror.example/debian-security", suites: []string{"bookworm-security"}, security: true},
	}
	if diff := cmp.Diff(want, parseOneLine(text), compareSources); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
}

func TestParseDeb822(t *testing.T) {
	text := `Types: deb deb-src
# comment in a paragraph
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://inline.example/debian
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 -----END PGP PUBLIC KEY BLOCK-----
`
	want := []source{
		{uri: "http://mirror.example/debian", suites: []string{"bookworm", "bookworm-updates"}, signedBy: "/usr/share/keyrings/debian-archive-keyring.gpg"},
		{uri: "http://mirror.example/debian-security", suites: []string{"bookworm-security"}, security: true},
		{uri: "http://inline.example/debian", suites: []string{"bookworm"}},
	}
	if diff := cmp.Diff(want, parseDeb822(text), compareSources); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
}

func TestHostSourcesPutsDebianFirst(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := hostSources(root); !errors.Is(err, errNoSources) {
		t.Errorf("no sources: error = %v, want %v", err, errNoSources)
	}
	write("sources.list.d/a-vendor.list", "deb [signed-by=/k/vendor.gpg] http://vendor.example bookworm main\n")
	write("sources.list", "deb http://mirror.example/debian bookworm main\n")
	mains, securities, err := hostSources(root)
	if err != nil {
		t.Fatal(err)
	}
	if mains[0].uri != "http://mirror.example/debian" || len(securities) != 0 {
		t.Errorf("got %v and %v", mains, securities)
	}
	text, missing := sourcesList(Suite{Name: "trixie", With: []string{"trixie-updates", "trixie-security"}}, mains[0], securities)
	want := "deb [arch=amd64] http://mirror.example/debian trixie main\ndeb [arch=amd64] http://mirror.example/debian trixie-updates main\n"
	if text != want || len(missing) != 1 || missing[0] != "trixie-security" {
		t.Errorf("sources.list = %q, missing %v", text, missing)
	}
}

func TestParseShow(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	out := "Package: bash\nSource: bash (5.2.37-2)\nVersion: 5.2.37-2+b10\nArchitecture: amd64\n" +
		"Depends: base-files (>= 2.1.12), debianutils (>= 5.6-0.1), libc6:any | libc6.1\nSize: 1500792\nSHA256: " + sum +
		"\nDescription: shell\n a colon: here\n\nPackage: x\nVersion: 1\nSize: many\n"
	if _, err := parseShow(out, "trixie"); err == nil {
		t.Error("a package without size was accepted")
	}
	got, err := parseShow(strings.Replace(out, "Size: many", "Size: 1\nSHA256: "+sum, 1), "trixie")
	if err != nil {
		t.Fatal(err)
	}
	want := []Package{
		{Name: "bash", Version: "5.2.37-2+b10", Architecture: "amd64", Suite: "trixie", Source: "bash", SHA256: sum, Size: 1500792,
			Depends: []string{"base-files", "debianutils", "libc6"}},
		{Name: "x", Version: "1", Suite: "trixie", Source: "x", SHA256: sum, Size: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
}

func TestParseSimulation(t *testing.T) {
	out := "NOTE: This is only a simulation!\nInst gcc-14-base (14.2.0-19 Debian:13.2/stable [amd64]) []\n" +
		"Inst libc6:amd64 (2.41-12 Debian:13.2/stable [amd64])\nConf libc6 (2.41-12 Debian:13.2/stable [amd64])\n"
	want := []string{"gcc-14-base=14.2.0-19", "libc6=2.41-12"}
	if diff := cmp.Diff(want, parseSimulation(out)); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
}
