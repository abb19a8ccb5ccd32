package tufrepo

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/coracle-os/coracle/image/release"
)

// clock is a time that tests set.
type clock struct{ time.Time }

func newClock() *clock { return &clock{time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)} }

func (c *clock) now() time.Time { return c.Time }

// place is a repository with its keys.
type place struct {
	dir, keys string
	clock     *clock
}

func newPlace(t testing.TB, rootKeys, threshold int) *place {
	t.Helper()
	p := &place{filepath.Join(t.TempDir(), "repo"), filepath.Join(t.TempDir(), "keys"), newClock()}
	r, err := Create(p.dir, p.keys, rootKeys, threshold, p.clock.now)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return p
}

// open opens with the keys whose role is given, all without any.
func (p *place) open(t testing.TB, only ...string) *Repo {
	t.Helper()
	keys, err := LoadKeys(p.keys)
	if err != nil {
		t.Fatal(err)
	}
	for id, key := range keys {
		if len(only) > 0 && !slices.Contains(only, key.Role) {
			delete(keys, id)
		}
	}
	r, err := Open(p.dir, keys, p.clock.now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func (p *place) rootFile(t testing.TB, version int64) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(p.dir, metadataName(version, metadata.ROOT)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (p *place) publish(t testing.TB, b Build, o Options) {
	t.Helper()
	r := p.open(t)
	defer r.Close()
	if _, err := r.Publish(t.Context(), b, o); err != nil {
		t.Fatal(err)
	}
}

func TestUpdateOverHTTP(t *testing.T) {
	p := newPlace(t, 1, 1)
	server := serve(t, p.dir)
	one, _ := fakeBuild(t, "1.0.0")
	two, want := fakeBuild(t, "1.0.1", 7, 900)
	p.publish(t, one, Options{Channel: "stable"})
	cache := t.TempDir()
	c, err := connect(t, server, p.rootFile(t, 1), cache, p.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	running := c.update(t, "stable", nil)
	p.publish(t, two, Options{Channel: "stable"})
	server.bytes.Store(0)
	if c, err = connect(t, server, p.rootFile(t, 1), cache, p.clock.now()); err != nil {
		t.Fatal(err)
	}
	next := c.update(t, "stable", running)
	if !bytes.Equal(next.data, want.data) || !bytes.Equal(next.uki, want.uki) {
		t.Error("the machine does not have what was published")
	}
	if n := server.bytes.Load(); n > 200_000 {
		t.Errorf("two changed blocks cost %d bytes", n)
	}
}

func TestPromote(t *testing.T) {
	p := newPlace(t, 1, 1)
	one, _ := fakeBuild(t, "1.0.0")
	two, _ := fakeBuild(t, "1.1.0", 5)
	p.publish(t, one, Options{Channel: "alpha"})
	p.publish(t, two, Options{Channel: "alpha", Wave: release.Wave{{Percent: 10}}})
	r := p.open(t)
	before := size(t, p.dir)
	if got, err := r.Promote("alpha", "", Options{Channel: "stable"}); err != nil || got.Channel.Version != "1.1.0" {
		t.Fatalf("got %+v, %v", got, err)
	}
	if grown := size(t, p.dir) - before; grown > 5000 {
		t.Errorf("promoting wrote %d bytes", grown)
	}
	for name, test := range map[string]struct {
		from, version string
		options       Options
		want          string
	}{
		"not that version":   {"alpha", "1.0.0", Options{Channel: "beta"}, `channel "alpha" has 1.1.0, not 1.0.0`},
		"empty channel":      {"beta", "", Options{Channel: "stable"}, `channel "beta" has no release`},
		"unknown version":    {"", "9.9", Options{Channel: "stable"}, `["1.0.0" "1.1.0"]`},
		"older":              {"", "1.0.0", Options{Channel: "stable"}, "older than 1.1.0"},
		"bad channel":        {"", "1.0.0", Options{Channel: "../x"}, "want small letters"},
		"impossible percent": {"", "1.1.0", Options{Channel: "beta", Wave: release.Wave{{Percent: 200}}}, "200 percent"},
	} {
		if _, err := r.Promote(test.from, test.version, test.options); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, test.want)
		}
	}
	got, err := r.Promote("", "1.0.0", Options{Channel: "stable", Downgrade: true})
	if err != nil || !got.Channel.Downgrade {
		t.Errorf("a downgrade that is meant: %+v, %v", got, err)
	}
	server := serve(t, p.dir)
	c, err := connect(t, server, p.rootFile(t, 1), t.TempDir(), p.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	for channel, want := range map[string]string{"alpha": "1.1.0", "stable": "1.0.0"} {
		if ch, err := c.channel(channel); err != nil || ch.Version != want {
			t.Errorf("channel %s: %+v, %v; want %s", channel, ch, err, want)
		}
	}
}

func size(t testing.TB, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if info, err := d.Info(); err == nil && !d.IsDir() {
			n += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRefusals(t *testing.T) {
	p := newPlace(t, 1, 1)
	one, _ := fakeBuild(t, "1.0.0")
	p.publish(t, one, Options{Channel: "stable"})
	other, _ := fakeBuild(t, "1.0.0", 3)
	otherUKI := one
	otherUKI.UKI = []byte("another kernel")
	older, _ := fakeBuild(t, "0.9", 3)
	mixed, _ := fakeBuild(t, "1.1.0", 3)
	mixed.RootHash = one.RootHash
	badVersion, _ := fakeBuild(t, "next", 3)
	for name, test := range map[string]struct {
		build   Build
		options Options
		want    string
	}{
		"same version, other root": {other, Options{Channel: "stable"}, "published already with other content"},
		"same version, other UKI":  {otherUKI, Options{Channel: "stable"}, "published already with other content"},
		"older":                    {older, Options{Channel: "stable"}, "-downgrade"},
		"of two builds":            {mixed, Options{Channel: "stable"}, "the files are of two builds"},
		"no version":               {badVersion, Options{Channel: "stable"}, "want numbers with dots"},
		"no channel":               {one, Options{}, `channel ""`},
		"bad stepping stone":       {one, Options{Channel: "stable", MinVersion: "x"}, `version "x"`},
	} {
		t.Run(name, func(t *testing.T) {
			r := p.open(t)
			defer r.Close()
			if _, err := r.Publish(t.Context(), test.build, test.options); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
	p.publish(t, one, Options{Channel: "stable"}) // again, the same
	r := p.open(t)
	if _, err := Open(p.dir, r.Keys, p.clock.now); err == nil || !strings.Contains(err.Error(), "another publisher") {
		t.Errorf("two publishers: got %v", err)
	}
	if _, err := Create(p.dir, t.TempDir(), 1, 1, p.clock.now); err == nil || !strings.Contains(err.Error(), "there is one") {
		t.Errorf("a second init: got %v", err)
	}
	if _, err := Create(t.TempDir(), t.TempDir(), 2, 3, p.clock.now); err == nil {
		t.Error("a threshold above the number of keys is accepted")
	}
	if _, err := Open(t.TempDir(), nil, p.clock.now); err == nil || !strings.Contains(err.Error(), "coracle key init") {
		t.Errorf("no repository: got %v", err)
	}
	r.Close()
	if _, err := p.open(t, metadata.TIMESTAMP).Publish(t.Context(), one, Options{Channel: "stable"}); err == nil || !strings.Contains(err.Error(), "sign targets: 0 of the 1 keys") {
		t.Errorf("no targets key: got %v", err)
	}
}

var errKilled = errors.New("killed")

// A publisher that is killed before any of its writes leaves a repository that
// clients accept, old or new, and the next publisher goes on.
func TestKilledPublisher(t *testing.T) {
	p := newPlace(t, 1, 1)
	one, _ := fakeBuild(t, "1.0.0")
	two, _ := fakeBuild(t, "1.1.0", 100)
	p.publish(t, one, Options{Channel: "stable"})
	clean := t.TempDir()
	copyTree(t, p.dir, clean)
	for kill := 0; ; kill++ {
		if err := os.RemoveAll(p.dir); err != nil {
			t.Fatal(err)
		}
		copyTree(t, clean, p.dir)
		r := p.open(t)
		writes := 0
		r.beforeWrite = func(string) error {
			if writes++; writes > kill {
				return errKilled
			}
			return nil
		}
		_, err := r.Publish(t.Context(), two, Options{Channel: "stable"})
		r.Close()
		if err != nil && !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		server := serve(t, p.dir)
		c, cerr := connect(t, server, p.rootFile(t, 1), t.TempDir(), p.clock.now())
		if cerr != nil {
			t.Fatalf("killed before write %d: clients fail: %v", kill, cerr)
		}
		want := "1.0.0"
		if err == nil {
			want = "1.1.0"
		}
		if ch, cerr := c.channel("stable"); cerr != nil || ch.Version != want {
			t.Fatalf("killed before write %d: channel has %+v, %v; want %s", kill, ch, cerr, want)
		}
		p.publish(t, two, Options{Channel: "stable"})
		if c, cerr = connect(t, server, p.rootFile(t, 1), t.TempDir(), p.clock.now()); cerr != nil {
			t.Fatal(cerr)
		}
		c.update(t, "stable", nil)
		if left, _ := filepath.Glob(filepath.Join(p.dir, "*", "*", ".new-*")); len(left) > 0 {
			t.Errorf("killed before write %d: left %q", kill, left)
		}
		if err == nil {
			if kill < 8 {
				t.Errorf("a publication has %d writes only", kill)
			}
			return
		}
	}
}

func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from+"/.", to).CombinedOutput(); err != nil {
		if err := os.MkdirAll(to, 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err = exec.Command("cp", "-a", from+"/.", to).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
}

func TestRefresh(t *testing.T) {
	p := newPlace(t, 1, 1)
	one, _ := fakeBuild(t, "1.0.0")
	p.publish(t, one, Options{Channel: "stable"})
	server := serve(t, p.dir)
	p.clock.Time = p.clock.Add(8 * 24 * time.Hour)
	if _, err := connect(t, server, p.rootFile(t, 1), t.TempDir(), p.clock.now()); err == nil || !strings.Contains(err.Error(), "timestamp.json is expired") {
		t.Fatalf("a timestamp of eight days: got %v", err)
	}
	r := p.open(t, metadata.TIMESTAMP)
	if renewed, err := r.Refresh(); err != nil || len(renewed) != 1 {
		t.Fatalf("renewed %q, %v", renewed, err)
	}
	r.Close()
	if _, err := connect(t, server, p.rootFile(t, 1), t.TempDir(), p.clock.now()); err != nil {
		t.Fatal(err)
	}
	// When months have passed, the other keys sign too if they are there.
	p.clock.Time = p.clock.Add(150 * 24 * time.Hour)
	r = p.open(t)
	if renewed, err := r.Refresh(); err != nil || len(renewed) != 3 {
		t.Fatalf("renewed %q, %v", renewed, err)
	}
	if _, err := connect(t, server, p.rootFile(t, 1), t.TempDir(), p.clock.now().Add(6*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
}
