package build

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/image/manifest"
	"github.com/coracle-os/coracle/image/recipe"
	"github.com/coracle-os/coracle/image/step"
)

// smallRecipe builds in seconds and has something of each kind.
const smallRecipe = `recipe: 1
version: 1.2.3
channel: test
suites:
  - name: trixie
  - name: forky
kernel:
  package: linux-image-cloud-amd64
  arguments: [console=ttyS0, panic=10]
  initrd-modules: [dm_verity, erofs, virtio_blk, "?no_such_module"]
  root-modules: [loop]
  rare-modules: [vfat]
boot: {package: systemd-boot-efi, suite: forky}
bios: {package: grub-pc-bin}
packages:
  - {name: bash, files: [usr/bin/bash]}
  - {name: ca-certificates, files: ["usr/share/ca-certificates/mozilla/*.crt"], bundle: etc/ssl/certs/ca-certificates.crt}
components:
  - {name: stage1, package: ./initrd/init, initrd: true, path: init}
  - {name: escape, package: ./tools/setup, path: usr/lib/test/init}
programs:
  usr/lib/test/init: [usr/sbin/init]
  usr/bin/bash: [usr/bin/sh]
files:
  - {path: etc/greeting, content: hello, mode: 0600, uid: 500, gid: 501}
  - {path: usr/bin/bash, mode: 04755}
  - {path: etc/empty, directory: true}
units:
  - name: hello.service
    content: "[Service]\nExecStart=/usr/sbin/init\n[Install]\nWantedBy=multi-user.target\n"
    enable: true
partitions: {esp: 64 MiB, root: 64 MiB, verity: 1 MiB, oem: 16 MiB, state: 16 MiB}
`

// builds collects what one build reports.
type builds struct {
	mu     sync.Mutex
	worked []string // steps that had something to do
}

func (b *builds) report(e step.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.State == step.Started {
		b.worked = append(b.worked, e.Name)
	}
}

// options returns the surroundings of a build of text from the sources below
// source, at a time that differs from that of other calls.
func options(t *testing.T, text, source, output string, clock time.Duration) Options {
	t.Helper()
	r, err := recipe.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return Options{
		Recipe: r, RecipeText: []byte(text), RecipeDir: t.TempDir(), Source: source, Output: output,
		Cache: filepath.Join(cache, "coracle"), Now: func() time.Time { return time.Now().Add(clock) },
	}
}

// sources is the top of the repository.
func sources(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// copySources copies what the small recipe is built from to a folder of its own.
func copySources(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "elsewhere", "with another name")
	for _, dir := range []string{"image", "initrd", "rootfs/program", "tools/setup"} {
		if err := os.CopyFS(filepath.Join(to, dir), os.DirFS(filepath.Join(from, dir))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// TestTwoBuildsGiveTheSameBytes builds twice: from sources in different folders,
// into different folders, a day apart.
func TestTwoBuildsGiveTheSameBytes(t *testing.T) {
	here, source := t.TempDir(), copySources(t, sources(t))
	first, err := Run(t.Context(), options(t, smallRecipe, source, here, 0))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(t.TempDir(), "a", "deeper", "folder")
	second, err := Run(t.Context(), options(t, smallRecipe, copySources(t, source), elsewhere, 25*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("manifests (-here +elsewhere):\n%s", diff)
	}
	for _, name := range []string{RawName, QcowName, UKIName, RootName, ManifestName, SBOMName} {
		a, errA := fileDigest(filepath.Join(here, name))
		b, errB := fileDigest(filepath.Join(elsewhere, name))
		if errA != nil || errB != nil || a != b {
			t.Errorf("%s differs: %s, %s (%v, %v)", name, a, b, errA, errB)
		}
	}
	t.Run("again does nothing", func(t *testing.T) { again(t, source, here, first) })
	t.Run("what is in it", func(t *testing.T) { look(t, here, first) })
}

// again builds a third time: nothing has changed, so nothing is done, not even
// without a network.
func again(t *testing.T, source, output string, first *manifest.Manifest) {
	o := options(t, smallRecipe, source, output, 0)
	var b builds
	o.Report = b.report
	t.Setenv("http_proxy", "http://127.0.0.1:9")
	got, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.worked) > 0 {
		t.Errorf("steps did something: %v", b.worked)
	}
	if diff := cmp.Diff(first, got); diff != "" {
		t.Errorf("manifest (-first +again):\n%s", diff)
	}
	raw := filepath.Join(output, RawName)
	if err := os.Truncate(raw, 1<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if sum, err := fileDigest(raw); err != nil || sum != first.Results[0].SHA256 {
		t.Errorf("a damaged result was not made again: %s, %v", sum, err)
	}
	if strings.Join(b.worked, " ") != "disk qcow2" {
		t.Errorf("a damaged result: steps %v did something, want disk and qcow2", b.worked)
	}
	b.worked, o.Form = nil, Release
	if got, err = Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first.Results[2:], got.Results); diff != "" || len(b.worked) > 0 {
		t.Errorf("a release alone: steps %v, results (-want +got):\n%s", b.worked, diff)
	}
}

// look checks root listing, manifest and leftovers.
func look(t *testing.T, output string, m *manifest.Manifest) {
	listings, err := filepath.Glob(filepath.Join(output, "cache/root/*/files.txt"))
	if err != nil || len(listings) != 1 {
		t.Fatalf("listings %v, %v", listings, err)
	}
	listing, err := os.ReadFile(listings[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"etc/greeting\n", "usr/sbin/init -> ../lib/test/init\n", "usr/bin/sh -> bash\n", "bin -> usr/bin\n",
		"usr/lib/systemd/system/multi-user.target.wants/hello.service -> ../hello.service\n",
		" usr/lib64/ld-linux-x86-64.so.2 -> ", "libtinfo.so.6 -> ", "etc/ssl/certs/ca-certificates.crt\n", "/loop.ko\n", "/vfat.ko.xz\n",
		"/modules.dep\n", "usr/lib/os-release\n", "home -> var/home\n", "usr/lib/coracle/grub/core.img\n",
	} {
		if !strings.Contains(string(listing), want) {
			t.Errorf("the root has no %q", want)
		}
	}
	for _, line := range strings.Split(string(listing), "\n") {
		if strings.HasSuffix(line, " etc/greeting") && !strings.HasPrefix(line, "-rw------- 500:501 ") {
			t.Errorf("mode and owner of etc/greeting: %s", line)
		}
		if strings.HasSuffix(line, " usr/bin/bash") && !strings.HasPrefix(line, "urwxr-xr-x 0:0 ") {
			t.Errorf("mode of usr/bin/bash: %s", line)
		}
	}
	var names []string
	for _, p := range m.Packages {
		if len(p.SHA256) != 64 || p.Version == "" || p.Suite == "" {
			t.Errorf("package without origin: %+v", p)
		}
		names = append(names, p.Name)
	}
	for _, want := range []string{"bash", "ca-certificates", "libc6", "libtinfo6", "systemd-boot-efi", "grub-pc-bin", "grub-common"} {
		if !strings.Contains(" "+strings.Join(names, " ")+" ", " "+want+" ") {
			t.Errorf("the manifest does not name package %s: %v", want, names)
		}
	}
	entries, err := os.ReadDir(output)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".new") {
			t.Errorf("left behind: %s", entry.Name())
		}
	}
	bill, err := os.ReadFile(filepath.Join(output, SBOMName))
	if err != nil || !json.Valid(bill) || !strings.Contains(string(bill), "pkg:golang/github.com/u-root/u-root@v") {
		t.Errorf("the SBOM is no JSON or does not name u-root: %v", err)
	}
}

func TestFailures(t *testing.T) {
	store := t.TempDir() // shared, so that each case does only what differs
	for _, test := range []struct{ name, old, replacement, want string }{
		{"root too large", "root: 64 MiB", "root: 4 MiB", "set partitions.root in the recipe to at least"},
		{"no such module", "[loop]", "[loop, lop]", `has no module "lop"`},
		{"no such file", "[usr/bin/bash]", "[usr/bin/bush]", `package bash has no file "usr/bin/bush"`},
		{"no such program", "usr/lib/test/init: [", "usr/lib/test/unit: [", `nothing is installed at "usr/lib/test/unit"`},
		{"name is taken", "[usr/bin/sh]", "[usr/sbin/init]", "is to be a name of both usr/bin/bash and usr/lib/test/init"},
		{"name of a file", "[usr/bin/sh]", "[usr/bin/bash]", "but there is a file"},
		{"no such package", "./tools/setup", "./tools/nothing", "compile escape"},
		{"no such source", "content: hello", "source: nothing.txt", "is source right in the recipe?"},
		{"dangling link", "content: hello, mode: 0600, uid: 500, gid: 501", "link: nowhere", "etc/greeting is a link to nowhere"},
		{"nothing to enable", "WantedBy=multi-user.target", "#", "its [Install] section names nothing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(smallRecipe, test.old) {
				t.Fatalf("the recipe has no %q", test.old)
			}
			output := t.TempDir()
			if err := os.Symlink(store, filepath.Join(output, "cache")); err != nil {
				t.Fatal(err)
			}
			text := strings.Replace(smallRecipe, test.old, test.replacement, 1)
			_, err := Run(t.Context(), options(t, text, sources(t), output, 0))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v\nwant one with %q", err, test.want)
			}
			if _, err := os.Stat(filepath.Join(output, RawName)); !os.IsNotExist(err) {
				t.Errorf("a failed build left an image: %v", err)
			}
			err = filepath.WalkDir(store, func(path string, entry fs.DirEntry, err error) error {
				if err == nil && strings.HasPrefix(entry.Name(), ".new-") {
					t.Errorf("left behind: %s", path)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}
