package debian

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// archive makes a directory that serves a suite whose Release file is text, and
// returns an Archive for a host that has it as its only source.
func archive(t *testing.T, release string) *Archive {
	t.Helper()
	root := t.TempDir()
	suite := filepath.Join(root, "debian/dists/trixie")
	if err := os.MkdirAll(filepath.Join(suite, "main/binary-amd64"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		filepath.Join(suite, "Release"):                    release,
		filepath.Join(suite, "main/binary-amd64/Packages"): "",
		filepath.Join(root, "etc/sources.list"):            "deb file:" + root + "/debian bookworm main\n",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return &Archive{CacheDir: filepath.Join(root, "cache"), HostApt: filepath.Join(root, "etc"), Now: time.Now}
}

func TestAnUnsignedArchiveIsRefused(t *testing.T) {
	a := archive(t, "Origin: Debian\nCodename: trixie\nDate: Sat, 01 Jan 2026 00:00:00 UTC\nArchitectures: amd64\nComponents: main\n")
	_, err := a.Resolve(t.Context(), Request{Suite: Suite{Name: "trixie"}, Names: []string{"bash"}}, false)
	if err == nil || !strings.Contains(err.Error(), "not signed") {
		t.Errorf("error = %v, want one that says the archive is not signed", err)
	}
}

func TestAMissingSuiteIsAnError(t *testing.T) {
	a := archive(t, "")
	_, err := a.Resolve(t.Context(), Request{Suite: Suite{Name: "potato"}, Names: []string{"bash"}}, false)
	if err == nil || !strings.Contains(err.Error(), "potato") {
		t.Errorf("error = %v, want one that names the suite", err)
	}
}

func TestADamagedPackageIsNotUsed(t *testing.T) {
	a := archive(t, "")
	var notes []string
	a.Note = func(format string, _ ...any) { notes = append(notes, format) }
	p := Package{Name: "bash", Version: "1:5", Architecture: "amd64", SHA256: strings.Repeat("0", 64), Size: 4}
	if p.FileName() != "bash_1%3a5_amd64.deb" {
		t.Errorf("FileName = %q", p.FileName())
	}
	dir := filepath.Join(a.CacheDir, "packages")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, p.FileName()), []byte("evil"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Fetch(t.Context(), p, Suite{Name: "trixie"}); err == nil {
		t.Error("a package with a wrong digest was used")
	}
	if len(notes) == 0 {
		t.Error("nothing was said about the damaged file")
	}
}
