package esp

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/image/tree"
)

var testOptions = Options{Label: "ESP", VolumeID: 0xc0ac1e00, Time: time.Date(2020, 9, 13, 12, 26, 40, 0, time.UTC)}

func noise(n int) []byte {
	b := make([]byte, n)
	random := rand.NewChaCha8([32]byte{byte(n)})
	random.Read(b)
	return b
}

func sample(t testing.TB) tree.Tree {
	entries := []tree.Entry{
		tree.File("EFI/BOOT/BOOTX64.EFI", 0o644, noise(140_891)),
		tree.File("EFI/systemd/systemd-bootx64.efi", 0o644, noise(140_891)),
		tree.File("EFI/Linux/coracle-1.2.3+3-0.efi", 0o644, noise(3_000_000)),
		tree.File("EFI/Linux/coracle-1.2.4.efi", 0o644, noise(4096)),
		tree.File("loader/loader.conf", 0o644, []byte("timeout 1\n")),
		tree.File("loader/random-seed", 0o644, nil),
		tree.Directory("loader/keys", 0o755),
	}
	for i := range 90 { // more than one cluster of entries
		entries = append(entries, tree.File(fmt.Sprintf("many/a-long-file-name-number-%02d.txt", i), 0o644, []byte{byte(i)}))
	}
	return mustTree(t, entries...)
}

func mustTree(t testing.TB, entries ...tree.Entry) tree.Tree {
	t.Helper()
	tr, err := tree.New(entries...)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func create(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "esp.img"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestFsckAndMtools(t *testing.T) {
	for _, size := range []int64{MinSize, 64 << 20, 512 << 20} {
		t.Run(fmt.Sprint(size>>20), func(t *testing.T) {
			f := create(t)
			if err := Write(f, size, sample(t), testOptions); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("fsck.fat", "-n", "-v", f.Name()).CombinedOutput(); err != nil {
				t.Errorf("fsck.fat: %v\n%s", err, out)
			}
			out, err := exec.Command("mdir", "-i", f.Name(), "-/", "::").CombinedOutput()
			if err != nil {
				t.Fatalf("mdir: %v\n%s", err, out)
			}
			for _, want := range []string{"is ESP", "C0AC-1E00", "coracle-1.2.3+3-0.efi", "2020-09-13  12:26"} {
				if !bytes.Contains(out, []byte(want)) {
					t.Errorf("mdir does not show %q", want)
				}
			}
			uki := filepath.Join(t.TempDir(), "uki")
			if out, err := exec.Command("mcopy", "-i", f.Name(), "::EFI/Linux/coracle-1.2.3+3-0.efi", uki).CombinedOutput(); err != nil {
				t.Fatalf("mcopy: %v\n%s", err, out)
			}
			if got, err := os.ReadFile(uki); err != nil || !bytes.Equal(got, noise(3_000_000)) {
				t.Errorf("mcopy gives %d bytes, not the file (%v)", len(got), err)
			}
			info, err := f.Stat()
			if err != nil || info.Size() != size {
				t.Fatalf("size is %d, want %d (%v)", info.Size(), size, err)
			}
			if used := info.Sys().(*syscall.Stat_t).Blocks * 512; used > 12<<20 {
				t.Errorf("the file takes %d bytes of disk; it is not sparse", used)
			}
		})
	}
}

func TestSameBytes(t *testing.T) {
	var sums [2][sha256.Size]byte
	for i := range sums {
		f := create(t)
		if i == 1 { // what was there before does not shine through
			f.Write(bytes.Repeat([]byte{0xaa}, 40<<20))
			f.Seek(0, io.SeekStart)
		}
		if err := Write(f, MinSize, sample(t), testOptions); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = sha256.Sum256(content)
	}
	if sums[0] != sums[1] {
		t.Error("two file systems of the same files differ")
	}
}

func TestReadBack(t *testing.T) {
	f := create(t)
	if err := Write(f, MinSize, sample(t), testOptions); err != nil {
		t.Fatal(err)
	}
	v, err := Open(f, MinSize)
	if err != nil {
		t.Fatal(err)
	}
	files, err := v.Files()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, file := range files {
		if file.Dir {
			got[file.Path] = "directory"
			continue
		}
		r, err := v.OpenFile(file)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got[file.Path] = fmt.Sprintf("%x", sha256.Sum256(content))
	}
	want := map[string]string{}
	for e := range sample(t).All() {
		content, _ := e.ReadFile()
		switch {
		case e.Path == ".":
		case e.Mode.IsDir():
			want[e.Path] = "directory"
		default:
			want[e.Path] = fmt.Sprintf("%x", sha256.Sum256(content))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if v.Label != "ESP" {
		t.Errorf("label is %q", v.Label)
	}
}

func TestWriteErrors(t *testing.T) {
	large := tree.Entry{Path: "x", Mode: 0o644, Size: 40 << 20, Source: func() (io.ReadCloser, error) {
		return nil, errors.New("opened before the size was checked")
	}}
	for _, test := range []struct {
		name    string
		entries []tree.Entry
		size    int64
		label   string
		want    string
	}{
		{"small", nil, 16 << 20, "ESP", "from 34 MiB"},
		{"label", nil, MinSize, "esp", "label"},
		{"link", []tree.Entry{tree.Symlink("a", "b")}, MinSize, "ESP", "only plain files"},
		{"case", []tree.Entry{tree.File("a", 0, nil), tree.File("A", 0, nil)}, MinSize, "ESP", "does not tell cases apart"},
		{"character", []tree.Entry{tree.File("a:b", 0, nil)}, MinSize, "ESP", "want ASCII"},
		{"umlaut", []tree.Entry{tree.File("ä", 0, nil)}, MinSize, "ESP", "want ASCII"},
		{"short names", []tree.Entry{tree.File("a=b.c", 0, nil), tree.File("a+b.c", 0, nil)}, MinSize, "ESP", "short name"},
		{"too much", []tree.Entry{large}, MinSize, "ESP", "do not fit"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := Write(create(t), test.size, mustTree(t, test.entries...), Options{Label: test.label})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

// What fills the file system to the last cluster still passes fsck.
func TestFull(t *testing.T) {
	f := create(t)
	if err := Write(f, MinSize, mustTree(t), testOptions); err != nil {
		t.Fatal(err)
	}
	v, err := Open(f, MinSize)
	if err != nil {
		t.Fatal(err)
	}
	all := tree.File("all", 0o644, noise(int(int64(v.clusters-1)*v.clusterSize)))
	if err := Write(f, MinSize, mustTree(t, all), testOptions); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("fsck.fat", "-n", f.Name()).CombinedOutput(); err != nil {
		t.Errorf("fsck.fat: %v\n%s", err, out)
	}
	more := mustTree(t, all, tree.File("more", 0o644, []byte("x")))
	if err := Write(f, MinSize, more, testOptions); !errors.Is(err, ErrFull) {
		t.Errorf("one more file: %v", err)
	}
}

func TestReadDamaged(t *testing.T) {
	f := create(t)
	if err := Write(f, MinSize, sample(t), testOptions); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	v, err := Open(f, MinSize)
	if err != nil {
		t.Fatal(err)
	}
	read := func(b []byte) error {
		v, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return err
		}
		files, err := v.Files()
		for _, file := range files {
			if file.Dir {
				continue
			}
			r, err := v.OpenFile(file)
			if err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, r); err != nil {
				return err
			}
		}
		return err
	}
	if err := read(good); err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func(b []byte) []byte{
		"empty":        func(b []byte) []byte { return make([]byte, len(b)) },
		"cut":          func(b []byte) []byte { return b[:20<<20] },
		"root cycle":   func(b []byte) []byte { copy(b[v.fatStarts[0]+8:], []byte{2, 0, 0, 0}); return b },
		"chain beyond": func(b []byte) []byte { copy(b[v.fatStarts[0]+8:], []byte{0xff, 0xff, 0xff, 0x07}); return b },
		"sector size":  func(b []byte) []byte { b[11] = 3; return b },
		"no FAT":       func(b []byte) []byte { copy(b[36:], []byte{1, 0, 0, 0}); return b },
	} {
		if err := read(damage(slices.Clone(good))); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := v.OpenFile(File{Path: "d", Dir: true}); err == nil {
		t.Error("a directory was opened")
	}
	var pathError *fs.PathError
	if _, err := v.OpenFile(File{Path: "x", Size: 5, cluster: 0}); !errors.As(err, &pathError) {
		t.Errorf("a file without clusters: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	b := make([]byte, 64<<10)
	copy(b[11:], []byte{0, 2, 1, 1, 0, 1})
	copy(b[32:], []byte{128, 0, 0, 0, 1, 0, 0, 0})
	b[44], b[510], b[511] = 2, 0x55, 0xaa
	copy(b[512:], []byte{0xf8, 0xff, 0xff, 0x0f, 0xff, 0xff, 0xff, 0x0f, 0xff, 0xff, 0xff, 0x0f, 0xff, 0xff, 0xff, 0x0f})
	copy(b[1024:], "LOADER  CON")
	b[1024+26], b[1024+28] = 3, 5
	f.Add(b[:4096])
	f.Add(b[:1100])
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Open(bytes.NewReader(b), 64<<10)
		if err != nil {
			return
		}
		files, err := v.Files()
		if err != nil {
			return
		}
		for _, file := range files {
			if r, err := v.OpenFile(file); err == nil {
				io.Copy(io.Discard, r)
			}
		}
	})
}
