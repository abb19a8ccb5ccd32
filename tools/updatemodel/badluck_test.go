package updatemodel

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/initrd/entries"
	"github.com/coracle-os/coracle/rootfs/updatectl"
	"github.com/coracle-os/coracle/tools/tufrepo"
)

// scene is a machine on 1.0.0, and 1.1.0 on its channel.
type scene struct {
	*machine
	clock    *clock
	p        *publisher
	one, two system
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{clock: newClock(), one: newSystem(t, "1.0.0", 300, 0), two: newSystem(t, "1.1.0", 310, 2)}
	s.p = newPublisher(t, s.clock)
	s.machine = newMachine(t, s.one, s.clock, s.p)
	return s
}

func (s *scene) publish(t *testing.T) { s.p.publish(t, s.two, tufrepo.Options{}) }

// edit changes the published files that match a pattern.
func (s *scene) edit(t *testing.T, pattern string, change func([]byte) []byte) {
	t.Helper()
	editFiles(t, filepath.Join(s.p.dir, pattern), change)
}

func editFiles(t *testing.T, pattern string, change func([]byte) []byte) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no file %s: %v", pattern, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, change(b), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte { b[(at+len(b))%len(b)] ^= 1; return b }
}

// installed fails when the release is not in place and armed.
func (s *scene) installed(t *testing.T, want system) {
	t.Helper()
	if why := s.before().check(want, s.running); why != "" {
		t.Fatal(why)
	}
	s.checkRunning(t)
}

func TestWrongSignature(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	s.edit(t, "metadata/timestamp.json", func(b []byte) []byte {
		return regexp.MustCompile(`"sig":( ?)"....`).ReplaceAll(b, []byte(`"sig":$1"0000`))
	})
	s.start(t)
	s.fails(t, "not signed by the keys that this machine trusts")
	s.untouched(t)
}

// TestOtherKeys has metadata that are signed well, by somebody else.
func TestOtherKeys(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	other := newPublisher(t, s.clock)
	other.publish(t, s.two, tufrepo.Options{})
	s.write(t, "etc/coreos/update.conf", "SERVER="+other.url+"\nCHECK_INTERVAL=1000h\n")
	s.start(t)
	s.fails(t, "not signed by the keys that this machine trusts")
	s.untouched(t)
}

// TestBelowThreshold has a next root metadata with one signature of two.
func TestBelowThreshold(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	root, err := os.ReadFile(filepath.Join(s.p.dir, "metadata/1.root.json"))
	if err != nil {
		t.Fatal(err)
	}
	two := regexp.MustCompile(`"version":( ?)1`).ReplaceAll(root, []byte(`"version":${1}2`))
	if err := os.WriteFile(filepath.Join(s.p.dir, "metadata/2.root.json"), two, 0o644); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	s.fails(t, "not signed by the keys that this machine trusts")
	s.untouched(t)
}

func TestExpiredTimestamp(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	s.clock.add(365 * 24 * time.Hour)
	s.start(t)
	s.fails(t, "the signed metadata have expired")
	s.untouched(t)
}

// TestClockWrong has a clock that is years ahead, and then years behind,
// before it is set: nothing is installed, and nothing is spoilt.
func TestClockWrong(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	s.clock.add(9 * 365 * 24 * time.Hour)
	s.start(t)
	s.fails(t, "if that is wrong set it")
	s.clock.add(-18 * 365 * 24 * time.Hour)
	if said := s.update(t); !strings.Contains(said, "waiting for the right time") {
		t.Errorf("clock behind: %q", said)
	}
	s.untouched(t)
	s.clock.add(9 * 365 * 24 * time.Hour)
	s.update(t)
	s.installed(t, s.two)
}

func TestReplayedMetadata(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	old := t.TempDir()
	if err := os.CopyFS(old, os.DirFS(s.p.dir)); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	s.update(t)
	three := newSystem(t, "1.2.0", 300, 3)
	s.p.publish(t, three, tufrepo.Options{})
	s.update(t)
	s.installed(t, three)
	s.log.ops = nil
	s.write(t, "etc/coreos/update.conf", "SERVER="+s.p.serve(t, old)+"\nCHECK_INTERVAL=1000h\n")
	s.fails(t, "older than those seen before")
	s.untouched(t)
}

// TestMixAndMatch has the index of one release under the name of another.
func TestMixAndMatch(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	three := newSystem(t, "1.2.0", 310, 3)
	s.p.publish(t, three, tufrepo.Options{})
	index, err := filepath.Glob(filepath.Join(s.p.dir, "targets/1.1.0/*.image.index"))
	if err != nil || len(index) != 1 {
		t.Fatal(err, index)
	}
	other, err := os.ReadFile(index[0])
	if err != nil {
		t.Fatal(err)
	}
	s.edit(t, "targets/1.2.0/*.image.index", func([]byte) []byte { return other })
	s.start(t)
	s.fails(t, "do not belong together")
	s.untouched(t)
}

// TestMixedSnapshot has the snapshot of one publication with the timestamp of
// another.
func TestMixedSnapshot(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	files, _ := filepath.Glob(filepath.Join(s.p.dir, "metadata/*.snapshot.json"))
	first, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	s.p.publish(t, newSystem(t, "1.2.0", 310, 3), tufrepo.Options{})
	s.edit(t, "metadata/*.snapshot.json", func([]byte) []byte { return first })
	s.start(t)
	s.fails(t, "mirror")
	s.untouched(t)
}

func TestTruncatedBlob(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	s.edit(t, "targets/1.1.0/*.image.blob", func(b []byte) []byte { return b[:len(b)/3] })
	s.start(t)
	s.fails(t, "the server answers 416")
}

func TestWrongChunk(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	s.edit(t, "targets/1.1.0/*.image.blob", func(b []byte) []byte {
		for i := 0; i < len(b); i += 4096 {
			b[i] ^= 1
		}
		return b
	})
	s.start(t)
	s.fails(t, "not the bytes that the index names")
	s.edit(t, "targets/1.1.0/*.image.blob", func(b []byte) []byte {
		for i := 0; i < len(b); i += 4096 {
			b[i] ^= 1
		}
		return b
	})
	s.update(t)
	s.installed(t, s.two)
}

func TestRootLargerThanSlot(t *testing.T) {
	s := newScene(t)
	s.p.publish(t, newSystem(t, "1.1.0", 600, 2), tufrepo.Options{})
	s.start(t)
	s.fails(t, "install the machine anew")
	s.untouched(t)
}

func TestFullESP(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	s.esp.files["photos.bin"] = make([]byte, s.esp.size-int64(len(s.one.uki))-1000)
	s.start(t)
	s.fails(t, "the EFI system partition is full")
	s.untouched(t)
	delete(s.esp.files, "photos.bin") // it is no fault of the release
	s.update(t)
	s.installed(t, s.two)
}

// TestFullState has a state partition that takes no byte: the update goes on,
// with its metadata in memory.
func TestFullState(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	blocked := filepath.Join(s.dir, "tuf") // a file where the directory should be
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	s.update(t)
	s.installed(t, s.two)
	if _, err := os.Stat(filepath.Join(s.dir, "spare/timestamp.json")); err != nil {
		t.Error(err)
	}
}

// TestServerGone takes the server away at 60 %: the next try fetches only the
// rest.
func TestServerGone(t *testing.T) {
	whole := newScene(t)
	whole.publish(t)
	whole.start(t)
	whole.update(t)
	full := whole.p.served

	s := newScene(t)
	s.publish(t)
	s.p.limit = full * 6 / 10
	s.start(t)
	s.fails(t, "mirror")
	first := s.p.served
	s.p.limit = 0
	s.update(t)
	s.installed(t, s.two)
	t.Logf("uninterrupted %d bytes; %d before the server went, %d after", full, first, s.p.served-first)
	if s.p.served > full*11/10+512<<10 {
		t.Errorf("%d bytes in all for a release of %d", s.p.served, full)
	}
}

// TestLyingMirror has a first mirror with wrong bytes in everything that is not
// metadata, and a good second one.
func TestLyingMirror(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	liar := t.TempDir()
	if err := os.CopyFS(liar, os.DirFS(s.p.dir)); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(filepath.Join(liar, "targets"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			editFiles(t, path, func(b []byte) []byte { return flip(0)(flip(-1)(b)) })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "etc/coreos/update.conf", "SERVER="+s.p.serve(t, liar)+","+s.p.url+"\nCHECK_INTERVAL=1000h\n")
	s.start(t)
	s.update(t)
	s.installed(t, s.two)
}

// TestServerWithoutRanges names the cause.
func TestServerWithoutRanges(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, err := os.Open(filepath.Join(s.p.dir, filepath.Clean("/"+r.URL.Path)))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		defer f.Close()
		_, _ = io.Copy(w, f)
	}))
	t.Cleanup(plain.Close)
	s.write(t, "etc/coreos/update.conf", "SERVER="+plain.URL+"\nCHECK_INTERVAL=1000h\n")
	s.start(t)
	s.fails(t, "does not know byte ranges")
}

// TestTwoUpdates has two releases in a row without a reboot between: the second
// one takes the place of the first.
func TestTwoUpdates(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	s.start(t)
	s.update(t)
	if said := s.update(t); !strings.Contains(said, "waits for a reboot") {
		t.Errorf("asked again: %q", said)
	}
	three := newSystem(t, "1.2.0", 300, 3)
	s.p.publish(t, three, tufrepo.Options{})
	s.update(t)
	s.installed(t, three)
	if l, _ := entries.List(s.esp); len(l.Files) != 2 {
		t.Errorf("entries %v, want those of 1.0.0 and 1.2.0", l.Files)
	}
}

// TestOldSlotChosen has an operator who started the older system from the boot
// menu: the update goes into the other slot, and the running one stays.
func TestOldSlotChosen(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	s.start(t)
	s.update(t)
	s.reboot(t, s.two)
	s.reboot(t, s.one) // from the menu
	three := newSystem(t, "1.2.0", 300, 3)
	s.p.publish(t, three, tufrepo.Options{})
	s.update(t)
	s.installed(t, three)
}

// TestOnTrial has a running system that was not marked good yet.
func TestOnTrial(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	s.esp.files = map[string][]byte{"coracle-1.0.0+2-1.efi": s.one.uki}
	s.start(t)
	if said := s.update(t); !strings.Contains(said, "on trial") {
		t.Errorf("%q", said)
	}
	s.untouched(t)
}

// TestLeftovers has a half-written file from before: it goes at the start.
func TestLeftovers(t *testing.T) {
	s := newScene(t)
	s.esp.files[entries.Name{Version: "0.9"}.Temp()] = []byte("half")
	s.start(t)
	if _, _, err := s.ask(updatectl.Request{Verb: "channel", Channel: "stable"}); err != nil {
		t.Fatal(err)
	}
	if l, _ := entries.List(s.esp); len(l.Temps) != 0 {
		t.Errorf("left: %v", l.Temps)
	}
}

func TestNothingConfigured(t *testing.T) {
	s := newScene(t)
	s.write(t, "etc/coreos/update.conf", "GROUP=stable\n")
	s.start(t)
	s.fails(t, "no update server is configured")
	if err := os.Remove(filepath.Join(s.dir, "etc/coracle/tuf/root.json")); err != nil {
		t.Fatal(err)
	}
	s.write(t, "etc/coreos/update.conf", "SERVER="+s.p.url+"\n")
	s.fails(t, "no trusted root metadata")
	s.untouched(t)
}

func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests run as root: the engine's control socket asks for it")
		os.Exit(1)
	}
	os.Exit(m.Run())
}
