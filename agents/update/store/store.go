// Package store is what a machine remembers about its updates: history, the
// root hashes that it must not install again, the version floor, and the
// engine's own state. update-engine, the health gate and updatectl share it.
//
// It is one bbolt file in the state partition, outside both slots. Every call
// opens the file, makes one transaction and closes it, so that several programs
// can use it; each change is on the disk when the call returns. A file that
// cannot be read is moved aside and named in the history: a machine without
// memory still updates.
//
// Left out on purpose: what the boot loader needs to know, which is in the
// names on the EFI system partition.
package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/coracle-os/coracle/image/release"
)

// Path is where the file is on a machine.
const Path = "/var/lib/coracle/update.db"

// Keep is how many history records are kept; the oldest go.
const Keep = 200

// A Record is one event of the history.
type Record struct {
	Time     time.Time `json:"time"`
	Kind     string    `json:"kind"` // one of the Kind constants
	Version  string    `json:"version,omitempty"`
	RootHash string    `json:"rootHash,omitempty"`
	Channel  string    `json:"channel,omitempty"`
	Reason   string    `json:"reason,omitempty"`   // why, in one sentence
	Evidence string    `json:"evidence,omitempty"` // lines of a failed boot
	Bytes    int64     `json:"bytes,omitempty"`    // fetched
}

// Kinds of records.
const (
	KindInstalled  = "installed"   // written and armed
	KindGood       = "good"        // marked good
	KindFailed     = "failed"      // an update that was not finished
	KindFallback   = "fallback"    // the boot loader went back
	KindRollback   = "rollback"    // the operator went back
	KindQuarantine = "quarantined" // will not be installed again
	KindNotice     = "notice"
)

// Quarantined is a root hash that is not installed again.
type Quarantined struct {
	RootHash string    `json:"rootHash"`
	Version  string    `json:"version,omitempty"`
	Reason   string    `json:"reason"`
	Time     time.Time `json:"time"`
	Evidence string    `json:"evidence,omitempty"`
}

// Store is the file at a path.
type Store struct{ path string }

// New returns the store at path, such as Path. The file need not exist.
func New(path string) *Store { return &Store{path} }

var (
	bucketHistory    = []byte("history")
	bucketQuarantine = []byte("quarantine")
	bucketValues     = []byte("values")
)

// update makes one transaction that may change the file.
func (s *Store) update(operation string, change func(*bolt.Tx) error) error {
	db, err := s.open()
	if err != nil {
		return fmt.Errorf("%s: %w", operation, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, b := range [][]byte{bucketHistory, bucketQuarantine, bucketValues} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return change(tx)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("%s: %s: %w", operation, s.path, err)
	}
	return nil
}

// view makes one transaction that reads; an absent file reads as empty.
func (s *Store) view(operation string, read func(bucket func(name []byte) *bolt.Bucket) error) error {
	if _, err := os.Stat(s.path); errors.Is(err, os.ErrNotExist) {
		return read(func([]byte) *bolt.Bucket { return nil })
	}
	db, err := s.open()
	if err != nil {
		return fmt.Errorf("%s: %w", operation, err)
	}
	err = db.View(func(tx *bolt.Tx) error { return read(tx.Bucket) })
	if err := errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("%s: %s: %w", operation, s.path, err)
	}
	return nil
}

func (s *Store) open() (*bolt.DB, error) {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o755); err != nil {
		return nil, err
	}
	options := &bolt.Options{Timeout: 10 * time.Second, FreelistType: bolt.FreelistMapType}
	db, err := bolt.Open(s.path, 0o600, options)
	if errors.Is(err, bolt.ErrInvalid) || errors.Is(err, bolt.ErrChecksum) || errors.Is(err, bolt.ErrVersionMismatch) {
		bad := s.path + ".unreadable"
		if err := os.Rename(s.path, bad); err != nil {
			return nil, err
		}
		if db, err = bolt.Open(s.path, 0o600, options); err != nil {
			return nil, err
		}
		return db, db.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(bucketHistory)
			if err != nil {
				return err
			}
			return add(b, Record{Time: time.Now().UTC(), Kind: KindNotice, Reason: "the update history could not be read and was moved to " + bad})
		})
	}
	return db, err
}

func add(b *bolt.Bucket, r Record) error {
	n, err := b.NextSequence()
	if err != nil {
		return err
	}
	value, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := b.Put(binary.BigEndian.AppendUint64(nil, n), value); err != nil {
		return err
	}
	if n <= Keep {
		return nil
	}
	return b.Delete(binary.BigEndian.AppendUint64(nil, n-Keep))
}

// Add appends a record to the history.
func (s *Store) Add(r Record) error {
	return s.update("add to the update history", func(tx *bolt.Tx) error { return add(tx.Bucket(bucketHistory), r) })
}

// History returns the newest records, at most limit of them (all when 0), the
// newest first.
func (s *Store) History(limit int) ([]Record, error) {
	var records []Record
	err := s.view("read the update history", func(bucket func([]byte) *bolt.Bucket) error {
		b := bucket(bucketHistory)
		if b == nil {
			return nil
		}
		c := b.Cursor()
		for k, v := c.Last(); k != nil && (limit == 0 || len(records) < limit); k, v = c.Prev() {
			var r Record
			if err := json.Unmarshal(v, &r); err != nil {
				return err
			}
			records = append(records, r)
		}
		return nil
	})
	return records, err
}

// Quarantine keeps a root hash from being installed again, and says so in the
// history, in one transaction.
func (s *Store) Quarantine(q Quarantined) error {
	return s.update("quarantine a release", func(tx *bolt.Tx) error {
		value, err := json.Marshal(q)
		if err != nil {
			return err
		}
		if err := tx.Bucket(bucketQuarantine).Put([]byte(q.RootHash), value); err != nil {
			return err
		}
		return add(tx.Bucket(bucketHistory), Record{Time: q.Time, Kind: KindQuarantine, Version: q.Version, RootHash: q.RootHash, Reason: q.Reason, Evidence: q.Evidence})
	})
}

// Quarantined says whether the root hash is in quarantine, and why.
func (s *Store) Quarantined(rootHash string) (q Quarantined, found bool, err error) {
	err = s.view("read the quarantine", func(bucket func([]byte) *bolt.Bucket) error {
		b := bucket(bucketQuarantine)
		if b == nil {
			return nil
		}
		if value := b.Get([]byte(rootHash)); value != nil {
			found = true
			return json.Unmarshal(value, &q)
		}
		return nil
	})
	return q, found, err
}

// AllQuarantined returns all root hashes in quarantine, in their order.
func (s *Store) AllQuarantined() ([]Quarantined, error) {
	var all []Quarantined
	err := s.view("read the quarantine", func(bucket func([]byte) *bolt.Bucket) error {
		b := bucket(bucketQuarantine)
		if b == nil {
			return nil
		}
		return b.ForEach(func(_, value []byte) error {
			var q Quarantined
			err := json.Unmarshal(value, &q)
			all = append(all, q)
			return err
		})
	})
	return all, err
}

// Release lets a root hash be installed again.
func (s *Store) Release(rootHash string) error {
	return s.update("end a quarantine", func(tx *bolt.Tx) error { return tx.Bucket(bucketQuarantine).Delete([]byte(rootHash)) })
}

// Floor is the version that no update may go below, "" when there is none yet.
func (s *Store) Floor() (string, error) { return s.Value("floor") }

// RaiseFloor sets the floor to version, if that is above the present one.
func (s *Store) RaiseFloor(version string) error {
	return s.update("raise the version floor", func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketValues)
		if old := b.Get([]byte("floor")); old != nil && release.CompareVersions(version, string(old)) <= 0 {
			return nil
		}
		return b.Put([]byte("floor"), []byte(version))
	})
}

// SetFloor sets the floor, downward too: for a downgrade that was signed and
// then marked good.
func (s *Store) SetFloor(version string) error { return s.SetValue("floor", version) }

// Value returns a value by name, "" when it is not set.
func (s *Store) Value(name string) (value string, err error) {
	err = s.view("read the update state", func(bucket func([]byte) *bolt.Bucket) error {
		if b := bucket(bucketValues); b != nil {
			value = string(b.Get([]byte(name)))
		}
		return nil
	})
	return value, err
}

// SetValue sets a value; "" removes it.
func (s *Store) SetValue(name, value string) error {
	return s.update("save the update state", func(tx *bolt.Tx) error {
		if value == "" {
			return tx.Bucket(bucketValues).Delete([]byte(name))
		}
		return tx.Bucket(bucketValues).Put([]byte(name), []byte(value))
	})
}
