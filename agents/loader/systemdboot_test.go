package loader

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/agents/efiboot"
	"github.com/coracle-os/coracle/image/sdboot"
	"github.com/coracle-os/coracle/initrd/entries"
)

// program is Debian's systemd-boot on this machine, with another version.
func program(t testing.TB, version string) []byte {
	t.Helper()
	content, err := os.ReadFile("/" + sdboot.InRoot)
	if err != nil {
		t.Fatal(err)
	}
	start, end := []byte("#### LoaderInfo: systemd-boot "), []byte(" ####")
	before, after, _ := bytes.Cut(content, start)
	old, after, found := bytes.Cut(after, end)
	if !found || len(version) > len(old) {
		t.Fatalf("the version is %q", old)
	}
	padded := version + strings.Repeat("0", len(old)-len(version))
	return bytes.Join([][]byte{before, start, []byte(padded), end, after}, nil)
}

// machine is one of a test, with its partition in a directory.
type machine struct {
	t         *testing.T
	dir       string
	fresh     []byte
	variables efiboot.Variables
	tried     string
	trust     func(io.ReaderAt) error
	first     entries.Dir // nil: in dir
	second    entries.Dir
}

func newMachine(t *testing.T) *machine {
	m := &machine{t: t, dir: t.TempDir(), variables: efiboot.Variables{Dir: t.TempDir()}}
	for _, name := range []string{sdboot.Fallback, sdboot.Second} {
		if err := os.MkdirAll(filepath.Join(m.dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.first, m.second = m.at(sdboot.Fallback), m.at(sdboot.Second)
	return m
}

func (m *machine) at(name string) entries.Dir {
	return entries.OSDir(filepath.Join(m.dir, filepath.Dir(name)))
}

// starts has the firmware start a copy, which says so.
func (m *machine) starts(name string) {
	m.t.Helper()
	if name == "" {
		return
	}
	version := ""
	if l := look(map[string]entries.Dir{sdboot.Fallback: m.first, sdboot.Second: m.second}[name], name); l.err == nil {
		version = l.Info()
	}
	for variable, text := range map[string]string{"LoaderImageIdentifier": windows(name), "LoaderInfo": version} {
		data := []byte{6, 0, 0, 0}
		for _, u := range utf16.Encode([]rune(text + "\x00")) {
			data = binary.LittleEndian.AppendUint16(data, u)
		}
		path := filepath.Join(m.variables.Dir, variable+"-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			m.t.Fatal(err)
		}
	}
}

// next tells if the firmware is asked to start the second copy, and forgets it
// as the firmware does.
func (m *machine) next() bool {
	path := filepath.Join(m.variables.Dir, "BootNext-8be4df61-93ca-11d2-aa0d-00e098032b8c")
	data, err := os.ReadFile(path)
	os.Remove(path)
	return err == nil && bytes.Equal(data, []byte{7, 0, 0, 0, 1, 0})
}

func (m *machine) update() (string, error) {
	root := fstest.MapFS{}
	if m.fresh != nil {
		root[sdboot.InRoot] = &fstest.MapFile{Data: m.fresh}
	}
	return UEFI{Root: root, Fallback: m.first, Second: m.second, Variables: m.variables, Trust: m.trust,
		Partition: efiboot.Partition{Number: 2, UUID: uuid.UUID{1}, Start: 4096, Size: 1 << 20},
		Tried:     func() (string, error) { return m.tried, nil },
		SetTried:  func(s string) error { m.tried = s; return nil },
	}.Update()
}

func (m *machine) put(name string, content []byte) {
	m.t.Helper()
	if content == nil {
		return
	}
	if err := os.WriteFile(filepath.Join(m.dir, name), content, 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func TestSystemdBoot(t *testing.T) {
	one, two, three := program(t, "901."), program(t, "902."), program(t, "903.")
	damaged := bytes.Clone(two)
	damaged[len(damaged)/2] ^= 0xff
	half, foreign := two[:len(two)/2], bytes.ReplaceAll(two, []byte("LoaderInfo: systemd-boot"), []byte("LoaderInfo: something el"))
	names := map[string]string{"": "none", string(one): "1", string(two): "2", string(three): "3", string(damaged): "flipped", string(half): "half", string(foreign): "foreign"}
	for name, c := range map[string]struct {
		fresh, first, second []byte
		by                   string
		want                 string // first, second, and "next" when it is asked for
		text                 string // done or error, a part of it
	}{
		"the same":                       {two, two, two, sdboot.Fallback, "2 2", ""},
		"a release without":              {nil, two, one, sdboot.Fallback, "2 1", ""},
		"a newer one":                    {three, two, two, sdboot.Fallback, "2 3 next", "on trial"},
		"it has started the machine":     {three, two, three, sdboot.Second, "3 3", "has started this machine"},
		"it has not":                     {three, two, three, sdboot.Fallback, "2 3 next", "on trial"},
		"an older release":               {one, two, two, sdboot.Fallback, "2 2", ""},
		"an older release, one on trial": {one, two, three, sdboot.Second, "2 3", ""},
		"the second was left behind":     {two, two, one, sdboot.Fallback, "2 2", "not like the first"},
		"the second is gone":             {two, two, nil, sdboot.Fallback, "2 2", "not like the first"},
		"the second is damaged":          {two, two, half, sdboot.Fallback, "2 2", "not like the first"},
		"the first is damaged":           {two, half, two, sdboot.Second, "2 2", "cannot be read"},
		"the first is damaged, trial":    {one, half, three, sdboot.Second, "3 3", "cannot be read"},
		"the first is damaged, old":      {three, half, two, sdboot.Fallback, "3 2", "cannot be read"},
		"a byte of the first":            {two, damaged, two, sdboot.Fallback, "2 2", "damaged"},
		"a byte of the second":           {two, two, damaged, sdboot.Fallback, "2 2", "not like the first"},
		"both are gone":                  {two, nil, nil, "", "2 2", "neither"},
		"of another system":              {three, foreign, two, sdboot.Second, "foreign 2", "BOOTX64.EFI: it is not systemd-boot"},
		"a second of another system":     {three, two, foreign, sdboot.Fallback, "2 foreign", "systemd-bootx64.efi: it is not systemd-boot"},
		"the release's own is no loader": {half, two, two, sdboot.Fallback, "2 2", "that of the release"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.fresh = c.fresh
			m.put(sdboot.Fallback, c.first)
			m.put(sdboot.Second, c.second)
			m.put(sdboot.Second+".new", []byte("left by a power cut"))
			m.starts(c.by)
			done, err := m.update()
			if text := done + fmt.Sprint(err); !strings.Contains(text, c.text) || c.text == "" && (done != "" || err != nil) {
				t.Errorf("%q, %v, want %q", done, err, c.text)
			}
			first, _ := os.ReadFile(filepath.Join(m.dir, sdboot.Fallback))
			second, _ := os.ReadFile(filepath.Join(m.dir, sdboot.Second))
			got := names[string(first)] + " " + names[string(second)]
			if m.next() {
				got += " next"
			}
			if got != c.want {
				t.Errorf("the copies are %s, want %s", got, c.want)
			}
		})
	}
}

// TestTries has a firmware that never starts the new one; another release with
// the next one is tried anew, and going back to the old release changes nothing.
func TestTries(t *testing.T) {
	m := newMachine(t)
	one := program(t, "901.")
	m.put(sdboot.Fallback, one)
	m.put(sdboot.Second, one)
	for _, version := range []string{"902.", "903."} {
		m.fresh = program(t, version)
		for i := range Tries + 2 {
			m.starts(sdboot.Fallback)
			done, err := m.update()
			if want := i < Tries; m.next() != want || (err == nil) != want {
				t.Errorf("%s, start %d: %q, %v", version, i, done, err)
			}
			if err != nil && !strings.Contains(err.Error(), "3 times and did not; the one before stays") {
				t.Error(err)
			}
		}
		m.fresh = one
		if done, err := m.update(); done != "" || err != nil || m.next() {
			t.Errorf("back: %q, %v", done, err)
		}
	}
	if first, _ := os.ReadFile(filepath.Join(m.dir, sdboot.Fallback)); !bytes.Equal(first, one) {
		t.Error("the first copy is not the old one")
	}
}

// TestRefused has reasons that keep the old one everywhere, or in the first place.
func TestRefused(t *testing.T) {
	one, two := program(t, "901."), program(t, "902.")
	begin := func(t *testing.T) *machine {
		m := newMachine(t)
		m.fresh = two
		m.put(sdboot.Fallback, one)
		m.put(sdboot.Second, one)
		m.starts(sdboot.Fallback)
		return m
	}
	check := func(t *testing.T, m *machine, first, second []byte) {
		t.Helper()
		for name, want := range map[string][]byte{sdboot.Fallback: first, sdboot.Second: second} {
			if got, err := os.ReadFile(filepath.Join(m.dir, name)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s is another: %v", name, err)
			}
		}
		if m.next() {
			t.Error("the firmware is asked for the second copy")
		}
	}
	t.Run("signature", func(t *testing.T) {
		m := begin(t)
		refused := errors.New("refused")
		m.trust = func(io.ReaderAt) error { return refused }
		if done, err := m.update(); done != "" || !errors.Is(err, refused) {
			t.Errorf("%q, %v", done, err)
		}
		check(t, m, one, one)
		// It was there already, of a time without Secure Boot.
		m.put(sdboot.Second, two)
		if done, err := m.update(); done != "" || !errors.Is(err, refused) {
			t.Errorf("%q, %v", done, err)
		}
		check(t, m, one, two)
	})
	t.Run("variables", func(t *testing.T) {
		m := begin(t)
		m.variables.Dir += "/nowhere"
		done, err := m.update()
		if !errors.Is(err, efiboot.ErrReadOnly) || !strings.Contains(err.Error(), "only "+sdboot.Fallback+" starts this machine") {
			t.Errorf("%q, %v", done, err)
		}
		check(t, m, one, two)
	})
	t.Run("full partition", func(t *testing.T) {
		m := newMachine(t)
		m.fresh = two
		if err := unix.Mount("tmpfs", m.dir, "tmpfs", 0, fmt.Sprintf("size=%d", (len(one)*5/2)&^4095)); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(m.dir, unix.MNT_DETACH)
		for _, name := range []string{sdboot.Fallback, sdboot.Second} {
			if err := os.MkdirAll(filepath.Join(m.dir, filepath.Dir(name)), 0o755); err != nil {
				t.Fatal(err)
			}
			m.put(name, one)
		}
		m.starts(sdboot.Fallback)
		if done, err := m.update(); done != "" || !errors.Is(err, entries.ErrFull) {
			t.Errorf("%q, %v", done, err)
		}
		check(t, m, one, one)
		names, err := m.second.Names()
		if diff := cmp.Diff(1, len(names)); diff != "" || err != nil {
			t.Errorf("left behind: %v, %v", names, err)
		}
	})
}
