// Package memory keeps what a machine must remember of the overlay over a
// reboot: the subnet that it had in each network, so that it asks for the same
// again. The file is bbolt's; losing it costs no more than another subnet.
package memory

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bberrors "go.etcd.io/bbolt/errors"
)

// Subnet is what the machine had.
type Subnet struct {
	IPv4 netip.Prefix
	IPv6 netip.Prefix // zero without dual stack
}

// File is the open memory.
type File struct{ db *bbolt.DB }

var bucket = []byte("subnets")

// Open opens the file at path, and makes it if it is not there. One that
// cannot be read is set aside as path.bad; aside says so, for the log.
func Open(path string) (f *File, aside error, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, nil, fmt.Errorf("open the memory: %w", err)
	}
	db, err := open(path)
	if errors.Is(err, bberrors.ErrTimeout) {
		return nil, nil, fmt.Errorf("open the memory %q: another flanneld has it open", path)
	}
	if errors.Is(err, bberrors.ErrInvalid) || errors.Is(err, bberrors.ErrChecksum) || errors.Is(err, bberrors.ErrVersionMismatch) {
		aside = fmt.Errorf("read the memory %q: %w; it is now %q and the machine may get another subnet", path, err, path+".bad")
		if err := os.Rename(path, path+".bad"); err != nil {
			return nil, aside, fmt.Errorf("set the memory aside: %w", err)
		}
		db, err = open(path)
	}
	if err != nil {
		return nil, aside, fmt.Errorf("open the memory %q: %w", path, err)
	}
	return &File{db: db}, aside, nil
}

func open(path string) (*bbolt.DB, error) {
	return bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 2 * time.Second})
}

// Close closes the file.
func (f *File) Close() error { return f.db.Close() }

// Subnet tells what the machine had in network; the zero Subnet if it had
// none.
func (f *File) Subnet(network string) (s Subnet, err error) {
	err = f.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucket)
		if b == nil {
			return nil
		}
		if data := b.Get([]byte(network)); data != nil {
			return json.Unmarshal(data, &s)
		}
		return nil
	})
	if err != nil {
		return Subnet{}, fmt.Errorf("recall the subnet in %s: %w", network, err)
	}
	return s, nil
}

// Keep notes what the machine has in network; it is on the disk afterwards.
func (f *File) Keep(network string, s Subnet) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("note the subnet: %w", err)
	}
	if old, err := f.Subnet(network); err == nil && old == s {
		return nil
	}
	err = f.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucket)
		if err != nil {
			return err
		}
		return b.Put([]byte(network), data)
	})
	if err != nil {
		return fmt.Errorf("note the subnet %v: %w", s.IPv4, err)
	}
	return nil
}
