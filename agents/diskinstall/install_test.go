package diskinstall

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/coracle-os/coracle/agents/diskinstall/source"
	"github.com/coracle-os/coracle/agents/diskinstall/target"
	"github.com/coracle-os/coracle/image/erofs"
	"github.com/coracle-os/coracle/image/esp"
	"github.com/coracle-os/coracle/image/gpt"
	"github.com/coracle-os/coracle/image/grub"
	"github.com/coracle-os/coracle/image/inspect"
	"github.com/coracle-os/coracle/image/livename"
	"github.com/coracle-os/coracle/image/tree"
	"github.com/coracle-os/coracle/image/uki"
	"github.com/coracle-os/coracle/image/verity"
	"github.com/coracle-os/coracle/initrd/bootinfo"
)

const mib = 1 << 20

// sample is a small release in all the forms that the installer takes.
type sample struct {
	raw, compressed string // files
	digest          string // of raw
	rootHash        string
	running         source.Running // a live system of it
}

func ok[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func makeSample(t *testing.T) sample {
	t.Helper()
	dir := t.TempDir()
	file := func(name string) *os.File {
		f := ok[*os.File](t)(os.Create(filepath.Join(dir, name)))
		t.Cleanup(func() { f.Close() })
		return f
	}
	noise := make([]byte, 3*mib)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(noise)
	core := make([]byte, 4*512)
	core[0x1fc] = 3 // sectors that follow the first
	files := ok[tree.Tree](t)(tree.New(tree.File("usr/bin/large", 0o755, noise), tree.Symlink("bin", "usr/bin"),
		tree.File(grub.RootDirectory+"/"+grub.BootName, 0o644, append([]byte{0xeb}, make([]byte, 511)...)),
		tree.File(grub.RootDirectory+"/"+grub.CoreName, 0o644, core)))
	root, hashes, fat, raw := file("root"), file("verity"), file("esp"), file("coracle.raw")
	size := ok[int64](t)(erofs.Write(root, files, erofs.Options{}))
	hash := ok[[]byte](t)(verity.Format(root, size, hashes, verity.Superblock{Salt: verity.Salt()}))
	s := sample{raw: raw.Name(), rootHash: hex.EncodeToString(hash)}
	stub := ok[[]byte](t)(os.ReadFile("/usr/lib/systemd/boot/efi/linuxx64.efi.stub"))
	entry := ok[[]byte](t)(uki.Build(stub,
		uki.Section{Name: ".osrel", Data: []byte("VERSION_ID=1.2.3\n")},
		uki.Section{Name: ".cmdline", Data: []byte("roothash=" + s.rootHash + " quiet")},
		uki.Section{Name: ".linux", Data: bytes.Repeat([]byte("linux"), 50_000)}, uki.Section{Name: ".initrd", Data: []byte("initrd")}))
	boot := ok[tree.Tree](t)(tree.New(tree.File("EFI/Linux/coracle-1.2.3.efi", 0o644, entry), tree.File("EFI/BOOT/BOOTX64.EFI", 0o644, stub)))
	sizes := gpt.Sizes{BIOSBoot: mib, ESP: 34 * mib, Root: 8 * mib, RootVerity: mib, OEM: mib, State: mib}
	if err := esp.Write(fat, sizes.ESP, boot, esp.Options{Label: "ESP"}); err != nil {
		t.Fatal(err)
	}
	layout := ok[gpt.Layout](t)(gpt.Plan(sizes, hash, "test"))
	if err := gpt.Assemble(t.Context(), raw, layout, map[string]gpt.Content{
		gpt.ESP: {Reader: fat, Size: sizes.ESP}, gpt.RootA: {Reader: root, Size: size},
		gpt.RootAVerity: {Reader: hashes, Size: verity.TreeSize(size)},
	}); err != nil {
		t.Fatal(err)
	}
	content := ok[[]byte](t)(os.ReadFile(s.raw))
	sum := sha256.Sum256(content)
	s.digest = hex.EncodeToString(sum[:])
	compressor := ok[*zstd.Encoder](t)(zstd.NewWriter(nil))
	s.compressed = s.raw + ".zst"
	write(t, s.compressed, compressor.EncodeAll(content, nil))
	s.running = source.Running{BootInfo: filepath.Join(dir, "boot.json"), OSRelease: filepath.Join(dir, "os-release"), Root: root.Name()}
	write(t, s.running.OSRelease, []byte("ID=coracle\nVERSION_ID=1.2.3\n"))
	write(t, filepath.Join(dir, livename.UKI), entry)
	write(t, filepath.Join(dir, livename.Loader), stub)
	write(t, s.running.BootInfo, ok[[]byte](t)(json.Marshal(bootinfo.Info{
		RootHash: s.rootHash, Live: livename.Memory, BootFiles: dir, VerityDevice: hashes.Name()})))
	return s
}

func write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// newDisk makes a file as a disk, full of what a disk may hold.
func newDisk(t *testing.T, size int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk")
	write(t, name, bytes.Repeat([]byte{0xa5}, 64*mib))
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
	return name
}

// installTo runs a job and returns what it said.
func installTo(t *testing.T, disk string, from source.Source, change func(*Job)) (string, error) {
	t.Helper()
	d, done, err := target.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	var said strings.Builder
	j := Job{Source: from, Disk: d, Progress: func(int64, int64) {}, Mount: target.Mount,
		Say: func(format string, args ...any) { fmt.Fprintf(&said, format+"\n", args...) }}
	if change != nil {
		change(&j)
	}
	err = j.Run(t.Context())
	return said.String(), err
}

// check looks at a disk as the builder's own inspection does.
func check(t *testing.T, disk, rootHash string) {
	t.Helper()
	f := ok[*os.File](t)(os.Open(disk))
	defer f.Close()
	info := ok[os.FileInfo](t)(f.Stat())
	img, err := inspect.Open(f, info.Size())
	if err != nil {
		t.Error(err)
		return
	}
	if len(img.Problems) > 0 || img.UKIs[0].RootHash != rootHash {
		t.Errorf("the disk has problems %q, root hash %s", img.Problems, img.UKIs[0].RootHash)
	}
	if err := img.Verify(); err != nil {
		t.Error(err)
	}
}

// bootable says whether a disk has a partition table.
func bootable(t *testing.T, disk string) bool {
	t.Helper()
	f := ok[*os.File](t)(os.Open(disk))
	defer f.Close()
	info := ok[os.FileInfo](t)(f.Stat())
	_, err := gpt.Read(f, info.Size())
	return err == nil
}

func TestImages(t *testing.T) {
	s := makeSample(t)
	server := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(s.raw))))
	defer server.Close()
	none := "nobody vouches for it"
	for _, c := range []struct{ name, digest, note string }{
		{s.raw, s.digest, ""},
		{s.raw, "", none},
		{s.compressed, strings.ToUpper(s.digest), ""},
		{server.URL + "/coracle.raw.zst", "", none},
	} {
		disk := newDisk(t, 80*mib)
		said, err := installTo(t, disk, &source.Image{Name: c.name, Digest: c.digest}, nil)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		check(t, disk, s.rootHash)
		if strings.Contains(said, none) != (c.note != "") || !strings.Contains(said, "version 1.2.3") {
			t.Errorf("%s with digest %q: it said\n%s", c.name, c.digest, said)
		}
	}
	// The digest is found beside the image, as the builder leaves it.
	write(t, filepath.Join(filepath.Dir(s.raw), "manifest.json"), []byte(`{"results": [{"name": "coracle.raw", "sha256": "`+s.digest+`"}]}`))
	for _, name := range []string{s.raw, server.URL + "/coracle.raw.zst"} {
		if said, err := installTo(t, newDisk(t, 80*mib), &source.Image{Name: name}, nil); err != nil || strings.Contains(said, none) {
			t.Errorf("%s with its manifest: %v, %q", name, err, said)
		}
	}
}

func TestBadImages(t *testing.T) {
	s := makeSample(t)
	content := ok[[]byte](t)(os.ReadFile(s.raw))
	compressed := ok[[]byte](t)(os.ReadFile(s.compressed))
	flipped := bytes.Clone(content)
	flipped[(1+1+34)*mib+2*mib] ^= 1 // in the root
	noTable := bytes.Clone(content)
	clear(noTable[:mib])
	for name, c := range map[string]struct {
		content []byte
		digest  string
		want    error
	}{
		"empty":          {nil, "", source.ErrNotImage},
		"text":           {bytes.Repeat([]byte("text"), mib), "", source.ErrNotImage},
		"cut":            {content[:len(content)/2], "", io.ErrUnexpectedEOF},
		"cut compressed": {compressed[:len(compressed)/2], "", io.ErrUnexpectedEOF},
		"flipped":        {flipped, s.digest, source.ErrDigest},
		"other digest":   {content, strings.Repeat("0", 64), source.ErrDigest},
		"no table":       {noTable, "", source.ErrNotImage},
		"too long":       {append(bytes.Clone(content), 1), "", source.ErrNotImage},
	} {
		disk, image := newDisk(t, 80*mib), filepath.Join(t.TempDir(), "image")
		write(t, image, c.content)
		if _, err := installTo(t, disk, &source.Image{Name: image, Digest: c.digest}, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if bootable(t, disk) {
			t.Errorf("%s: the disk can be started", name)
		}
	}
	// A bad block without a digest: the root's own hash finds it.
	image, disk := filepath.Join(t.TempDir(), "image"), newDisk(t, 80*mib)
	write(t, image, flipped)
	var bad *verity.BadBlockError
	if _, err := installTo(t, disk, &source.Image{Name: image}, nil); !errors.As(err, &bad) || bootable(t, disk) {
		t.Errorf("a flipped bit without a digest: %v", err)
	}
}

// TestTooSmall leaves the disk as it was.
func TestTooSmall(t *testing.T) {
	s := makeSample(t)
	for _, from := range []source.Source{&source.Image{Name: s.raw}, &s.running} {
		disk := newDisk(t, 40*mib)
		if _, err := installTo(t, disk, from, nil); !errors.Is(err, target.ErrTooSmall) {
			t.Errorf("%T: %v", from, err)
		}
		if content := ok[[]byte](t)(os.ReadFile(disk)); !bytes.Equal(content, bytes.Repeat([]byte{0xa5}, 40*mib)) {
			t.Errorf("%T: the disk was written to", from)
		}
	}
}

// TestRunning installs the release of a live system, with a configuration.
func TestRunning(t *testing.T) {
	s := makeSample(t)
	disk := newDisk(t, 3300*mib)
	config := ok[*Config](t)(CloudConfig([]byte("#cloud-config\nhostname: a\n")))
	if _, err := installTo(t, disk, &s.running, func(j *Job) { j.Config = config }); err != nil {
		t.Fatal(err)
	}
	check(t, disk, s.rootHash)
	f := ok[*os.File](t)(os.Open(disk))
	defer f.Close()
	layout := ok[gpt.Layout](t)(gpt.Read(f, 3300*mib))
	bios, _ := layout.Find(gpt.BIOSBoot)
	if at, ok := grub.Installed(f, bios.Start); !ok || at != bios.Start {
		t.Errorf("GRUB is at %d, %v; want it at the start of its partition", at, ok)
	}
	if img := ok[*inspect.Image](t)(inspect.Open(f, 3300*mib)); len(img.Problems) > 0 || img.BIOS == nil || len(img.BIOS.Entries) != 1 {
		t.Errorf("on BIOS: %+v, problems %q", img.BIOS, img.Problems)
	}
	part, _ := layout.Find(gpt.OEM)
	err := target.Mount(disk, part.Start, part.Size, func(dir string) error {
		content, err := os.ReadFile(filepath.Join(dir, "cloud-config.yml"))
		if err == nil && string(content) != "#cloud-config\nhostname: a\n" {
			err = fmt.Errorf("the configuration is %q", content)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestNotLive(t *testing.T) {
	s := makeSample(t)
	for text, want := range map[string]string{
		`{}`: "does not run a live system", "": "does not run a live system",
		`{"live": "memory"}`: "came without coracle.efi",
	} {
		write(t, s.running.BootInfo, []byte(text))
		if _, err := s.running.Describe(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("boot.json %q: %v, want %q", text, err, want)
		}
	}
}

// cutter stops taking writes after some of them.
type cutter struct {
	target.File
	left int
}

var errCut = errors.New("power cut")

func (c *cutter) WriteAt(b []byte, at int64) (int, error) {
	if c.left == 0 {
		return 0, errCut
	}
	c.left--
	return c.File.WriteAt(b, at)
}

// TestCutAtRandom cuts installations at random writes, each time over what the
// one before has left: none leaves a disk that starts, and the last, uncut one is
// as good as the first would have been.
func TestCutAtRandom(t *testing.T) {
	s := makeSample(t)
	random := rand.New(rand.NewPCG(1, 2))
	disk := newDisk(t, 80*mib)
	image := func() source.Source { return &source.Image{Name: s.raw, Digest: s.digest} }
	if _, err := installTo(t, disk, image(), nil); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		cut := random.IntN(14)
		_, err := installTo(t, disk, image(), func(j *Job) {
			j.Disk.File = &cutter{j.Disk.File, cut}
			j.Disk.Zero = nil
		})
		if err == nil {
			t.Fatalf("cut after %d writes: no error", cut)
		}
		if cut >= 2 && cut < 10 && bootable(t, disk) {
			t.Errorf("cut after %d writes: the disk can be started", cut)
		}
	}
	if _, err := installTo(t, disk, image(), nil); err != nil {
		t.Fatal(err)
	}
	check(t, disk, s.rootHash)
}

func TestStopped(t *testing.T) {
	s := makeSample(t)
	disk := newDisk(t, 80*mib)
	d, done, err := target.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	ctx, stop := context.WithCancel(t.Context())
	j := Job{Source: &source.Image{Name: s.raw}, Disk: d, Say: func(string, ...any) {}, Progress: func(int64, int64) { stop() }}
	if err := j.Run(ctx); !errors.Is(err, context.Canceled) || bootable(t, disk) {
		t.Errorf("stopped: %v", err)
	}
}

func TestConfigs(t *testing.T) {
	for _, c := range []struct{ text, name, err string }{
		{"#cloud-config\nhostname: a\n", "cloud-config.yml", ""},
		{"#!/bin/sh\n", "cloud-config.yml", ""},
		{`{"ignition": {"version": "3.4.0"}}`, "config.ign", ""},
		{`{"ignition": {"version": "2.2.0"}}`, "", "want 3.x"},
		{`{"ignition": {"version": "3.4.0"}, "storage": {"files": [{"path": "x"}]}}`, "", "path not absolute"},
		{`{"ignition": `, "", "no JSON"},
		{"hostname: a\n", "", "no cloud-config"},
		{"", "", "no cloud-config"},
	} {
		got, err := AnyConfig([]byte(c.text))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v, want %q", c.text, err, c.err)
			}
			continue
		}
		if err != nil || got.Name != c.name {
			t.Errorf("%q: %+v, %v", c.text, got, err)
		}
	}
	if _, err := CloudConfig([]byte(`{"ignition": {"version": "3.4.0"}}`)); err == nil || !strings.Contains(err.Error(), "-i") {
		t.Errorf("Ignition as a cloud-config: %v", err)
	}
}

func TestArguments(t *testing.T) {
	for _, c := range []struct {
		line string
		want options
		err  string
	}{
		{"quiet coracle.install=/dev/sda", options{disk: "/dev/sda", after: "reboot"}, ""},
		{"coracle.install=/dev/sda coracle.config=http://x/c?a=b coracle.image=http://x/i coracle.image-sha256=ab coracle.after=stay",
			options{disk: "/dev/sda", config: "http://x/c?a=b", file: "http://x/i", digest: "ab", after: "stay"}, ""},
		{"coracle.install=/dev/sda coracle.install-channel=beta coracle.install-version=1.2 coracle.install-server=http://s",
			options{disk: "/dev/sda", channel: "beta", version: "1.2", server: "http://s", after: "reboot"}, ""},
		{"coracle.install", options{}, "no coracle.install=DISK"},
		{"coracle.install=/dev/sda coracle.install-version=1", options{}, "goes with"},
		{"coracle.install=/dev/sda coracle.after=explode", options{}, "write reboot"},
	} {
		got, err := Arguments(c.line)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v, want %q", c.line, err, c.err)
			}
		} else if err != nil || got != c.want {
			t.Errorf("%q: %+v, %v; want %+v", c.line, got, err, c.want)
		}
	}
}

func TestCommandLine(t *testing.T) {
	for line, want := range map[string]string{
		"":                              "name the disk",
		"-d /dev/sda -c a -i b":         "not both",
		"-d /dev/sda -V 1.0":            "-V goes with -C",
		"-d /dev/sda x":                 "unexpected argument",
		"-d /dev/sda -C stable -V 1.0":  "",
		"-unattended":                   "",
		"-d /dev/sda -f x.raw -c a.yml": "",
	} {
		var out strings.Builder
		_, err := parse(strings.Fields(line), &out)
		if (err != nil) != (want != "") || !strings.Contains(out.String(), want) {
			t.Errorf("%q: %v, %q", line, err, out.String())
		}
	}
}
