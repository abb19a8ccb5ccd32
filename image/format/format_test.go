package format

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// disk is an image of 9 MiB with data in a few places.
func disk(t *testing.T) Source {
	t.Helper()
	data := make([]byte, 9<<20)
	random := rand.NewChaCha8([32]byte{1})
	for _, at := range []int{0, 512, 3 << 20, 5<<20 + 4096} {
		random.Read(data[at : at+4096])
	}
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, data, 0o644); err != nil {
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
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestContent converts and reads back by other programs.
func TestContent(t *testing.T) {
	source := disk(t)
	want, err := os.ReadFile(source.Raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range Formats() {
		t.Run(f.Name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "coracle"+f.File)
			if err := f.Write(t.Context(), source, path); err != nil {
				t.Fatal(err)
			}
			var got []byte
			switch f.Name {
			case "qcow2", "vdi", "vmdk":
				got = raw(t, f.Name, path)
			case "vhd":
				got = raw(t, "vpc", path)
				if info, _ := os.Stat(path); info.Size() != int64(len(want))+512 {
					t.Errorf("a fixed VHD has %d bytes, want the disk's and 512", info.Size())
				}
			case "raw":
				got, _ = os.ReadFile(path)
			case "raw.zst":
				got = []byte(run(t, "zstd", "-dcq", path))
			case "gce":
				if listing := run(t, "tar", "-tzf", path); listing != "disk.raw\n" {
					t.Errorf("members: %q", listing)
				}
				_, files := unpack(t, unzip(t, path))
				if got = files["disk.raw"]; len(got) != gib {
					t.Fatalf("disk.raw has %d bytes", len(got))
				}
				got = got[:len(want)]
			case "ova":
				got = fromOVA(t, path)
			case "vagrant-libvirt":
				names, files := unpack(t, unzip(t, path))
				if fmt.Sprint(names) != "[metadata.json Vagrantfile box.img]" {
					t.Errorf("members: %v", names)
				}
				got = raw(t, "qcow2", write(t, files["box.img"]))
			case "vagrant-virtualbox":
				_, files := unpack(t, unzip(t, path))
				if !bytes.Contains(files["box.ovf"], []byte(`ovf:href="box-disk1.vmdk"`)) {
					t.Error("box.ovf does not name the disk")
				}
				got = raw(t, "vmdk", write(t, files["box-disk1.vmdk"]))
			}
			if !bytes.Equal(got, want) {
				t.Errorf("the content is another: %d bytes, want %d", len(got), len(want))
			}
		})
	}
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
	var envelope struct {
		References struct {
			File struct {
				Href string `xml:"href,attr"`
				Size int    `xml:"size,attr"`
			}
		}
		DiskSection struct {
			Disk struct {
				Capacity int `xml:"capacity,attr"`
			}
		}
	}
	if err := xml.Unmarshal(files["coracle.ovf"], &envelope); err != nil {
		t.Fatal(err)
	}
	if r := envelope.References.File; r.Href != "coracle-disk1.vmdk" || r.Size != len(files["coracle-disk1.vmdk"]) || envelope.DiskSection.Disk.Capacity != 9<<20 {
		t.Errorf("the description says %+v", envelope)
	}
	return raw(t, "vmdk", write(t, files["coracle-disk1.vmdk"]))
}

// TestSame converts twice: what is not stamped is the same to the bit.
func TestSame(t *testing.T) {
	source := disk(t)
	for _, f := range Formats() {
		var sums [2][]byte
		for i := range sums {
			path := filepath.Join(t.TempDir(), "a"+f.File)
			if err := f.Write(t.Context(), source, path); err != nil {
				t.Fatal(err)
			}
			sum, err := digest(path)
			if err != nil {
				t.Fatal(err)
			}
			sums[i] = sum
		}
		if f.Stamped == "" && !bytes.Equal(sums[0], sums[1]) {
			t.Errorf("%s: two conversions differ, and the table does not say why", f.Name)
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
