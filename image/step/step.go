// Package step runs the steps of a build so that work whose inputs did not
// change is not done again.
//
// A step is a function that fills a directory. Its result is kept in the store
// under the digest of everything that went into it (the Key), and is found
// there by the next build. A result is written to a temporary directory and
// renamed when it is complete, so that neither an interrupted build nor two
// builds at once can leave half a result behind.
//
// It is for image/build. It does not order steps or run them side by side: the
// composition does that in plain Go, because a key is often made of the results
// of earlier steps.
package step

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// Keep is how many results of one step stay in the store; the least recently
// used ones beyond it are removed.
const Keep = 2

// State says what an Event tells about a step.
type State int

// The states of a step.
const (
	Started State = iota // work began
	Done                 // work ended well
	Cached               // the result was there already
	Failed               // work ended with Event.Err
	Note                 // Event.Text is worth knowing; the step goes on
)

// Event is one thing that happened to a step.
type Event struct {
	Name    string
	State   State
	Elapsed time.Duration // since the step's start; 0 for Started
	Text    string        // for Note
	Err     error         // for Failed
}

// Store is a directory of results.
type Store struct {
	Dir    string           // is made when missing
	Like   string           // another store, whose results serve too; "" for none
	Now    func() time.Time // a clock for Event.Elapsed and for what was used last
	Report func(Event)      // is called from several goroutines at once; may be nil
}

// Key collects the inputs of a step.
type Key struct{ hash hash.Hash }

// NewKey returns a key without inputs. The kind of a step and the version of
// its code belong into every key; pass them as the first parts.
func NewKey(parts ...string) *Key {
	k := &Key{hash: sha256.New()}
	return k.Add(parts...)
}

// Add appends inputs. The parts are kept apart: ("ab", "c") and ("a", "bc")
// give different digests.
func (k *Key) Add(parts ...string) *Key {
	for _, part := range parts {
		fmt.Fprintf(k.hash, "%d:%s,", len(part), part)
	}
	return k
}

// Sum returns the digest of the inputs in lower case hex.
func (k *Key) Sum() string { return hex.EncodeToString(k.hash.Sum(nil)) }

// Run returns the directory with the result of the step name for key. When the
// store does not have it, fill is called with an empty directory to write to.
// The result must not be changed afterwards.
func (s *Store) Run(ctx context.Context, name string, key *Key, fill func(ctx context.Context, dir string) error) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	parent := filepath.Join(s.Dir, name)
	final := filepath.Join(parent, key.Sum()[:24])
	if s.Like != "" && !isDir(final) {
		if other := filepath.Join(s.Like, name, filepath.Base(final)); isDir(other) {
			s.report(Event{Name: name, State: Cached})
			return other, nil
		}
	}
	if isDir(final) {
		now := s.Now()
		// The time only decides what is removed first: failing to set it is harmless.
		_ = os.Chtimes(final, now, now)
		s.report(Event{Name: name, State: Cached})
		return final, nil
	}
	start := s.Now()
	s.report(Event{Name: name, State: Started})
	err := s.fill(ctx, parent, final, fill)
	if err != nil && ctx.Err() != nil {
		return "", ctx.Err() // another step failed first; this one only stopped
	}
	if err != nil {
		s.report(Event{Name: name, State: Failed, Elapsed: s.Now().Sub(start), Err: err})
		return "", fmt.Errorf("%s: %w", name, err)
	}
	s.report(Event{Name: name, State: Done, Elapsed: s.Now().Sub(start)})
	return final, nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// Note reports something worth knowing about the step name.
func (s *Store) Note(name, format string, args ...any) {
	s.report(Event{Name: name, State: Note, Text: fmt.Sprintf(format, args...)})
}

func (s *Store) report(e Event) {
	if s.Report != nil {
		s.Report(e)
	}
}

func (s *Store) fill(ctx context.Context, parent, final string, fill func(context.Context, string) error) error {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(parent, ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	if err := fill(ctx, temporary); err != nil {
		return err
	}
	if err := os.Chmod(temporary, 0o755); err != nil {
		return err
	}
	if err := os.Rename(temporary, final); err != nil {
		// Another build finished the same step first: its result is as good.
		if isDir(final) {
			return nil
		}
		return err
	}
	return s.prune(parent, final)
}

// prune removes the results in parent that were not used for the longest time.
func (s *Store) prune(parent, keep string) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	type result struct {
		path string
		used time.Time
	}
	var results []result
	for _, entry := range entries {
		path := filepath.Join(parent, entry.Name())
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if strings.HasPrefix(entry.Name(), ".new-") {
			// What an interrupted build left. A running one is younger than a day.
			if s.Now().Sub(info.ModTime()) > 24*time.Hour {
				results = append(results, result{path: path})
			}
			continue
		}
		if path != keep {
			results = append(results, result{path: path, used: info.ModTime()})
		}
	}
	sort.Slice(results, func(i, j int) bool { return results[i].used.After(results[j].used) })
	for i, r := range results {
		if i < Keep-1 && !r.used.IsZero() {
			continue
		}
		if err := os.RemoveAll(r.path); err != nil {
			return fmt.Errorf("remove old result %q: %w", r.path, err)
		}
	}
	return nil
}
