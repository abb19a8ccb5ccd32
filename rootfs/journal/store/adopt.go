package store

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/coracle-os/coracle/rootfs/journal/segment"
)

// Flush tries the persistent directory again when records are volatile now. It
// moves the volatile segments there and goes on in it. It returns nil when the
// journal is persistent afterwards.
func (s *Store) Flush() error {
	if s.persistent {
		return nil
	}
	old := s.path
	if err := s.room(); err != nil {
		return err
	}
	if err := s.use(true); err != nil {
		if useErr := s.use(false); useErr != nil {
			return fmt.Errorf("%w (and then %w)", err, useErr)
		}
		return err
	}
	if err := s.adopt(); err != nil {
		return fmt.Errorf("move volatile journal %q: %w", old, err)
	}
	s.config.Log.Info("journal is persistent", "directory", s.config.Persistent)
	return nil
}

// room makes sure that the persistent directory can take what is volatile.
func (s *Store) room() error {
	dir := s.config.Persistent
	if dir == "" {
		return fmt.Errorf("move volatile journal: no persistent directory")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("move volatile journal: %w", err)
	}
	need, err := Usage(s.config.Volatile)
	if err != nil {
		return err
	}
	l := measure(dir, s.config.System, true)
	_, err = Vacuum(dir, l.total-need, "")
	return err
}

// adopt moves all volatile segments into the persistent directory.
func (s *Store) adopt() error {
	if s.config.Volatile == "" || s.config.Volatile == s.config.Persistent {
		return nil
	}
	files, err := list(s.config.Volatile)
	if err != nil || len(files) == 0 {
		return err
	}
	s.close() // the moved ones come after what is written so far
	for _, f := range files {
		if err := move(f, s.config.Persistent); err != nil {
			return err
		}
	}
	return nil
}

// move copies, syncs, renames, and then deletes the original.
func move(f file, dir string) error {
	path := filepath.Join(dir, fileName(f.header.FirstSeq))
	if r, err := segment.Open(path); err == nil {
		same := r.Header().ID == f.header.ID
		r.Close()
		if !same {
			return fmt.Errorf("move journal %q: %q is another segment with the same number", f.path, path)
		}
	}
	temporary := path + ".new"
	if err := copyFile(f.path, temporary); err != nil {
		os.Remove(temporary)
		return fmt.Errorf("move journal: %w", err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("move journal: %w", err)
	}
	return os.Remove(f.path)
}

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		target.Close()
		return err
	}
	if err := target.Sync(); err != nil {
		target.Close()
		return err
	}
	return target.Close()
}
