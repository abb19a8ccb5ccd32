package inspect

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/image/erofs"
	"github.com/coracle-os/coracle/image/esp"
	"github.com/coracle-os/coracle/image/ext4"
	"github.com/coracle-os/coracle/image/gpt"
	"github.com/coracle-os/coracle/image/tree"
	"github.com/coracle-os/coracle/image/uki"
	"github.com/coracle-os/coracle/image/verity"
)

const mib = 1 << 20

// disk is an image assembled for a test, and what it was made from.
type disk struct {
	file   *os.File
	layout gpt.Layout
	hash   []byte
}

func create(t testing.TB, dir, name string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// build assembles an image as the builder does, with this file name for its
// UKI and this root hash on its command line ("" for the right one).
func build(t testing.TB, ukiName, hashOnLine string) disk {
	t.Helper()
	dir := t.TempDir()
	rootTree := must[tree.Tree](t)(tree.New(tree.File("usr/bin/large", 0o755, bytes.Repeat([]byte("coracle "), 500_000)), tree.Symlink("bin", "usr/bin")))
	root, hashes, espFile := create(t, dir, "root"), create(t, dir, "verity"), create(t, dir, "esp")
	size := must[int64](t)(erofs.Write(root, rootTree, erofs.Options{}))
	hash := must[[]byte](t)(verity.Format(root, size, hashes, verity.Superblock{Salt: verity.Salt()}))
	if hashOnLine == "" {
		hashOnLine = hex.EncodeToString(hash)
	}
	stub := must[[]byte](t)(os.ReadFile("/usr/lib/systemd/boot/efi/linuxx64.efi.stub"))
	kernel := must[[]byte](t)(uki.Build(stub,
		uki.Section{Name: ".osrel", Data: []byte("ID=coracle\nIMAGE_VERSION=\"1.2.3\"\nVERSION_ID='9'\n# comment\nHOME=\\$x\n")},
		uki.Section{Name: ".uname", Data: []byte("6.12.0")},
		uki.Section{Name: ".cmdline", Data: []byte("roothash=" + hashOnLine + " console=ttyS0")},
		uki.Section{Name: ".linux", Data: bytes.Repeat([]byte("linux"), 50_000)}))
	files := must[tree.Tree](t)(tree.New(tree.File("EFI/Linux/"+ukiName, 0o644, kernel), tree.File("EFI/BOOT/BOOTX64.EFI", 0o644, stub)))
	sizes := gpt.Sizes{BIOSBoot: mib, ESP: 64 * mib, Root: 16 * mib, RootVerity: mib, OEM: mib, State: 16 * mib}
	if err := esp.Write(espFile, sizes.ESP, files, esp.Options{Label: "ESP"}); err != nil {
		t.Fatal(err)
	}
	state := create(t, dir, "state")
	options := ext4.Options{Label: "STATE", UUID: gpt.DerivedUUID("test", "state").String(), HashSeed: gpt.DerivedUUID("test", "seed").String(), Time: time.Unix(1, 0)}
	if err := ext4.Write(t.Context(), ext4.Exec, state.Name(), sizes.State, dir, options); err != nil {
		t.Fatal(err)
	}
	d := disk{file: create(t, dir, "disk.raw"), hash: hash}
	d.layout = must[gpt.Layout](t)(gpt.Plan(sizes, hash, "test"))
	err := gpt.Assemble(t.Context(), d.file, d.layout, map[string]gpt.Content{
		gpt.ESP: {Reader: espFile, Size: sizes.ESP}, gpt.RootA: {Reader: root, Size: size},
		gpt.RootAVerity: {Reader: hashes, Size: verity.TreeSize(size)}, gpt.State: {Reader: must[*os.File](t)(os.Open(state.Name())), Size: sizes.State},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d disk) open(t testing.TB) *Image {
	t.Helper()
	return must[*Image](t)(Open(d.file, d.layout.Size))
}

func (d disk) start(name string) int64 {
	p, _ := d.layout.Find(name)
	return p.Start
}

func (d disk) flip(t testing.TB, at int64) {
	t.Helper()
	var b [1]byte
	if _, err := d.file.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := d.file.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

func TestGoodImage(t *testing.T) {
	d := build(t, "coracle-1.2.3+3-0.efi", "")
	img := d.open(t)
	if len(img.Problems) > 0 {
		t.Errorf("problems: %q", img.Problems)
	}
	hash := hex.EncodeToString(d.hash)
	wantSlots := []Slot{{Name: "A", RootHash: hash, DataSize: img.Slots[0].DataSize, UKIs: []string{"EFI/Linux/coracle-1.2.3+3-0.efi"}}, {Name: "B", Empty: true}}
	if diff := cmp.Diff(wantSlots, img.Slots); diff != "" {
		t.Error(diff)
	}
	u := img.UKIs[0]
	got := fmt.Sprint(u.Version, " ", u.Kernel, " ", *u.TriesLeft, *u.TriesDone, " ", u.RootHash == hash, " ", u.OSRelease)
	if want := "1.2.3 6.12.0 3 0 true map[HOME:$x ID:coracle IMAGE_VERSION:1.2.3 VERSION_ID:9]"; got != want {
		t.Errorf("UKI is %s\nwant   %s", got, want)
	}
	if err := img.Verify(); err != nil {
		t.Error(err)
	}
	var text bytes.Buffer
	if err := img.Print(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"slot A", hash, "slot B", "empty", "root-A-verity", "version 1.2.3, kernel 6.12.0", "tries left 3, done 0", ".linux"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the text does not have %q:\n%s", want, text.String())
		}
	}
	encoded := must[[]byte](t)(json.Marshal(img))
	if !bytes.Contains(encoded, []byte(`"problems":[]`)) || !bytes.Contains(encoded, []byte(`"rootHash":"`+hash)) {
		t.Errorf("JSON is %s", encoded)
	}
}

// Others' programs agree with every partition of the finished disk.
func TestOracles(t *testing.T) {
	d := build(t, "coracle-1.efi", "")
	dir := t.TempDir()
	file := func(name string) string {
		p, _ := d.layout.Find(name)
		f := create(t, dir, name)
		if _, err := io.Copy(f, io.NewSectionReader(d.file, p.Start, p.Size)); err != nil {
			t.Fatal(err)
		}
		return f.Name()
	}
	for _, command := range [][]string{
		{"sgdisk", "-v", d.file.Name()},
		{"fsck.fat", "-n", file(gpt.ESP)},
		{"fsck.erofs", file(gpt.RootA)},
		{"veritysetup", "verify", file(gpt.RootA), file(gpt.RootAVerity), hex.EncodeToString(d.hash)},
		{"e2fsck", "-fn", file(gpt.State)},
	} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", command, err, out)
		}
	}
}

func TestVerifyNamesTheBadBlock(t *testing.T) {
	for _, test := range []struct {
		partition string
		at        int64
		want      verity.BadBlockError
	}{
		{gpt.RootA, 300*verity.BlockSize + 5, verity.BadBlockError{Block: 300}},
		{gpt.RootAVerity, 2 * verity.BlockSize, verity.BadBlockError{Tree: true, Block: 2}},
	} {
		d := build(t, "coracle-1.efi", "")
		d.flip(t, d.start(test.partition)+test.at)
		err := d.open(t).Verify()
		var bad *verity.BadBlockError
		if !errors.As(err, &bad) || *bad != test.want || !strings.Contains(err.Error(), "slot A") {
			t.Errorf("%s: got %v, want %+v", test.partition, err, test.want)
		}
	}
}

func TestProblems(t *testing.T) {
	other := strings.Repeat("ab", 32)
	for _, test := range []struct {
		name   string
		hash   string
		damage func(d disk)
		want   []string
		verify string
	}{
		{"other root hash", other, func(disk) {}, []string{"starts root hash " + other, "slot A: has root hash"}, "no UKI's root hash fits"},
		{"no root hash", "none", func(disk) {}, []string{"no roothash="}, "no UKI's root hash fits"},
		{"verity UUID", "", func(d disk) {
			d.layout.Partitions[3].UUID[5] ^= 1
			gpt.WriteTable(d.file, d.layout)
		}, []string{"only root-A does"}, "no UKI's root hash fits"},
		{"no hash tree", "", func(d disk) {
			d.file.WriteAt(make([]byte, 512), d.start(gpt.RootAVerity))
		}, []string{"stage 1 will not find the root"}, "no UKI's root hash fits"},
		{"odd hash tree", "", func(d disk) { d.flip(t, d.start(gpt.RootAVerity)+8) }, []string{"write the slot anew"}, "no UKI's root hash fits"},
		{"first table", "", func(d disk) { d.flip(t, gpt.SectorSize+60) }, []string{"this is its backup"}, ""},
		{"a partition is missing", "", func(d disk) {
			d.layout.Partitions = append(d.layout.Partitions[:5:5], d.layout.Partitions[6:]...)
			gpt.WriteTable(d.file, d.layout)
		}, []string{"slot B has only one of"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := build(t, "coracle-1.efi", test.hash)
			test.damage(d)
			img := d.open(t)
			all := strings.Join(img.Problems, "\n")
			for _, want := range test.want {
				if !strings.Contains(all, want) {
					t.Errorf("problems are %q, want %q", img.Problems, want)
				}
			}
			if err := img.Verify(); (err == nil) != (test.verify == "") || err != nil && !strings.Contains(err.Error(), test.verify) {
				t.Errorf("Verify: %v, want %q", err, test.verify)
			}
			if err := img.Print(&bytes.Buffer{}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDamagedUKI(t *testing.T) {
	d := build(t, "coracle-1.efi", "")
	raw := must[[]byte](t)(os.ReadFile(d.file.Name()))
	stub := must[[]byte](t)(os.ReadFile("/usr/lib/systemd/boot/efi/linuxx64.efi.stub"))
	behind := bytes.Index(raw, stub) + len(stub) // the boot loader is before the UKI
	d.flip(t, int64(behind+bytes.Index(raw[behind:], []byte("PE\x00\x00"))))
	img := d.open(t)
	if all := strings.Join(img.Problems, "\n"); !strings.Contains(all, "EFI/Linux/coracle-1.efi: read UKI") || !strings.Contains(all, "nothing to boot") {
		t.Errorf("problems are %q", img.Problems)
	}
}

func TestNoImage(t *testing.T) {
	d := build(t, "coracle-1.efi", "")
	for name, try := range map[string]func() error{
		"no table":  func() error { _, err := Open(bytes.NewReader(make([]byte, mib)), mib); return err },
		"truncated": func() error { _, err := Open(d.file, 70*mib); return err },
		"no ESP": func() error {
			d.file.WriteAt(make([]byte, 512), d.start(gpt.ESP))
			_, err := Open(d.file, d.layout.Size)
			return err
		},
	} {
		if err := try(); err == nil || !strings.Contains(err.Error(), "inspect image") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
