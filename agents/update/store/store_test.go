package store

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestStore(t *testing.T) {
	s := New(filepath.Join(t.TempDir(), "a", "update.db"))
	if h, err := s.History(0); err != nil || len(h) != 0 {
		t.Fatalf("history of no file: %v, %v", h, err)
	}
	if floor, err := s.Floor(); err != nil || floor != "" {
		t.Fatalf("floor of no file: %q, %v", floor, err)
	}
	for _, v := range []string{"1.2", "1.10", "1.9"} {
		if err := s.RaiseFloor(v); err != nil {
			t.Fatal(err)
		}
	}
	if floor, _ := s.Floor(); floor != "1.10" {
		t.Errorf("floor %q, want 1.10", floor)
	}
	q := Quarantined{RootHash: "aa", Version: "2", Reason: "it hung", Time: time.Unix(100, 0).UTC(), Evidence: "last line"}
	if err := s.Quarantine(q); err != nil {
		t.Fatal(err)
	}
	got, found, err := s.Quarantined("aa")
	if diff := cmp.Diff(q, got); diff != "" || !found || err != nil {
		t.Errorf("%t, %v (-want +got):\n%s", found, err, diff)
	}
	if err := s.Release("aa"); err != nil {
		t.Fatal(err)
	}
	if _, found, _ := s.Quarantined("aa"); found {
		t.Error("still in quarantine")
	}
	h, err := s.History(1)
	if err != nil || len(h) != 1 || h[0].Kind != KindQuarantine || h[0].Evidence != "last line" {
		t.Errorf("history %+v, %v", h, err)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	s := New(filepath.Join(t.TempDir(), "update.db"))
	for i := range Keep + 5 {
		if err := s.Add(Record{Kind: KindNotice, Bytes: int64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	h, err := s.History(0)
	if err != nil || len(h) != Keep || h[0].Bytes != Keep+4 || h[Keep-1].Bytes != 5 {
		t.Errorf("%d records from %d to %d, %v", len(h), h[0].Bytes, h[len(h)-1].Bytes, err)
	}
}

// TestTwoAtOnce has two programs that write at the same time.
func TestTwoAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "update.db")
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			for range 20 {
				if err := New(path).Add(Record{Kind: KindNotice}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if h, err := New(path).History(0); err != nil || len(h) != 40 {
		t.Errorf("%d records, %v", len(h), err)
	}
}

func TestUnreadable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "update.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("noise", 10_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	s := New(path)
	if err := s.RaiseFloor("1"); err != nil {
		t.Fatal(err)
	}
	if h, _ := s.History(0); len(h) != 1 || !strings.Contains(h[0].Reason, "moved to") {
		t.Errorf("history %+v", h)
	}
	if _, err := os.Stat(path + ".unreadable"); err != nil {
		t.Error(err)
	}
}

// TestFull has no room at all: reading still works, writing says why.
func TestFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	s := New(filepath.Join(dir, "update.db"))
	if err := s.RaiseFloor("1"); err != nil {
		t.Fatal(err)
	}
	_ = os.WriteFile(filepath.Join(dir, "fill"), make([]byte, 256<<10), 0o600)
	err := s.Quarantine(Quarantined{RootHash: "aa", Evidence: strings.Repeat("line\n", 50_000)})
	if err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("%v, want no space", err)
	}
	if floor, err := s.Floor(); err != nil || floor != "1" {
		t.Errorf("floor %q, %v", floor, err)
	}
}
