package segment

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var testHeader = Header{ID: journal.ID{9, 9}, Machine: journal.ID{1}, Boot: journal.ID{2}, FirstSeq: 100, Realtime: 1795223429204551, Monotonic: 625970545}

// record makes the n-th record, by one of a few processes.
func record(n int) journal.Record {
	return journal.Record{Seq: testHeader.FirstSeq + uint64(n), Realtime: testHeader.Realtime + uint64(n*1000) - 5, Monotonic: testHeader.Monotonic + uint64(n*1000),
		Boot: testHeader.Boot, Machine: testHeader.Machine, File: testHeader.ID, Fields: []journal.Field{
			{Name: "_PID", Value: fmt.Sprint(100 + n%5)}, {Name: "_UID", Value: "0"}, {Name: "_GID", Value: "0"}, {Name: "_COMM", Value: "dockerd"},
			{Name: "_EXE", Value: "/usr/bin/dockerd"}, {Name: "_CMDLINE", Value: "/usr/bin/dockerd --host=fd://"},
			{Name: "_SYSTEMD_CGROUP", Value: "/system.slice/docker.service"}, {Name: "_SYSTEMD_UNIT", Value: "docker.service"}, {Name: "_SYSTEMD_SLICE", Value: "system.slice"},
			{Name: "_HOSTNAME", Value: "core-01"}, {Name: "_TRANSPORT", Value: "stdout"}, {Name: "_STREAM_ID", Value: "7db60b84b2be4401aabe39303996c7e8"},
			{Name: "PRIORITY", Value: "6"}, {Name: "SYSLOG_FACILITY", Value: "3"}, {Name: "SYSLOG_IDENTIFIER", Value: "dockerd"},
			{Name: "MESSAGE", Value: fmt.Sprintf(`time="2026-11-21T01:02:03.%09dZ" level=info msg="ignoring event" module=libcontainerd namespace=moby topic=/tasks/delete type="*events.TaskDelete"`, n)},
		}}
}

// write makes a segment of records, one write each, and returns where each ends.
func write(t testing.TB, path string, count int) (ends []int64) {
	t.Helper()
	w, err := Create(path, testHeader)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for n := range count {
		if err := w.Write([]journal.Record{record(n)}); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, w.Size())
	}
	return ends
}

func forward(t testing.TB, r *Reader) (records []journal.Record) {
	t.Helper()
	for offset := First; ; {
		record, next, err := r.Next(offset)
		if errors.Is(err, io.EOF) {
			return records
		}
		if err != nil {
			t.Fatal(err)
		}
		records, offset = append(records, record), next
	}
}

func backward(t testing.TB, r *Reader) (records []journal.Record) {
	t.Helper()
	offset, err := r.End()
	for err == nil {
		var record journal.Record
		if record, offset, err = r.Prev(offset); err == nil {
			records = append([]journal.Record{record}, records...)
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return records
}

func open(t testing.TB, path string) *Reader {
	t.Helper()
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func numbers(records []journal.Record) (seqs []uint64) {
	for _, r := range records {
		seqs = append(seqs, r.Seq)
	}
	return seqs
}

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	const count = 700 // several windows
	write(t, path, count)
	var want []journal.Record
	for n := range count {
		want = append(want, record(n))
	}
	r := open(t, path)
	if diff := cmp.Diff(want, forward(t, r)); diff != "" {
		t.Errorf("forward (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, backward(t, r)); diff != "" {
		t.Errorf("backward (-want +got):\n%s", diff)
	}
}

// TestCutAtEveryByte cuts a segment at each of its bytes. Every record that was
// whole before the cut is read, forwards and backwards, and a writer goes on.
func TestCutAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole")
	const count = 8
	ends := write(t, whole, count)
	text, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(text) + 1 {
		path := filepath.Join(dir, fmt.Sprint(cut))
		if err := os.WriteFile(path, text[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if cut < headerSize {
			if _, _, err := Append(path); !errors.Is(err, ErrDamaged) {
				t.Fatalf("cut in the header at %d: err = %v", cut, err)
			}
			continue
		}
		var want []uint64
		for n, end := range ends {
			if end <= int64(cut) {
				want = append(want, testHeader.FirstSeq+uint64(n))
			}
		}
		checkCut(t, path, cut, want)
		os.Remove(path)
	}
}

func checkCut(t *testing.T, path string, cut int, want []uint64) {
	t.Helper()
	r := open(t, path)
	defer r.Close()
	if diff := cmp.Diff(want, numbers(forward(t, r))); diff != "" {
		t.Fatalf("cut at %d, forward (-want +got):\n%s", cut, diff)
	}
	if diff := cmp.Diff(want, numbers(backward(t, r))); diff != "" {
		t.Fatalf("cut at %d, backward (-want +got):\n%s", cut, diff)
	}
	w, _, err := Append(path)
	if err != nil {
		t.Fatalf("cut at %d: %v", cut, err)
	}
	defer w.Close()
	if got := w.LastSeq() - testHeader.FirstSeq + 1; got != uint64(len(want)) {
		t.Fatalf("cut at %d: writer goes on after %d records, want %d", cut, got, len(want))
	}
	next := record(len(want))
	if err := w.Write([]journal.Record{next}); err != nil {
		t.Fatal(err)
	}
	again := open(t, path)
	defer again.Close()
	if diff := cmp.Diff(append(want, next.Seq), numbers(forward(t, again))); diff != "" {
		t.Fatalf("cut at %d, after one more (-want +got):\n%s", cut, diff)
	}
}

// TestZeroTail is what ext4 can leave: the size without the data.
func TestZeroTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ends := write(t, path, 5)
	if err := os.Truncate(path, ends[2]+10); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, ends[4]+5000); err != nil {
		t.Fatal(err)
	}
	checkCut(t, path, int(ends[2])+10, []uint64{100, 101, 102})
}

// TestDamage flips each byte in turn: the damaged record may be lost, or its
// trusted fields when the flip is in a source, and no other one.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole")
	const count = 8
	ends := write(t, whole, count)
	text, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "damaged")
	for at := headerSize; at < len(text); at++ {
		damaged := append([]byte(nil), text...)
		damaged[at] ^= 0x40
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		r := open(t, path)
		got := numbers(forward(t, r))
		if back := numbers(backward(t, r)); !cmp.Equal(got, back) {
			t.Fatalf("flip at %d: forward %d, backward %d", at, got, back)
		}
		r.Close()
		if len(got) < count-1 {
			t.Fatalf("flip at %d: only %d", at, got)
		}
		w, _, err := Append(path)
		if lost := int64(at) < ends[count-2]; lost && err == nil && w.Size() < ends[count-2] {
			t.Fatalf("flip at %d: the writer dropped good records", at)
		}
		if err == nil {
			w.Close()
		}
	}
}

// TestForgedFrame logs the bytes of a frame and cuts behind them.
func TestForgedFrame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	forged := appendFrame(nil, 0, frameEntry, []byte{0, 0, 0, 0, 1, 4, 'f', 'a', 'k', 'e'})
	w, err := Create(path, testHeader)
	if err != nil {
		t.Fatal(err)
	}
	first, second := record(0), record(1)
	second.Fields[len(second.Fields)-1].Value = string(forged)
	if err := w.Write([]journal.Record{first, second}); err != nil {
		t.Fatal(err)
	}
	w.Close()
	text, _ := os.ReadFile(path)
	at := strings.Index(string(text), string(forged))
	if err := os.Truncate(path, int64(at+len(forged))); err != nil {
		t.Fatal(err)
	}
	if got := numbers(backward(t, open(t, path))); !cmp.Equal(got, []uint64{100}) {
		t.Errorf("records %d, want only the first", got)
	}
}

// TestFullDisk fills a file system of its own.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatalf("mount a small tmpfs (the test needs root): %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	path := filepath.Join(dir, "s")
	w, err := Create(path, testHeader)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	n := 0
	for ; err == nil; n++ {
		err = w.Write([]journal.Record{record(n)})
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("err = %v, want ENOSPC", err)
	}
	written := n - 1
	if got := len(forward(t, open(t, path))); got != written {
		t.Fatalf("%d records after a full disk, want %d", got, written)
	}
	small := journal.Record{Seq: record(written).Seq, Fields: []journal.Field{{Name: "MESSAGE", Value: "x"}}}
	if err := w.Write([]journal.Record{small}); err == nil {
		written++ // there was room for a small one
	}
	if got := len(forward(t, open(t, path))); got != written {
		t.Errorf("%d records, want %d", got, written)
	}
}

func FuzzReader(f *testing.F) {
	path := filepath.Join(f.TempDir(), "s")
	write(f, path, 3)
	text, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(text[:len(text)-3])
	f.Add(text[:headerSize])
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(dir, "fuzz")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := Open(path)
		if err != nil {
			return
		}
		defer r.Close()
		count := 0
		for offset := First; ; count++ {
			_, next, err := r.Next(offset)
			if err != nil && !errors.Is(err, ErrDamaged) {
				break
			}
			if next <= offset {
				t.Fatalf("no progress at %d", offset)
			}
			offset = next
		}
		offset, err := r.End()
		for err == nil || errors.Is(err, ErrDamaged) {
			var at int64
			if _, at, err = r.Prev(offset); err == nil && at >= offset {
				t.Fatalf("no progress before %d", offset)
			}
			offset = at
		}
	})
}
