package segment

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/coracle-os/coracle/rootfs/journal"
	"go.etcd.io/bbolt"
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

// BenchmarkBolt is the kept library at hand, used in the way that is fastest:
// a batch for each transaction, and no sync before the end.
func BenchmarkBolt(b *testing.B) {
	path := filepath.Join(b.TempDir(), "s")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, NoFreelistSync: true})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	records := make([]journal.Record, 0, batch)
	for n := 0; b.Loop(); n++ {
		if records = append(records, record(n)); len(records) < batch {
			continue
		}
		err := db.Update(func(tx *bbolt.Tx) error {
			bucket, err := tx.CreateBucketIfNotExists([]byte("records"))
			if err != nil {
				return err
			}
			bucket.FillPercent = 1 // numbers only grow
			for i := range records {
				var value []byte
				for _, f := range records[i].Fields {
					value = journal.AppendField(value, f.Name, f.Value)
				}
				if err := bucket.Put(binary.BigEndian.AppendUint64(nil, records[i].Seq), value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		records = records[:0]
	}
	db.Sync()
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
