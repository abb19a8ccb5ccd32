// Package attempts counts how often in a row a release was started without
// lasting. The boot loader counts only a release that is on trial; one that was
// marked good and then breaks, because its slot is damaged or the machine has
// changed, would restart for ever (the loader's counters are gone from its
// entry's name). So stage 1 counts every start in a file of the state partition,
// and gives the release up after the last of Most when another system is there.
// PID 1 forgets the count when the machine is stopped in order, and when it has
// run for Lasting.
//
// Left out on purpose: machines without a state partition, which cannot count.
package attempts

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	// File is where the count is, below the state partition's root (/var).
	File = "lib/coracle/boot-attempts.json"
	// Most is how many starts in a row may fail to last.
	Most = 3
	// Lasting is how long a start must last to be none of those: longer than a
	// boot, and short, so that a row of power cuts is not held against a release.
	Lasting = time.Minute
)

// Record is the count of one release.
type Record struct {
	RootHash string `json:"rootHash"`
	Starts   int    `json:"starts"` // in a row, this one included
}

// Next is the record after one more start.
func (r Record) Next(rootHash string) Record {
	if r.RootHash != rootHash || r.Starts < 0 {
		r.Starts = 0
	}
	return Record{RootHash: rootHash, Starts: r.Starts + 1}
}

// Spent is true when the starts before this one were the last.
func (r Record) Spent() bool { return r.Starts > Most }

// Read reads the file below the directory state. One that is not there or makes
// no sense counts nothing.
func Read(state string) Record {
	var r Record
	data, err := os.ReadFile(filepath.Join(state, File))
	if err != nil || json.Unmarshal(data, &r) != nil {
		return Record{}
	}
	return r
}

// Write replaces the file; it is on the disk when Write returns.
func (r Record) Write(state string) error {
	name := filepath.Join(state, File)
	data, err := json.Marshal(r)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(name), 0o755)
	}
	if err == nil {
		err = writeSynced(name+".new", append(data, '\n'))
	}
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		return fmt.Errorf("count this start: %w", err)
	}
	return nil
}

func writeSynced(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// Forget removes the count.
func Forget(state string) error {
	if err := os.Remove(filepath.Join(state, File)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the starts: %w", err)
	}
	return nil
}
