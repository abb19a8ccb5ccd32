package bootstate

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/image/grub"
	"github.com/coracle-os/coracle/image/uki"
	"github.com/coracle-os/coracle/initrd/entries"
)

var hashOne, hashTwo = strings.Repeat("1", 64), strings.Repeat("2", 64)

// partition is an EFI system partition of a test.
type partition struct {
	t    testing.TB
	dir  string
	left *int // operations until the power is cut; nil: it is not
}

func newPartition(t testing.TB) partition {
	t.Helper()
	p := partition{t: t, dir: t.TempDir()}
	for _, name := range []string{entries.Directory, grub.Directory} {
		if err := os.MkdirAll(filepath.Join(p.dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p partition) path(name string) string { return filepath.Join(p.dir, name) }
func (p partition) linux() entries.Dir {
	return cutDir{entries.OSDir(p.path(entries.Directory)), p.left}
}
func (p partition) grub() GRUB { return GRUB{cutDir{entries.OSDir(p.path(grub.Directory)), p.left}} }
func (p partition) with(f func(entries.Dir) error) error {
	return With(p.linux(), []Loader{SystemdBoot{}, p.grub()}, f)
}

// add writes a UKI that starts a root hash; "" is one that cannot be read.
func (p partition) add(name, rootHash string) {
	p.t.Helper()
	content := []byte("no UKI")
	if rootHash != "" {
		stub, err := os.ReadFile("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
		if err != nil {
			p.t.Fatal(err)
		}
		content, err = uki.Build(stub, uki.Section{Name: ".cmdline", Data: []byte("roothash=" + rootHash + " console=tty0")},
			uki.Section{Name: ".linux", Data: bytes.Repeat([]byte("k"), 1000)}, uki.Section{Name: ".initrd", Data: []byte("initrd")})
		if err != nil {
			p.t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(p.path(entries.Directory), name), content, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p partition) names(dir string) []string {
	p.t.Helper()
	list, err := os.ReadDir(p.path(dir))
	if err != nil {
		p.t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// state is what GRUB goes by, in words.
func (p partition) state() string {
	p.t.Helper()
	s, err := p.grub().read()
	if err != nil {
		return "unreadable"
	}
	var words []string
	for _, e := range s.Entries {
		left := "good"
		if !e.Good {
			left = string(rune('0' + e.Left))
		}
		words = append(words, e.Version+" "+left)
	}
	return strings.Join(words, ", ")
}

// starts does what boot.cfg does with the state: it counts the first entry that
// has tries left, and returns the version that it starts.
func (p partition) starts() string {
	p.t.Helper()
	s, err := p.grub().read()
	if err != nil {
		return ""
	}
	for i, e := range s.Entries {
		if e.Good {
			return e.Version
		}
		if e.Left > 0 {
			s.Entries[i].Left--
			for _, name := range grub.EnvNames {
				if err := os.WriteFile(filepath.Join(p.path(grub.Directory), name), s.Encode(), 0o644); err != nil {
					p.t.Fatal(err)
				}
			}
			return e.Version
		}
	}
	return ""
}

func nothing(entries.Dir) error { return nil }

func plan(f func(entries.Listing) ([]entries.Step, error)) func(entries.Dir) error {
	return func(d entries.Dir) error {
		l, err := entries.List(d)
		if err != nil {
			return err
		}
		steps, err := f(l)
		if err != nil {
			return err
		}
		return entries.Apply(d, steps, nil)
	}
}

// TestLife takes a release on BIOS from arming to its end, and to being good.
func TestLife(t *testing.T) {
	p := newPartition(t)
	p.add("coracle-1.efi", hashOne)
	p.add("coracle-2+3-0.efi", hashTwo)
	if err := p.with(nothing); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"1.cfg", "1.sum", "2.cfg", "2.sum", "boot-1.env", "boot-2.env"}, p.names(grub.Directory)); diff != "" {
		t.Errorf("GRUB's files (-want +got):\n%s", diff)
	}
	if got := p.state(); got != "2 3, 1 good" {
		t.Errorf("state %q", got)
	}
	for _, want := range []string{"2", "2", "2", "1"} {
		if got := p.starts(); got != want {
			t.Errorf("GRUB starts %s, want %s", got, want)
		}
	}
	if err := p.with(nothing); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"coracle-1.efi", "coracle-2+0-3.efi"}, p.names(entries.Directory)); diff != "" {
		t.Errorf("after three tries (-want +got):\n%s", diff)
	}
	if got := p.state(); got != "1 good, 2 0" {
		t.Errorf("state %q", got)
	}
	rollback := plan(func(l entries.Listing) ([]entries.Step, error) { return entries.PlanRollback(l, hashOne, hashTwo) })
	if err := p.with(rollback); err != nil {
		t.Fatal(err)
	}
	if got := p.state(); got != "2 3, 1 good" {
		t.Errorf("the operator wants it once more: state %q", got)
	}
	p.starts()
	good := plan(func(l entries.Listing) ([]entries.Step, error) { return entries.PlanGood(l, hashTwo) })
	if err := p.with(good); err != nil {
		t.Fatal(err)
	}
	if got := p.state(); got != "2 good, 1 good" {
		t.Errorf("marked good: state %q", got)
	}
	disarm := plan(func(l entries.Listing) ([]entries.Step, error) { return entries.PlanDisarm(l, hashTwo) })
	if err := p.with(disarm); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"2.cfg", "2.sum", "boot-1.env", "boot-2.env"}, p.names(grub.Directory)); diff != "" {
		t.Errorf("GRUB's files after one is gone (-want +got):\n%s", diff)
	}
}

// TestMoved moves a disk with a release on trial between the firmwares, and has
// odd things on it.
func TestMoved(t *testing.T) {
	for name, c := range map[string]struct {
		change func(p partition) // after publishing 2+3-0 beside 1
		names  string
		state  string
	}{
		"counted by GRUB, then by systemd-boot": {func(p partition) {
			p.starts()
			p.rename("coracle-2+3-0.efi", "coracle-2+2-1.efi")
		}, "coracle-1.efi coracle-2+2-1.efi", "2 2, 1 good"},
		"counted by GRUB twice": {func(p partition) { p.starts(); p.starts() }, "coracle-1.efi coracle-2+1-2.efi", "2 1, 1 good"},
		"marked good on UEFI": {func(p partition) {
			p.starts()
			p.rename("coracle-2+3-0.efi", "coracle-2.efi")
		}, "coracle-1.efi coracle-2.efi", "2 good, 1 good"},
		"another release of the same version": {func(p partition) {
			p.starts()
			p.add("coracle-2+3-0.efi", strings.Repeat("3", 64))
		}, "coracle-1.efi coracle-2+3-0.efi", "2 3, 1 good"},
		"its UKI destroyed": {func(p partition) {
			p.starts()
			p.starts()
			p.starts()
			p.add("coracle-2+3-0.efi", "")
		}, "coracle-1.efi coracle-2+0-3.efi", "1 good, 2 0"},
		"both copies gone": {func(p partition) {
			p.remove(grub.EnvNames[0])
			p.remove(grub.EnvNames[1])
		}, "coracle-1.efi coracle-2+3-0.efi", "2 3, 1 good"},
		"one copy gone, the other counted": {func(p partition) {
			p.starts()
			p.remove(grub.EnvNames[0])
		}, "coracle-1.efi coracle-2+2-1.efi", "2 2, 1 good"},
		"a half-done write": {func(p partition) {
			p.write("boot-1.env.new", "half")
			p.write("3.sum", "of a release that is gone")
		}, "coracle-1.efi coracle-2+3-0.efi", "2 3, 1 good"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPartition(t)
			p.add("coracle-1.efi", hashOne)
			p.add("coracle-2+3-0.efi", hashTwo)
			if err := p.with(nothing); err != nil {
				t.Fatal(err)
			}
			c.change(p)
			if err := p.with(nothing); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(p.names(entries.Directory), " "); got != c.names {
				t.Errorf("entries %s\n   want %s", got, c.names)
			}
			if got := p.state(); got != c.state {
				t.Errorf("state %q, want %q", got, c.state)
			}
			if got := p.names(grub.Directory); slices.Contains(got, "boot-1.env.new") || slices.Contains(got, "3.sum") {
				t.Errorf("left behind: %q", got)
			}
			for _, name := range grub.EnvNames {
				if data, err := os.ReadFile(filepath.Join(p.path(grub.Directory), name)); err != nil {
					t.Error(err)
				} else if _, err := grub.Decode(data); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

func (p partition) rename(from, to string) {
	p.t.Helper()
	if err := os.Rename(filepath.Join(p.path(entries.Directory), from), filepath.Join(p.path(entries.Directory), to)); err != nil {
		p.t.Fatal(err)
	}
}

func (p partition) remove(name string) {
	p.t.Helper()
	if err := os.Remove(filepath.Join(p.path(grub.Directory), name)); err != nil {
		p.t.Fatal(err)
	}
}

func (p partition) write(name, content string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.path(grub.Directory), name), []byte(content), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

var errCut = errors.New("the power is cut")

// cutDir is a Dir that works until the power is cut: the write in which that
// happens leaves half of its content.
type cutDir struct {
	entries.OSDir
	left *int
}

func (d cutDir) cut() bool {
	if d.left == nil {
		return false
	}
	*d.left--
	return *d.left < 0
}

func (d cutDir) Write(name string, content io.Reader) error {
	if !d.cut() {
		return d.OSDir.Write(name, content)
	}
	all, err := io.ReadAll(content)
	if err == nil && *d.left == -1 {
		err = os.WriteFile(filepath.Join(string(d.OSDir), name), all[:len(all)/2], 0o644)
	}
	return errors.Join(errCut, err)
}

func (d cutDir) Rename(from, to string) error {
	if d.cut() {
		return errCut
	}
	return d.OSDir.Rename(from, to)
}

func (d cutDir) Remove(name string) error {
	if d.cut() {
		return errCut
	}
	return d.OSDir.Remove(name)
}

func (d cutDir) Sync() error {
	if d.cut() {
		return errCut
	}
	return nil
}

// TestPowerCuts cuts the power at every step of marking a release good: GRUB
// always has a whole state that starts one of the two, and the next running
// system ends where it would have ended.
func TestPowerCuts(t *testing.T) {
	good := plan(func(l entries.Listing) ([]entries.Step, error) { return entries.PlanGood(l, hashTwo) })
	for step := 0; ; step++ {
		p := newPartition(t)
		p.add("coracle-1.efi", hashOne)
		p.add("coracle-2+3-0.efi", hashTwo)
		if err := p.with(nothing); err != nil {
			t.Fatal(err)
		}
		p.starts()
		left := step
		cut := p
		cut.left = &left
		err := cut.with(good)
		if err == nil && step > 5 {
			break
		}
		if !errors.Is(err, errCut) {
			t.Fatalf("step %d: %v", step, err)
		}
		if got := p.state(); got != "2 2, 1 good" && got != "2 good, 1 good" {
			t.Errorf("step %d: state %q", step, got)
		}
		if got := p.starts(); got != "2" {
			t.Errorf("step %d: GRUB starts %q", step, got)
		}
		if err := p.with(good); err != nil {
			t.Fatal(err)
		}
		if got := p.state(); got != "2 good, 1 good" {
			t.Errorf("step %d: in the end %q", step, got)
		}
		if step > 100 {
			t.Fatal("no end")
		}
	}
}

func TestLoaders(t *testing.T) {
	p := newPartition(t)
	if got := Loaders(p.path, false); len(got) != 2 {
		t.Errorf("%d loaders, want 2", len(got))
	}
	full := lenient{GRUB{entries.OSDir("/nowhere")}}
	if err := errors.Join(full.Settle(p.linux()), full.Publish(p.linux())); err != nil {
		t.Errorf("on UEFI: %v", err)
	}
	if err := (GRUB{entries.OSDir("/nowhere")}).Publish(p.linux()); err == nil {
		t.Error("on BIOS: no error")
	}
	if got := Loaders(func(string) string { return "/nowhere" }, false); len(got) != 1 {
		t.Errorf("a disk without GRUB: %d loaders, want 1", len(got))
	}
	if UEFI(p.dir) {
		t.Error("UEFI without its directory in sysfs")
	}
}
