package install

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/update"
	"github.com/coracle-os/coracle/agents/update/slots"
	"github.com/coracle-os/coracle/image/gpt"
	"github.com/coracle-os/coracle/image/release"
	"github.com/coracle-os/coracle/image/uki"
	"github.com/coracle-os/coracle/image/verity"
	"github.com/coracle-os/coracle/initrd/entries"
)

const (
	mib     = 1 << 20
	rootSiz = 960 * mib
	full    = 32 * mib // the part of the root that is not zeros
)

// TestMemory installs a root of almost 1 GiB, the largest that the default
// slots hold, in a process of its own: it stays under 64 MiB, with patches and
// without.
func TestMemory(t *testing.T) {
	t.Run("chunks", func(t *testing.T) { testMemory(t, false) })
	t.Run("patches", func(t *testing.T) { testMemory(t, true) })
}

func testMemory(t *testing.T, patches bool) {
	dir := t.TempDir()
	makeScene(t, dir, patches)
	cmd := exec.Command(os.Args[0], "-test.run=^TestInstallChild$", "-test.v")
	cmd.Env = append(os.Environ(), "INSTALL_SCENE="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, rest, _ := strings.Cut(string(out), "peak=")
	text, _, _ := strings.Cut(rest, " ")
	peak, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
	if peak > 64<<10 {
		t.Errorf("peak memory %d KiB, want at most 64 MiB", peak)
	}
}

// TestInstallChild is the process that TestMemory starts; alone it has nothing
// to do.
func TestInstallChild(t *testing.T) {
	dir := os.Getenv("INSTALL_SCENE")
	if dir == "" {
		return
	}
	debug.SetMemoryLimit(40 * mib)
	debug.SetGCPercent(50)
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	index, err := release.ParseIndex(read("index"))
	if err != nil {
		t.Fatal(err)
	}
	blob, err := os.Open(filepath.Join(dir, "blob"))
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	f, err := os.OpenFile(filepath.Join(dir, "disk"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	fetched := int64(0)
	in := &Install{
		Disk: slots.Disk{File: f, Size: info.Size(), SectorSize: 512}, ESP: entries.OSDir(filepath.Join(dir, "esp")),
		Running: string(read("running")), Version: "2.0.0", Index: index, Log: slog.New(slog.DiscardHandler),
		Range: func(_ context.Context, r release.Range, check func([]byte) error) ([]byte, error) {
			b := make([]byte, r.Length)
			if _, err := blob.ReadAt(b, r.Offset); err != nil {
				return nil, err
			}
			fetched += r.Length
			return b, check(b)
		},
	}
	start := time.Now()
	for _, w := range []update.Write{update.Check, update.Disarm, update.Invalidate, update.Tree, update.Blocks, update.Flush, update.ReadBack, update.Identify, update.Arm} {
		if err := in.Do(context.Background(), w); err != nil {
			t.Fatalf("%s: %v", w, err)
		}
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	fmt.Printf("peak=%s KiB, %v, %d bytes fetched\n", strings.Fields(peak)[0], time.Since(start).Round(time.Millisecond), fetched)
}

// makeScene writes a disk that runs one system, and the next one's release.
func makeScene(t *testing.T, dir string, patches bool) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tree := make(memory, verity.TreeSize(rootSiz))
	hash, err := verity.Format(contents(0), rootSiz, tree, verity.Superblock{Salt: verity.Salt()})
	if err != nil {
		t.Fatal(err)
	}
	layout, err := gpt.Plan(gpt.Sizes{BIOSBoot: mib, ESP: mib, Root: 1024 * mib, RootVerity: 16 * mib, OEM: mib, State: mib}, hash, "memory")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(layout.Size); err != nil {
		t.Fatal(err)
	}
	if err := gpt.WriteTable(f, layout); err != nil {
		t.Fatal(err)
	}
	a, _ := layout.Find(gpt.RootA)
	v, _ := layout.Find(gpt.RootAVerity)
	write := func(b []byte, at int64) {
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
	}
	write(contents(0), a.Start)
	write(tree, v.Start)
	put := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("running", []byte(hex.EncodeToString(hash)))
	if err := os.Mkdir(filepath.Join(dir, "esp"), 0o700); err != nil {
		t.Fatal(err)
	}
	put("esp/coracle-1.0.0.efi", makeUKI(t, hex.EncodeToString(hash)))
	next, err := verity.Format(contents(20), rootSiz, tree, verity.Superblock{Salt: verity.Salt()})
	if err != nil {
		t.Fatal(err)
	}
	blob, err := os.Create(filepath.Join(dir, "blob"))
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	source := release.Source{Root: contents(20), RootSize: rootSiz, UKI: makeUKI(t, hex.EncodeToString(next))}
	if patches {
		source.Bases = []release.BaseRoot{{RootHash: release.Sum(hash), Root: contents(0), Size: rootSiz}}
	}
	x, err := release.Write(t.Context(), blob, source)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	put("index", b)
}

func makeUKI(t *testing.T, rootHash string) []byte {
	t.Helper()
	stub, err := os.ReadFile("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
	if err != nil {
		t.Fatal(err)
	}
	kernel := make([]byte, 8*mib)
	rand.NewChaCha8([32]byte{1}).Read(kernel)
	b, err := uki.Build(stub, uki.Section{Name: ".cmdline", Data: []byte("roothash=" + rootHash)}, uki.Section{Name: ".linux", Data: kernel})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type memory []byte

func (m memory) WriteAt(b []byte, at int64) (int, error) { return copy(m[at:], b), nil }

// sparse is a root image whose bytes after the first ones are zeros.
type sparse []byte

func (s sparse) ReadAt(b []byte, at int64) (int, error) {
	n := 0
	if at < int64(len(s)) {
		n = copy(b, s[at:])
	}
	clear(b[n:])
	return len(b), nil
}

var _ io.ReaderAt = sparse(nil)

// contents are bytes of which every nth block is another than in contents(0).
func contents(nth int) sparse {
	b := make(sparse, full)
	rand.NewChaCha8([32]byte{7}).Read(b)
	for i := 0; nth > 0 && i < len(b); i += nth * verity.BlockSize {
		b[i] ^= 1
	}
	return b
}
