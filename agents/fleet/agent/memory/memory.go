// Package memory is what the agent of a machine must know after it was killed:
// its lease, when it was renewed last, and which content of which unit it has
// started. It is a bbolt file, so that a power cut leaves the last state whole.
//
// Nothing in it is needed for good: all of it can be found again in the
// key-value store, at the price of waiting for a lease to end or of starting a
// unit again that had ended by itself. So a file that cannot be read is put
// aside and begun anew, and one that cannot be written is only worth a warning.
package memory

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Machine is what is remembered of the machine itself.
type Machine struct {
	Boot  string        // boot id in which the rest was written
	Lease int64         // 0 is none
	Sent  time.Duration // since boot, when the last renewal that was taken was sent
	// Members are the client URLs of each voting member of the key-value
	// store.
	Members [][]string
}

// Unit is what is remembered of a unit.
type Unit struct {
	Began string // hash of the content that was started
}

var (
	machineBucket = []byte("machine")
	unitsBucket   = []byte("units")
	machineKey    = []byte("machine")
)

// lockWait is how long an agent that is just ending may keep the file.
const lockWait = time.Second

// Memory is an open file.
type Memory struct {
	db *bolt.DB
	// Notice says what was wrong with the file that was found; "" is nothing.
	Notice string
}

// Open opens the file and makes it if it is not there. A damaged one is
// renamed to path.damaged.
func Open(path string) (*Memory, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("open the agent's memory: %w", err)
	}
	db, err := open(path)
	if err == nil {
		return &Memory{db: db}, nil
	}
	if errors.Is(err, bolt.ErrTimeout) {
		return nil, fmt.Errorf("open the agent's memory %q: another agent has it open", path)
	}
	if info, serr := os.Stat(path); serr != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open the agent's memory: %w", err)
	}
	aside := path + ".damaged"
	if rerr := os.Rename(path, aside); rerr != nil {
		return nil, fmt.Errorf("open the agent's memory: %w", errors.Join(err, rerr))
	}
	notice := fmt.Sprintf("the agent's memory %q is damaged (%v); it is kept as %q and begun anew", path, err, aside)
	if db, err = open(path); err != nil {
		return nil, fmt.Errorf("open the agent's memory: %w", err)
	}
	return &Memory{db: db, Notice: notice}, nil
}

// open opens and reads the whole file once: bbolt believes its pages, and a
// bad one would end the agent later, at every start. (Its own Check reads in a
// goroutine of its own, where a fault cannot be caught.)
func open(path string) (db *bolt.DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			// The database is not closed: its lock belongs to this process
			// and the file is given up.
			db, err = nil, fmt.Errorf("its pages contradict each other: %v", p)
		}
	}()
	db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockWait, PreLoadFreelist: true})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, b := range [][]byte{machineBucket, unitsBucket} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		_, _, err := read(tx)
		return err
	})
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return db, nil
}

// Close closes the file.
func (m *Memory) Close() error { return m.db.Close() }

// Read returns all that is remembered.
func (m *Memory) Read() (machine Machine, units map[string]Unit, err error) {
	err = m.db.View(func(tx *bolt.Tx) error {
		machine, units, err = read(tx)
		return err
	})
	return machine, units, err
}

func read(tx *bolt.Tx) (machine Machine, units map[string]Unit, err error) {
	units = map[string]Unit{}
	if b := tx.Bucket(machineBucket).Get(machineKey); b != nil {
		if err := json.Unmarshal(b, &machine); err != nil {
			return machine, units, fmt.Errorf("read the agent's memory: %w", err)
		}
	}
	err = tx.Bucket(unitsBucket).ForEach(func(k, v []byte) error {
		var u Unit
		if err := json.Unmarshal(v, &u); err != nil {
			return fmt.Errorf("read the agent's memory of %q: %w", k, err)
		}
		units[string(k)] = u
		return nil
	})
	return machine, units, err
}

// SetMachine remembers the machine.
func (m *Memory) SetMachine(machine Machine) error {
	return m.update(func(tx *bolt.Tx) error { return put(tx, machineBucket, machineKey, machine) })
}

// SetUnits remembers units, all at once; nil forgets one.
func (m *Memory) SetUnits(units map[string]*Unit) error {
	return m.update(func(tx *bolt.Tx) error {
		for name, u := range units {
			if u == nil {
				if err := tx.Bucket(unitsBucket).Delete([]byte(name)); err != nil {
					return err
				}
				continue
			}
			if err := put(tx, unitsBucket, []byte(name), u); err != nil {
				return err
			}
		}
		return nil
	})
}

func (m *Memory) update(f func(*bolt.Tx) error) error {
	if err := m.db.Update(f); err != nil {
		return fmt.Errorf("write the agent's memory: %w", err)
	}
	return nil
}

func put(tx *bolt.Tx, bucket, key []byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Bucket(bucket).Put(key, b)
}
