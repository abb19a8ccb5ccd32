package updatemodel

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/update/store"
	"github.com/coracle-os/coracle/image/release"
	"github.com/coracle-os/coracle/initrd/entries"
	"github.com/coracle-os/coracle/rootfs/updatectl"
	"github.com/coracle-os/coracle/tools/tufrepo"
)

// first is the entry that systemd-boot takes: those with tries left or good
// before the others, and among them the highest version.
func (m *machine) first(t *testing.T) entries.File {
	t.Helper()
	l, err := entries.List(m.esp)
	if err != nil || len(l.Files) == 0 {
		t.Fatal(err, "no entries")
	}
	best := l.Files[0]
	for _, f := range l.Files[1:] {
		if f.Name.Bad() != best.Name.Bad() {
			if best.Name.Bad() {
				best = f
			}
			continue
		}
		if release.CompareVersions(f.Name.Version, best.Name.Version) > 0 {
			best = f
		}
	}
	return best
}

func TestUpdateIsFirst(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	s.start(t)
	s.update(t)
	if f := s.first(t); f.RootHash != s.two.rootHash || f.File != "coracle-1.1.0+3-0.efi" {
		t.Errorf("the loader takes %s", f.File)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "reboot-needed")); err != nil {
		t.Errorf("nobody asked for the reboot: %v", err)
	}
	history, err := s.store.History(0)
	if err != nil || len(history) != 1 || history[0].Kind != store.KindInstalled || history[0].Bytes == 0 {
		t.Errorf("history %+v, %v", history, err)
	}
}

// TestSignedDowngrade: the loader prefers the older version while it has tries,
// and the running one when it has none.
func TestSignedDowngrade(t *testing.T) {
	s := newScene(t)
	zero := newSystem(t, "0.9.0", 300, 7)
	s.publish(t)
	s.start(t)
	if err := s.store.RaiseFloor("1.0.0"); err != nil {
		t.Fatal(err)
	}
	s.p.publish(t, zero, tufrepo.Options{Downgrade: true})
	s.update(t)
	s.installed(t, zero)
	if f := s.first(t); f.RootHash != zero.rootHash {
		t.Errorf("the loader takes %s", f.File)
	}
	spent := s.esp.files["coracle-0.9.0+3-0.efi"]
	delete(s.esp.files, "coracle-0.9.0+3-0.efi")
	s.esp.files["coracle-0.9.0+0-3.efi"] = spent
	if f := s.first(t); f.RootHash != s.one.rootHash {
		t.Errorf("after three failures the loader takes %s", f.File)
	}
}

// TestFloor has an older release without a signed downgrade.
func TestFloor(t *testing.T) {
	s := newScene(t)
	s.p.publish(t, newSystem(t, "0.9.0", 300, 7), tufrepo.Options{})
	s.start(t)
	if said := s.update(t); !strings.Contains(said, "does not sign a downgrade") {
		t.Errorf("%q", said)
	}
	s.untouched(t)
}

func TestQuarantine(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	s.start(t)
	err := s.store.Quarantine(store.Quarantined{RootHash: s.two.rootHash, Version: "1.1.0", Reason: "it did not become healthy", Time: s.clock.now()})
	if err != nil {
		t.Fatal(err)
	}
	if said := s.update(t); !strings.Contains(said, "quarantine: it did not become healthy") {
		t.Errorf("%q", said)
	}
	s.untouched(t)
	three := newSystem(t, "1.2.0", 300, 3)
	s.p.publish(t, three, tufrepo.Options{})
	s.update(t)
	s.installed(t, three)
}

func TestForce(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	s.start(t)
	if err := s.store.Quarantine(store.Quarantined{RootHash: s.two.rootHash, Version: "1.1.0", Reason: "bad"}); err != nil {
		t.Fatal(err)
	}
	if said, _, err := s.ask(updatectl.Request{Verb: "apply", Force: true}); err != nil {
		t.Fatal(said, err)
	}
	s.installed(t, s.two)
}

func TestSteppingStone(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	three := newSystem(t, "2.0.0", 300, 3)
	s.p.publish(t, three, tufrepo.Options{MinVersion: "1.1.0"})
	s.start(t)
	if said := s.update(t); !strings.Contains(said, "version 2.0.0 needs 1.1.0 first") {
		t.Errorf("%q", said)
	}
	s.installed(t, s.two)
	s.reboot(t, s.two)
	s.update(t)
	s.installed(t, three)
}

func TestWave(t *testing.T) {
	s := newScene(t)
	s.p.publish(t, s.two, tufrepo.Options{Wave: release.Wave{{After: release.Duration(24 * time.Hour), Percent: 100}}})
	s.start(t)
	if said := s.update(t); !strings.Contains(said, "rolled out to 0 %") {
		t.Errorf("%q", said)
	}
	s.untouched(t)
	s.clock.add(23 * time.Hour)
	if said := s.update(t); !strings.Contains(said, "rolled out to 0 %") {
		t.Errorf("%q", said)
	}
	if said, _, err := s.ask(updatectl.Request{Verb: "apply"}); err != nil {
		t.Fatal(said, err)
	}
	s.installed(t, s.two)
}

// TestRollback goes back to the slot that was left, and does not install again
// what was gone back from.
func TestRollback(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	s.start(t)
	if _, _, err := s.ask(updatectl.Request{Verb: "rollback"}); err == nil || !strings.Contains(err.Error(), "nothing to go back to") {
		t.Errorf("with nothing there: %v", err)
	}
	s.update(t)
	s.reboot(t, s.two)
	if said, _, err := s.ask(updatectl.Request{Verb: "rollback"}); err != nil {
		t.Fatal(said, err)
	}
	if f := s.first(t); f.RootHash != s.one.rootHash {
		t.Errorf("the loader takes %s", f.File)
	}
	s.reboot(t, s.one)
	s.log.ops = nil
	if said := s.update(t); !strings.Contains(said, "the operator went back") {
		t.Errorf("%q", said)
	}
	s.untouched(t)
}

// TestRollbackToDamaged has a flipped bit in the slot to go back to.
func TestRollbackToDamaged(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	s.start(t)
	s.update(t)
	s.reboot(t, s.two)
	s.log.ops = nil
	at := bytes.Index(s.disk.data, s.one.root[40*4096:41*4096])
	s.disk.data[at] ^= 1
	if _, _, err := s.ask(updatectl.Request{Verb: "rollback"}); err == nil || !strings.Contains(err.Error(), "does not match the root hash") {
		t.Errorf("%v", err)
	}
	s.untouched(t)
}

// TestRollbackToFailed has a release in the other slot that spent its tries.
func TestRollbackToFailed(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	s.start(t)
	s.update(t)
	s.esp.files["coracle-1.1.0+0-3.efi"] = s.esp.files["coracle-1.1.0+3-0.efi"]
	delete(s.esp.files, "coracle-1.1.0+3-0.efi")
	s.log.ops = nil
	if _, _, err := s.ask(updatectl.Request{Verb: "rollback"}); err == nil || !strings.Contains(err.Error(), "failed its 3 tries") {
		t.Errorf("%v", err)
	}
	s.untouched(t)
}

// TestBundle applies a release from one file, without a server.
func TestBundle(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	s.write(t, "etc/coreos/update.conf", "GROUP=stable\n")
	file := filepath.Join(s.dir, "stable.bundle")
	if _, err := s.p.repo.BundleFile(file, "stable"); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	before := s.p.served
	if said, _, err := s.ask(updatectl.Request{Verb: "apply", File: file}); err != nil {
		t.Fatal(said, err)
	}
	s.installed(t, s.two)
	if s.p.served != before {
		t.Error("the network was used")
	}
}

func TestBadBundles(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	whole := filepath.Join(s.dir, "stable.bundle")
	if _, err := s.p.repo.BundleFile(whole, "stable"); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	s.start(t)
	for name, content := range map[string][]byte{"cut": b[:len(b)/2], "empty": nil, "noise": bytes.Repeat([]byte("x"), 4096)} {
		s.write(t, name, string(content))
		_, _, err := s.ask(updatectl.Request{Verb: "apply", File: filepath.Join(s.dir, name)})
		if err == nil || !strings.Contains(err.Error(), "bundle") {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.untouched(t)
}

// TestRootRotation has a new timestamp key from one release to the next.
func TestRootRotation(t *testing.T) {
	s := newScene(t)
	s.publish(t)
	s.start(t)
	s.update(t)
	if _, err := s.p.repo.Rotate("timestamp", nil); err != nil {
		t.Fatal(err)
	}
	three := newSystem(t, "1.2.0", 300, 3)
	s.p.publish(t, three, tufrepo.Options{})
	s.update(t)
	s.installed(t, three)
}
