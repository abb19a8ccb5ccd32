package loader

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/image/esp"
	"github.com/coracle-os/coracle/image/sdboot"
	"github.com/coracle-os/coracle/image/tree"
	"github.com/coracle-os/coracle/initrd/entries"
)

// fat is a FAT32 file system in an image, which mtools change, with a power cut
// between any two sectors that a change writes, in both directions.
type fat struct {
	t     *testing.T
	file  string
	now   []byte
	cuts  int
	check func(image []byte, at string)
}

// fatDir is a directory of it.
type fatDir struct {
	*fat
	dir string
}

func (d fatDir) path(name string) string { return "::/" + d.dir + "/" + name }

func (f *fat) mtools(args ...string) {
	f.t.Helper()
	cmd := exec.Command(args[0], append([]string{"-i", f.file}, args[1:]...)...)
	cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		f.t.Fatalf("%q: %v: %s", args, err, out)
	}
}

// done checks every state that a power cut could leave of what was changed.
func (f *fat) done(what string) {
	f.t.Helper()
	const sector = 512
	after, err := os.ReadFile(f.file)
	if err != nil {
		f.t.Fatal(err)
	}
	var changed []int
	for at := 0; at < len(after); at += sector {
		if !bytes.Equal(after[at:at+sector], f.now[at:at+sector]) {
			changed = append(changed, at)
		}
	}
	for range 2 {
		image := bytes.Clone(f.now)
		for i, at := range changed {
			copy(image[at:], after[at:at+sector])
			if len(changed) < 50 || i%40 == 0 || i < 5 || i > len(changed)-5 {
				f.check(image, fmt.Sprintf("%s, %d sectors of %d", what, i+1, len(changed)))
				f.cuts++
			}
		}
		slices.Reverse(changed)
	}
	f.now = after
}

func read(image []byte, name string) ([]byte, error) {
	volume, err := esp.Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		return nil, err
	}
	files, err := volume.Files()
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if file.Path == name {
			r, err := volume.OpenFile(file)
			if err != nil {
				return nil, err
			}
			return io.ReadAll(r)
		}
	}
	return nil, os.ErrNotExist
}

func (d fatDir) Names() (map[string]int64, error) { return nil, nil }
func (d fatDir) Free() (int64, error)             { return 1 << 30, nil }
func (d fatDir) Sync() error                      { return nil }

type reader struct{ *bytes.Reader }

func (reader) Close() error { return nil }

func (d fatDir) Open(name string) (entries.Reader, error) {
	content, err := read(d.now, d.dir+"/"+name)
	return reader{bytes.NewReader(content)}, err
}

func (d fatDir) Remove(name string) error {
	if _, err := read(d.now, d.dir+"/"+name); err == nil {
		d.mtools("mdel", d.path(name))
		d.done("remove " + name)
	}
	return nil
}

func (d fatDir) Write(name string, content io.Reader) error {
	all, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	host := filepath.Join(d.t.TempDir(), "file")
	if err := os.WriteFile(host, all, 0o644); err != nil {
		return err
	}
	d.mtools("mcopy", "-o", host, d.path(name))
	d.done("write " + name)
	return nil
}

// Rename does what Linux does in an existing name: it points to the other
// clusters, and the other name goes. The clusters that were there are freed when
// nobody has them open; here they are left.
func (d fatDir) Rename(from, to string) error {
	image := bytes.Clone(d.now)
	find := func(name string) int {
		base, extension, _ := strings.Cut(name, ".")
		short := fmt.Sprintf("%-8.8s%-3.3s", strings.ToUpper(base), strings.ToUpper(extension))
		if len(base) > 8 || strings.Contains(extension, ".") {
			short = fmt.Sprintf("%.6s~1%.3s", strings.ToUpper(base), strings.ToUpper(extension[strings.LastIndex("."+extension, "."):]))
		}
		at := bytes.Index(image, []byte(short))
		if at < 0 || bytes.Contains(image[at+1:], []byte(short)) {
			d.t.Fatalf("%s is not once in the image as %q", name, short)
		}
		return at
	}
	old, target := find(from), find(to)
	copy(image[target+20:target+22], image[old+20:old+22])
	copy(image[target+26:target+32], image[old+26:old+32])
	for at := old; at == old || image[at+11] == 0x0f; at -= 32 { // with the long name before it
		image[at] = 0xe5
	}
	if err := os.WriteFile(d.file, image, 0o644); err != nil {
		return err
	}
	d.done("rename " + from)
	return nil
}

// TestPowerCut cuts the power at every sector of an update: both copies are whole
// at any time, the one that the firmware starts by itself above all.
func TestPowerCut(t *testing.T) {
	one, two := program(t, "901."), program(t, "902.")
	f := &fat{t: t, file: filepath.Join(t.TempDir(), "esp")}
	image, err := os.Create(f.file)
	if err != nil {
		t.Fatal(err)
	}
	files, err := tree.New(tree.File(sdboot.Fallback, 0o644, one), tree.File(sdboot.Second, 0o644, one))
	if err == nil {
		err = esp.Write(image, esp.MinSize, files, esp.Options{Label: "ESP", VolumeID: 1, Time: time.Unix(1<<30, 0)})
	}
	if err != nil {
		t.Fatal(err)
	}
	image.Close()
	if f.now, err = os.ReadFile(f.file); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	m.fresh = two
	m.first, m.second = fatDir{f, filepath.Dir(sdboot.Fallback)}, fatDir{f, filepath.Dir(sdboot.Second)}
	f.check = func(image []byte, at string) {
		for _, name := range []string{sdboot.Fallback, sdboot.Second} {
			if got, err := read(image, name); err != nil || !bytes.Equal(got, one) && !bytes.Equal(got, two) {
				t.Errorf("%s: %s has %d bytes that are no loader: %v", at, name, len(got), err)
			}
		}
	}
	for i, by := range []string{sdboot.Fallback, sdboot.Second} {
		m.starts(by)
		if done, err := m.update(); err != nil {
			t.Fatalf("start %d: %q, %v", i, done, err)
		}
		if m.next() != (i == 0) {
			t.Errorf("start %d: BootNext", i)
		}
	}
	for _, name := range []string{sdboot.Fallback, sdboot.Second} {
		if got, _ := read(f.now, name); !bytes.Equal(got, two) {
			t.Errorf("%s is not the new one in the end", name)
		}
	}
	if f.cuts < 40 {
		t.Errorf("only %d cuts", f.cuts)
	}
	t.Logf("%d cuts", f.cuts)
}
