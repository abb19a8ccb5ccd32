// Package tufrepo is the publisher's side of updates: a repository of The Update
// Framework (TUF 1.0) as plain files that any web server can serve, and the keys
// that sign it. `coracle key`, `coracle release` and `coracle bundle` are made
// of it; machines read what it writes.
//
// A repository has consistent snapshots: metadata/N.root.json,
// metadata/N.targets.json, metadata/N.snapshot.json, metadata/timestamp.json,
// and the files below targets/, each with its digest before its name. Every
// file is written under a temporary name, synced and renamed, and the timestamp
// last: until then clients see the repository as it was, so a publisher may be
// killed at any instant and started again. One publisher works at a time (a
// lock on the directory).
//
// Metadata and signatures are go-tuf's. Left out on purpose: delegations,
// passphrases of key files (keep the offline keys on a medium of their own),
// and removing old releases.
package tufrepo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"golang.org/x/sys/unix"
)

// Directories of a repository.
const (
	MetadataDir = "metadata"
	TargetsDir  = "targets"
	stagedDir   = "staged" // a root that lacks signatures
)

// Expiry says for how long signatures hold.
type Expiry struct{ Root, Targets, Snapshot, Timestamp time.Duration }

// DefaultExpiry lets offline keys rest for months; the timestamp must be
// refreshed by a timer.
func DefaultExpiry() Expiry {
	const day = 24 * time.Hour
	return Expiry{Root: 730 * day, Targets: 180 * day, Snapshot: 180 * day, Timestamp: 7 * day}
}

// A Repo is an open repository. Close it.
type Repo struct {
	Dir    string
	Keys   Keys
	Expiry Expiry
	Now    func() time.Time

	lock      *os.File
	root      *metadata.Metadata[metadata.RootType]
	targets   *metadata.Metadata[metadata.TargetsType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	timestamp *metadata.Metadata[metadata.TimestampType]

	beforeWrite func(name string) error // for tests: a publisher that is killed
}

// Open opens and locks the repository in dir and checks that its metadata hold
// together. Expired metadata are no error here: the publisher renews them.
func Open(dir string, keys Keys, now func() time.Time) (*Repo, error) {
	r := &Repo{Dir: dir, Keys: keys, Expiry: DefaultExpiry(), Now: now}
	if _, err := os.Stat(filepath.Join(dir, MetadataDir)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open repository %q: there is none; make one with `coracle key init`", dir)
	}
	if err := r.takeLock(); err != nil {
		return nil, err
	}
	if err := r.load(); err != nil {
		r.Close()
		return nil, fmt.Errorf("open repository %q: %w", dir, err)
	}
	return r, nil
}

// Close unlocks the repository.
func (r *Repo) Close() error { return r.lock.Close() }

func (r *Repo) takeLock() error {
	f, err := os.OpenFile(filepath.Join(r.Dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock repository: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("lock repository %q: another publisher works on it; wait for it to end", r.Dir)
		}
		return fmt.Errorf("lock repository %q: %w", r.Dir, err)
	}
	r.lock = f
	return nil
}

// load reads what the timestamp points at.
func (r *Repo) load() (err error) {
	n, err := r.lastRoot()
	if err != nil {
		return err
	}
	if r.root, err = metadata.Root().FromFile(r.metadataFile(n, metadata.ROOT)); err != nil {
		return err
	}
	if r.timestamp, err = metadata.Timestamp().FromFile(r.metadataFile(0, metadata.TIMESTAMP)); err != nil {
		return err
	}
	meta, ok := r.timestamp.Signed.Meta["snapshot.json"]
	if !ok {
		return errors.New("the timestamp names no snapshot")
	}
	if r.snapshot, err = metadata.Snapshot().FromFile(r.metadataFile(meta.Version, metadata.SNAPSHOT)); err != nil {
		return err
	}
	if meta, ok = r.snapshot.Signed.Meta["targets.json"]; !ok {
		return errors.New("the snapshot names no targets")
	}
	if r.targets, err = metadata.Targets().FromFile(r.metadataFile(meta.Version, metadata.TARGETS)); err != nil {
		return err
	}
	if err := r.root.VerifyDelegate(metadata.ROOT, r.root); err != nil {
		return fmt.Errorf("root %d: %w", n, err)
	}
	return nil
}

// lastRoot is the highest version of root.json that is published.
func (r *Repo) lastRoot() (int64, error) {
	entries, err := os.ReadDir(filepath.Join(r.Dir, MetadataDir))
	if err != nil {
		return 0, err
	}
	last := int64(0)
	for _, e := range entries {
		number, ok := strings.CutSuffix(e.Name(), ".root.json")
		if !ok {
			continue
		}
		if n, err := strconv.ParseInt(number, 10, 64); err == nil {
			last = max(last, n)
		}
	}
	if last == 0 {
		return 0, errors.New("no root metadata; make a repository with `coracle key init`")
	}
	return last, nil
}

// metadataFile is the path of a role's metadata; version 0 has no number.
func (r *Repo) metadataFile(version int64, role string) string {
	return filepath.Join(r.Dir, metadataName(version, role))
}

func metadataName(version int64, role string) string {
	if version == 0 {
		return filepath.Join(MetadataDir, role+".json")
	}
	return filepath.Join(MetadataDir, strconv.FormatInt(version, 10)+"."+role+".json")
}

// write writes a file of the repository; name is relative to its directory.
func (r *Repo) write(name string, content []byte) error {
	if r.beforeWrite != nil {
		if err := r.beforeWrite(name); err != nil {
			return err
		}
	}
	path := filepath.Join(r.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write repository: %w", err)
	}
	if err := writeFile(path, content, 0o644); err != nil {
		return fmt.Errorf("write repository: %w", err)
	}
	return nil
}

// RootVersion is the version of the root metadata.
func (r *Repo) RootVersion() int64 { return r.root.Signed.Version }

// Expires says when the metadata of the role expire.
func (r *Repo) Expires(role string) time.Time {
	switch role {
	case metadata.ROOT:
		return r.root.Signed.Expires
	case metadata.TARGETS:
		return r.targets.Signed.Expires
	case metadata.SNAPSHOT:
		return r.snapshot.Signed.Expires
	}
	return r.timestamp.Signed.Expires
}
