package tufrepo

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// A machine that has seen the repository since the first root follows every
// rotation, and one that comes late too.
func TestRotate(t *testing.T) {
	p := newPlace(t, 3, 2)
	server := serve(t, p.dir)
	one, _ := fakeBuild(t, "1.0.0")
	p.publish(t, one, Options{Channel: "stable"})
	cache := t.TempDir()
	check := func(when string) {
		t.Helper()
		for name, dir := range map[string]string{"machine": cache, "late machine": t.TempDir()} {
			c, err := connect(t, server, p.rootFile(t, 1), dir, p.clock.now())
			if err != nil {
				t.Fatalf("%s: %s: %v", when, name, err)
			}
			if ch, err := c.channel("stable"); err != nil || ch.Version != "1.0.0" {
				t.Fatalf("%s: %s: %+v, %v", when, name, ch, err)
			}
		}
	}
	check("at first")
	for i, role := range append(Roles(), "") {
		r := p.open(t)
		if missing, err := r.Rotate(role, nil, p.keys); err != nil || missing != 0 {
			t.Fatalf("rotate %q: %d missing, %v", role, missing, err)
		}
		if r.RootVersion() != int64(i+2) {
			t.Fatalf("rotate %q: root %d, want %d", role, r.RootVersion(), i+2)
		}
		r.Close()
		check("after " + role)
	}
	r := p.open(t)
	defer r.Close()
	for name, test := range map[string]struct {
		role string
		old  []string
		want string
	}{
		"role": {"mirror", nil, `role "mirror"`}, "key": {"root", []string{"123456789"}, `no key "123456789"`},
	} {
		if _, err := r.Rotate(test.role, test.old, p.keys); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, test.want)
		}
	}
	if _, err := r.Sign(); err == nil || !strings.Contains(err.Error(), "coracle key rotate") {
		t.Errorf("nothing to sign: got %v", err)
	}
}

// Root keys lie in different places: a root below the threshold is not
// published, and clients that are shown it do not take it.
func TestThreshold(t *testing.T) {
	p := newPlace(t, 3, 2)
	server := serve(t, p.dir)
	roots, err := filepath.Glob(filepath.Join(p.keys, "root-*.key"))
	if err != nil || len(roots) != 3 {
		t.Fatalf("%q, %v", roots, err)
	}
	away := t.TempDir()
	for _, f := range roots[1:] {
		if err := os.Rename(f, filepath.Join(away, filepath.Base(f))); err != nil {
			t.Fatal(err)
		}
	}
	r := p.open(t)
	missing, err := r.Rotate(metadata.TIMESTAMP, nil)
	if err != nil || missing != 1 {
		t.Fatalf("%d missing, %v; want 1", missing, err)
	}
	if _, err := r.Rotate(metadata.TARGETS, nil); err == nil || !strings.Contains(err.Error(), "wait for signatures") {
		t.Errorf("a second rotation: got %v", err)
	}
	staged := r.stagedFile()
	r.Close()
	// A careless or hostile hand publishes it all the same.
	weak, err := os.ReadFile(staged)
	if err != nil {
		t.Fatal(err)
	}
	published := filepath.Join(p.dir, metadataName(2, metadata.ROOT))
	if err := os.WriteFile(published, weak, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := connect(t, server, p.rootFile(t, 1), t.TempDir(), p.clock.now()); err == nil || !strings.Contains(err.Error(), "not enough signatures") {
		t.Errorf("below the threshold: got %v", err)
	}
	if err := os.Remove(published); err != nil {
		t.Fatal(err)
	}
	keys, err := LoadKeys(p.keys, away)
	if err != nil {
		t.Fatal(err)
	}
	if r, err = Open(p.dir, keys, p.clock.now); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if missing, err := r.Sign(); err != nil || missing != 0 || r.RootVersion() != 2 {
		t.Fatalf("%d missing, %v, root %d", missing, err, r.RootVersion())
	}
	if _, err := os.Stat(staged); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the staged root is still there: %v", err)
	}
	if _, err := connect(t, server, p.rootFile(t, 1), t.TempDir(), p.clock.now()); err != nil {
		t.Fatal(err)
	}
}

// A rotation that is killed before any of its writes leaves what clients
// accept; it can be done again.
func TestKilledRotation(t *testing.T) {
	for kill := 0; ; kill++ {
		p := newPlace(t, 1, 1)
		server := serve(t, p.dir)
		r := p.open(t)
		writes := 0
		r.beforeWrite = func(string) error {
			if writes++; writes > kill {
				return errKilled
			}
			return nil
		}
		_, err := r.Rotate(metadata.TARGETS, nil)
		r.Close()
		if err != nil && !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		if _, err := connect(t, server, p.rootFile(t, 1), t.TempDir(), p.clock.now()); err != nil {
			t.Fatalf("killed before write %d: %v", kill, err)
		}
		if err == nil {
			if kill != 4 {
				t.Errorf("the rotation has %d writes, want targets, snapshot, timestamp and root", kill)
			}
			return
		}
		r = p.open(t)
		if _, err := r.Rotate(metadata.TARGETS, nil); err != nil {
			t.Fatalf("again after write %d: %v", kill, err)
		}
		r.Close()
		if _, err := connect(t, server, p.rootFile(t, 1), t.TempDir(), p.clock.now()); err != nil {
			t.Fatalf("again after write %d: %v", kill, err)
		}
	}
}

// A key that is lost: the root goes first, and the rest follows, if need be
// by the next publisher.
func TestLostKey(t *testing.T) {
	for _, role := range Roles()[1:] {
		for kill := 1; kill < 5; kill++ {
			p := newPlace(t, 1, 1)
			server := serve(t, p.dir)
			lost, err := filepath.Glob(filepath.Join(p.keys, role+"-*.key"))
			if err != nil || len(lost) != 1 || os.Remove(lost[0]) != nil {
				t.Fatal(lost, err)
			}
			r := p.open(t)
			writes := 0
			r.beforeWrite = func(string) error {
				if writes++; writes > kill {
					return errKilled
				}
				return nil
			}
			if _, err := r.Rotate(role, nil, p.keys); err != nil && !errors.Is(err, errKilled) {
				t.Fatalf("%s: %v", role, err)
			}
			r.Close()
			r = p.open(t)
			if _, err := r.Refresh(); err != nil {
				t.Fatalf("%s, killed before write %d: %v", role, kill, err)
			}
			r.Close()
			if _, err := connect(t, server, p.rootFile(t, 1), t.TempDir(), p.clock.now()); err != nil {
				t.Fatalf("%s, killed before write %d: %v", role, kill, err)
			}
		}
	}
}

func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	keys := Keys{}
	key, err := keys.Generate(dir, metadata.TARGETS)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(key.File); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	loaded, err := LoadKeys(dir)
	if err != nil || loaded[key.ID] == nil || loaded[key.ID].Role != metadata.TARGETS {
		t.Errorf("loaded %v, %v", loaded, err)
	}
	for name, text := range map[string]string{"empty": "", "text": "hello", "pem": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if err := os.WriteFile(filepath.Join(dir, "bad.key"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKeys(dir); err == nil || !strings.Contains(err.Error(), "bad.key") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := LoadKeys(filepath.Join(dir, "none")); err == nil {
		t.Error("no directory, no error")
	}
}
