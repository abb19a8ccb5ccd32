package segment

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/coracle-os/coracle/rootfs/journal"
)

// batch is how many records journald writes at once when it is busy.
const batch = 64

func bytesOf(b *testing.B, path string) {
	var total int64
	filepath.Walk(path, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
		return nil
	})
	b.ReportMetric(float64(total)/float64(b.N), "bytes/record")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

func BenchmarkSegment(b *testing.B) {
	path := filepath.Join(b.TempDir(), "s")
	w, err := Create(path, testHeader)
	if err != nil {
		b.Fatal(err)
	}
	records := make([]journal.Record, 0, batch)
	for n := 0; b.Loop(); n++ {
		if records = append(records, record(n)); len(records) == batch {
			if err := w.Write(records); err != nil {
				b.Fatal(err)
			}
			records = records[:0]
		}
	}
	w.Sync()
	bytesOf(b, path)
}

func BenchmarkTail(b *testing.B) {
	path := filepath.Join(b.TempDir(), "s")
	write(b, path, 100000)
	b.ResetTimer()
	for b.Loop() {
		r, err := Open(path)
		if err != nil {
			b.Fatal(err)
		}
		offset, _ := r.End()
		for range 10 {
			if _, offset, err = r.Prev(offset); err != nil {
				b.Fatal(err)
			}
		}
		r.Close()
	}
}
