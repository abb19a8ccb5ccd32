package tufrepo

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/diskinstall"
	"github.com/coracle-os/coracle/image/inspect"
	"github.com/coracle-os/coracle/image/live"
	"github.com/coracle-os/coracle/image/live/livetest"
	"github.com/coracle-os/coracle/rootfs/program"
)

// TestInstaller has coracle-install write what was published to a disk, which is
// a file here: from a server and from a bundle. It needs root's rights, as
// coracle-install does.
func TestInstaller(t *testing.T) {
	p, err := live.Open(livetest.Image(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	repo, err := Create(file("repo"), file("keys"), 1, 1, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer repo.Close()
	b := Build{Version: p.Version, RootHash: p.RootHash, Root: p.Root, RootSize: p.Root.Size(), UKI: p.UKI, Manifest: []byte("{}"), SBOM: []byte("{}")}
	if _, err := repo.Publish(t.Context(), b, Options{Channel: "stable"}); err != nil {
		t.Fatal(err)
	}
	if _, err := repo.BundleFile(file("a.bundle"), "stable"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file("loader"), p.Loader, 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(file("repo"))))
	defer server.Close()
	trust := filepath.Join(file("repo"), MetadataDir, "1.root.json")
	other, err := Create(file("other"), file("other-keys"), 1, 1, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, c := range []struct{ args, err string }{
		{"-C stable -V 1.2.3 -server " + server.URL + " -root " + trust, ""},
		{"-f " + file("a.bundle") + " -root " + trust, ""},
		{"-C beta -server " + server.URL + " -root " + trust, `channel "beta"`},
		{"-C stable -V 9.9 -server " + server.URL + " -root " + trust, "version 9.9"},
		{"-C stable -server " + server.URL + " -root " + filepath.Join(file("other"), MetadataDir, "1.root.json"), "not signed"},
		{"-f " + file("a.bundle"), "no trusted root metadata"},
		{"-C stable -root " + trust, "name it with -server"},
	} {
		disk := file("disk")
		if err := os.WriteFile(disk, []byte("what was there before"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(disk, 3300<<20); err != nil {
			t.Fatal(err)
		}
		var out, errOut strings.Builder
		args := append([]string{"coracle-install", "-d", disk, "-loader", file("loader")}, strings.Fields(c.args)...)
		code := diskinstall.Main(t.Context(), args, program.Stdio{Out: &out, Err: &errOut})
		if c.err != "" {
			content := make([]byte, 10)
			f, err := os.Open(disk)
			if err == nil {
				_, err = f.Read(content)
				f.Close()
			}
			if code != 1 || !strings.Contains(errOut.String(), c.err) || err != nil || string(content) != "what was t" {
				t.Errorf("%s: exit %d, %s; want %q and the disk as it was, has %q (%v)", c.args, code, &errOut, c.err, content, err)
			}
			continue
		}
		if code != 0 || !strings.Contains(out.String(), "version 1.2.3") {
			t.Errorf("%s: exit %d, %s%s", c.args, code, &out, &errOut)
			continue
		}
		checkDisk(t, disk, p.RootHash)
	}
}

func checkDisk(t *testing.T, disk, rootHash string) {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := inspect.Open(f, 3300<<20)
	if err != nil {
		t.Error(err)
		return
	}
	if len(img.Problems) > 0 || len(img.UKIs) != 1 || img.UKIs[0].RootHash != rootHash {
		t.Errorf("the disk has problems %q, boot entries %+v", img.Problems, img.UKIs)
	}
	if err := img.Verify(); err != nil {
		t.Error(err)
	}
}
