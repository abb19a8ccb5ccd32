package format

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/coracle-os/coracle/image/gpt"
)

// Places of the OEM partition on disk.
const (
	diskSize = 32 << 20
	oemStart = 8 << 20
	oemSize  = 16 << 20
)

// disk is an image of 32 MiB with an OEM partition and data in a few places.
func disk(t *testing.T) Source {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, diskSize)
	random := rand.NewChaCha8([32]byte{1})
	for _, at := range []int{3 << 20, 5<<20 + 4096, oemStart + oemSize - 4096} {
		random.Read(data[at : at+4096])
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	layout := gpt.Layout{Size: diskSize, DiskUUID: uuid.New(), Partitions: []gpt.Partition{
		{Name: gpt.OEM, Type: uuid.MustParse(gpt.TypeLinux), UUID: uuid.New(), Start: oemStart, Size: oemSize},
	}}
	if err := gpt.WriteTable(f, layout); err != nil {
		t.Fatal(err)
	}
	return Source{Raw: path, Name: "coracle", Version: "1.2.3"}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// unpack gives the members of an archive in their order.
func unpack(t *testing.T, r io.Reader) (names []string, files map[string][]byte) {
	t.Helper()
	files = map[string][]byte{}
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return names, files
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		names, files[h.Name] = append(names, h.Name), data
	}
}

func unzip(t *testing.T, path string) io.Reader {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// raw gives the content of a virtual disk, as qemu-img reads it.
func raw(t *testing.T, kind, path string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "back.raw")
	run(t, "qemu-img", "convert", "-f", kind, "-O", "raw", path, out)
	return read(t, out)
}

// diskForms are the forms that hold a disk, whatever is on it; packages iso and
// pxe test the others.
func diskForms() (forms []Format) {
	for _, f := range Formats() {
		if f.Name != "iso" && f.Name != "pxe" {
			forms = append(forms, f)
		}
	}
	return forms
}

// TestContent converts and reads back by other programs.
func TestContent(t *testing.T) {
	source := disk(t)
	want, err := os.ReadFile(source.Raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range diskForms() {
		t.Run(f.Name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "coracle"+f.File)
			if err := f.Write(t.Context(), source, path); err != nil {
				t.Fatal(err)
			}
			if got := content(t, f.Name, path); !bytes.Equal(got[:min(len(got), len(want))], want) {
				t.Errorf("the content is another: %d bytes, want %d", len(got), len(want))
			}
		})
	}
}

// content gives a form's disk as other programs read it; that of a box with the
// OEM partition that the test's disk had.
func content(t *testing.T, name, path string) []byte {
	t.Helper()
	switch name {
	case "qcow2", "vdi", "vmdk":
		return raw(t, name, path)
	case "vhd":
		return raw(t, "vpc", path)
	case "raw.zst":
		return []byte(run(t, "zstd", "-dcq", path))
	case "gce":
		listing := strings.Fields(run(t, "tar", "-tvzf", path))
		if len(listing) != 6 || listing[2] != fmt.Sprint(gib) || listing[5] != "disk.raw" {
			t.Errorf("members: %v, want disk.raw of whole GiB", listing)
		}
		archive := tar.NewReader(unzip(t, path))
		if _, err := archive.Next(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.LimitReader(archive, diskSize))
		if err != nil {
			t.Fatal(err)
		}
		return got
	case "ova":
		return fromOVA(t, path)
	case "vagrant-libvirt":
		names, files := unpack(t, unzip(t, path))
		if fmt.Sprint(names) != "[metadata.json Vagrantfile box.img]" {
			t.Errorf("members: %v", names)
		}
		return boxed(t, raw(t, "qcow2", write(t, files["box.img"])))
	case "vagrant-virtualbox":
		_, files := unpack(t, unzip(t, path))
		checkOVF(t, files["box.ovf"], "box-disk1.vmdk", files)
		return boxed(t, raw(t, "vmdk", write(t, files["box-disk1.vmdk"])))
	}
	return read(t, path)
}

// read gives the first 64 MiB of a file; what is more is a grown disk's.
func read(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 2*diskSize))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// boxed checks the OEM partition of a box and gives the disk with the one that
// the test's disk has.
func boxed(t *testing.T, got []byte) []byte {
	t.Helper()
	oem := write(t, got[oemStart:oemStart+oemSize])
	run(t, "e2fsck", "-fn", oem)
	if text := run(t, "debugfs", "-R", "cat /cloud-config.yml", oem); !strings.Contains(text, "\n#cloud-config\n") {
		t.Errorf("its cloud-config: %s", text)
	}
	if text := run(t, "debugfs", "-R", "cat /vagrant.pub", oem); !strings.Contains(text, "\nssh-rsa AAAA") {
		t.Errorf("its key: %s", text)
	}
	original := make([]byte, oemSize)
	random := rand.NewChaCha8([32]byte{1})
	random.Read(make([]byte, 8192)) // what the disk has before
	random.Read(original[oemSize-4096:])
	copy(got[oemStart:], original)
	return got
}

func write(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// fromOVA checks order, digests and XML of a package.
func fromOVA(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	names, files := unpack(t, f)
	if fmt.Sprint(names) != "[coracle.ovf coracle.mf coracle-disk1.vmdk]" {
		t.Errorf("members: %v", names)
	}
	for _, name := range []string{"coracle.ovf", "coracle-disk1.vmdk"} {
		if line := fmt.Sprintf("SHA256(%s)= %x\n", name, sha256.Sum256(files[name])); !bytes.Contains(files["coracle.mf"], []byte(line)) {
			t.Errorf("no %q in %s", line, files["coracle.mf"])
		}
	}
	checkOVF(t, files["coracle.ovf"], "coracle-disk1.vmdk", files)
	return raw(t, "vmdk", write(t, files["coracle-disk1.vmdk"]))
}

// TestSame converts twice, to other names: the same bytes.
func TestSame(t *testing.T) {
	source := disk(t)
	for _, f := range diskForms() {
		var sums [2][]byte
		for i, name := range []string{"a", "another"} {
			path := filepath.Join(t.TempDir(), name+f.File)
			if err := f.Write(t.Context(), source, path); err != nil {
				t.Fatal(err)
			}
			sum, err := digest(path)
			if err != nil {
				t.Fatal(err)
			}
			sums[i] = sum
		}
		if !bytes.Equal(sums[0], sums[1]) {
			t.Errorf("%s: two conversions differ", f.Name)
		}
	}
}

func TestBad(t *testing.T) {
	odd := write(t, []byte("no image"))
	f, err := Find("qcow2")
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if err := f.Write(t.Context(), Source{Raw: odd}, out); err == nil || !strings.Contains(err.Error(), "no whole MiB") {
		t.Errorf("an odd file: %v", err)
	}
	if _, err := Find("vhdx"); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "vmdk") {
		t.Errorf("an unknown format: %v", err)
	}
	if f, err := ForFile("x/coracle.raw.zst"); err != nil || f.Name != "raw.zst" {
		t.Errorf("raw.zst by its name: %v, %v", f.Name, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	for _, f := range Formats() {
		dir := t.TempDir()
		if err := f.Write(ctx, disk(t), filepath.Join(dir, "out")); err == nil {
			t.Errorf("%s: a stopped conversion has no error", f.Name)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: a stopped conversion leaves %v", f.Name, left)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if err := f.Check(); err == nil || !strings.Contains(err.Error(), "qemu-utils") {
		t.Errorf("without qemu-img: %v", err)
	}
}
