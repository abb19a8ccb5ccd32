package store

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/journal/segment"
	"golang.org/x/sys/unix"
)

func testConfig(t *testing.T) Config {
	dir := t.TempDir()
	return Config{Persistent: dir + "/var/journal", Volatile: dir + "/run/journal", Machine: journal.ID{1}, Boot: journal.ID{2}, Log: slog.New(slog.DiscardHandler)}
}

func mustOpen(t *testing.T, config Config) *Store {
	t.Helper()
	s, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func records(from, count, size int) (list []journal.Record) {
	for n := from; n < from+count; n++ {
		list = append(list, journal.Record{Realtime: uint64(n), Monotonic: uint64(n), Fields: []journal.Field{
			{Name: "_PID", Value: "1"}, {Name: "MESSAGE", Value: fmt.Sprintf("%08d", n) + strings.Repeat("x", size)}}})
	}
	return list
}

// messages reads the numbers of all records in the directories.
func messages(t *testing.T, dirs ...string) (list []string) {
	t.Helper()
	paths, err := Segments(dirs...)
	if err != nil {
		t.Fatal(err)
	}
	seq := uint64(0)
	for _, path := range paths {
		r, err := segment.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		for offset := segment.First; ; {
			record, next, err := r.Next(offset)
			if err != nil {
				break
			}
			if record.Seq <= seq {
				t.Errorf("%s: number %d after %d", path, record.Seq, seq)
			}
			seq, offset = record.Seq, next
			list = append(list, record.Get("MESSAGE")[:8])
		}
		r.Close()
	}
	return list
}

func TestBounded(t *testing.T) {
	config := testConfig(t)
	config.System.MaxUse = 4 << 20
	s := mustOpen(t, config)
	const total = 20000
	for n := 0; n < total; n += 50 {
		if err := s.Write(records(n, 50, 500)); err != nil {
			t.Fatal(err)
		}
	}
	used, err := Usage(config.Persistent)
	if err != nil || used > config.System.MaxUse+config.System.MaxUse/8 {
		t.Errorf("journal takes %d bytes (%v), bound %d", used, err, config.System.MaxUse)
	}
	list := messages(t, config.Persistent)
	if len(list) < 5000 || list[len(list)-1] != fmt.Sprintf("%08d", total-1) {
		t.Errorf("%d records, last %q", len(list), list[len(list)-1])
	}
}

func TestBound(t *testing.T) {
	const mb = 1 << 20
	for _, test := range []struct {
		name                         string
		size, free, used, configured int64
		persistent                   bool
		want                         int64
		keep                         int64
	}{
		{"tenth", 1000 * mb, 900 * mb, 0, 0, true, 100 * mb, 0},
		{"four GiB", 1 << 40, 1 << 39, 0, 0, true, 4 << 30, 0},
		{"memory", 10000 * mb, 9000 * mb, 0, 0, false, 32 * mb, 0},
		{"configured", 1000 * mb, 900 * mb, 0, 7 * mb, true, 7 * mb, 0},
		{"little free", 1000 * mb, 160 * mb, 50 * mb, 0, true, 60 * mb, 0},
		{"keep more free", 1000 * mb, 160 * mb, 50 * mb, 0, true, 10 * mb, 200 * mb},
		{"full", 1000 * mb, 0, 50 * mb, 0, true, MinUse, 0},
	} {
		got := bound(test.size, test.free, test.used, Bounds{MaxUse: test.configured, KeepFree: test.keep}, test.persistent)
		if diff := got - test.want; diff > mb/10 || diff < -mb/10 {
			t.Errorf("%s: bound = %d, want %d", test.name, got, test.want)
		}
	}
}

func TestGoesOn(t *testing.T) {
	config := testConfig(t)
	s := mustOpen(t, config)
	s.Write(records(0, 3, 0))
	path := s.Path()
	s.Close()
	s = mustOpen(t, config)
	s.Write(records(3, 1, 0))
	if s.Path() != path {
		t.Errorf("a new segment %q after a restart in the same boot", s.Path())
	}
	s.Close()
	config.Boot = journal.ID{3}
	s = mustOpen(t, config)
	s.Write(records(4, 1, 0))
	if s.Path() == path {
		t.Error("the segment of an old boot was used")
	}
	if got := messages(t, config.Persistent); len(got) != 5 {
		t.Errorf("records %q", got)
	}
}

// TestHeadless has a segment whose header was cut, as after a power cut.
func TestHeadless(t *testing.T) {
	config := testConfig(t)
	os.MkdirAll(config.Persistent, 0o755)
	for _, name := range []string{"0000000000000001" + suffix, "0000000000000002" + suffix + ".new"} {
		os.WriteFile(filepath.Join(config.Persistent, name), []byte("CORJ"), 0o600)
	}
	s := mustOpen(t, config)
	if err := s.Write(records(0, 1, 0)); err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(config.Persistent)
	if len(entries) != 1 || len(messages(t, config.Persistent)) != 1 {
		t.Errorf("files: %v", entries)
	}
}

// TestVolatile begins without a writable /var and moves over later.
func TestVolatile(t *testing.T) {
	config := testConfig(t)
	os.MkdirAll(filepath.Dir(config.Persistent), 0o755)
	os.WriteFile(config.Persistent, nil, 0o600) // not a directory
	s := mustOpen(t, config)
	if s.Persistent() {
		t.Fatal("persistent without a directory")
	}
	s.Write(records(0, 3, 0))
	if err := s.Flush(); err == nil {
		t.Error("flush without a directory gave no error")
	}
	s.Write(records(3, 1, 0))
	os.Remove(config.Persistent)
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	s.Write(records(4, 2, 0))
	if got := messages(t, config.Persistent); len(got) != 6 || !s.Persistent() {
		t.Errorf("persistent records %q", got)
	}
	if got := messages(t, config.Volatile); len(got) != 0 {
		t.Errorf("volatile records %q", got)
	}
}

// TestFullDisk fills the file system of the persistent journal with another
// file while records come. None is lost, and the journal comes back.
func TestFullDisk(t *testing.T) {
	config := testConfig(t)
	disk := filepath.Dir(config.Persistent)
	os.MkdirAll(disk, 0o755)
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatalf("mount a small tmpfs (the test needs root): %v", err)
	}
	t.Cleanup(func() { unix.Unmount(disk, unix.MNT_DETACH) })
	s := mustOpen(t, config)
	s.Write(records(0, 10, 100))
	filler, err := os.Create(filepath.Join(disk, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = filler.Write(make([]byte, 64<<10))
	}
	for _, rest := range []int{4096, 512, 1} {
		for err = nil; err == nil; {
			_, err = filler.Write(make([]byte, rest))
		}
	}
	for n := 10; n < 1000; n += 10 {
		if err := s.Write(records(n, 10, 100)); err != nil {
			t.Fatalf("records %d: %v", n, err)
		}
	}
	if s.Persistent() {
		t.Error("still persistent on a full disk")
	}
	filler.Close()
	os.Remove(filler.Name())
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	s.Write(records(1000, 10, 100))
	got := messages(t, config.Persistent)
	if len(got) != 1010 {
		t.Errorf("%d records, want 1010", len(got))
	}
	for i, text := range got {
		if text != fmt.Sprintf("%08d", i) {
			t.Fatalf("record %d is %q", i, text)
		}
	}
}

func TestReadOnlyEverywhere(t *testing.T) {
	config := testConfig(t)
	for _, dir := range []string{config.Persistent, config.Volatile} {
		os.MkdirAll(filepath.Dir(dir), 0o755)
		os.WriteFile(dir, nil, 0o600)
	}
	if _, err := Open(config); err == nil || !strings.Contains(err.Error(), "open journal") {
		t.Errorf("err = %v", err)
	}
}

func TestVacuum(t *testing.T) {
	config := testConfig(t)
	s := mustOpen(t, config)
	for n := range 5 {
		s.Write(records(n*10, 10, 1000))
		s.Rotate()
	}
	s.Write(records(50, 10, 1000))
	used, _ := Usage(config.Persistent)
	deleted, err := Vacuum(config.Persistent, used/2, s.Path())
	if err != nil || len(deleted) != 3 {
		t.Errorf("deleted %q, %v", deleted, err)
	}
	if got := messages(t, config.Persistent); len(got) != 30 || got[0] != "00000030" {
		t.Errorf("%d records, first %q", len(got), got[0])
	}
	if _, err := Vacuum(config.Persistent, 0, s.Path()); err != nil {
		t.Error(err)
	}
	if got := messages(t, config.Persistent); len(got) != 10 {
		t.Errorf("%d records in the segment that is written", len(got))
	}
}

// TestEndsSegments by number and age.
func TestEndsSegments(t *testing.T) {
	config := testConfig(t)
	config.System = Bounds{MaxFiles: 3}
	config.MaxAge = time.Hour
	s := mustOpen(t, config)
	const hour = uint64(time.Hour / time.Microsecond)
	for n := range uint64(10) {
		r := records(int(n), 1, 10)
		r[0].Realtime = 1795000000000000 + n*2*hour
		if err := s.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	paths, err := Segments(config.Persistent)
	if err != nil || len(paths) != 3 {
		t.Errorf("%d segments, %v; want 3", len(paths), err)
	}
	if got := messages(t, config.Persistent); len(got) != 3 || got[2] != "00000009" {
		t.Errorf("left: %q", got)
	}
}
