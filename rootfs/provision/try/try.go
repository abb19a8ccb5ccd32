// Package try applies a plan to a running machine so that it can be taken back:
// by its owner, when nobody confirms it in time, or at the next boot when the
// machine stops in the middle. It serves `coracled config` and coreos-cloudinit.
//
// A try is a directory (Dir). What must be on the disk before what:
//
//  1. the document, then head.json: from here on there is a try;
//  2. before each step, what takes it back, in undo.jsonl;
//  3. the step itself;
//  4. when all is applied, head.json says so: only now it can be confirmed.
//
// Confirming removes head.json, taking back removes it when all is back. So
// whatever is cut off, a head.json that is left means: take back what
// undo.jsonl has. Taking back twice does no harm.
//
// Left out on purpose: what a script or a unit that ran has done, and home
// directories that were made; they stay.
package try

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// Dir is where a machine keeps its try, below the root directory.
const Dir = "/var/lib/coracle/config-try"

// Files of a try.
const (
	headFile     = "head.json"
	documentFile = "document"
	undoFile     = "undo.jsonl"
)

// Head says what is tried.
type Head struct {
	Name  string    `json:"name"` // of the document, for people
	Since time.Time `json:"since"`
	// Limit is how long it may stay unconfirmed, from when it was applied; 0 is
	// without an end.
	Limit time.Duration `json:"limit_ns"`
	// Peer and Server are the ends of the owner's SSH connection, "" is none.
	Peer   string `json:"peer,omitempty"`
	Server string `json:"server,omitempty"`
	// Save is a file that the document becomes when it is confirmed, "" is none.
	Save string `json:"save,omitempty"`
	// Started tells that steps may have been applied, Applied that all were.
	Started bool `json:"started"`
	Applied bool `json:"applied"`
}

// Try is a try on the disk.
type Try struct {
	dir  string
	Head Head
}

// ErrBusy is the error of a try that begins while another is on.
var ErrBusy = errors.New("another change is being tried; confirm it or take it back first")

// Begin puts a new try on the disk. Nothing is applied yet.
func Begin(dir string, head Head, document []byte) (*Try, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("begin a try: %w", err)
	}
	unlock, err := lock(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := os.Lstat(filepath.Join(dir, headFile)); err == nil {
		return nil, fmt.Errorf("begin a try: %w", ErrBusy)
	}
	t := &Try{dir: dir, Head: head}
	if err := os.Remove(filepath.Join(dir, undoFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("begin a try: %w", err)
	}
	if err := t.write(documentFile, document); err != nil {
		return nil, err
	}
	return t, t.save()
}

// Open returns the try that is on the disk. The error is fs.ErrNotExist when
// there is none.
func Open(dir string) (*Try, error) {
	t := &Try{dir: dir}
	data, err := os.ReadFile(filepath.Join(dir, headFile))
	if err != nil {
		return nil, fmt.Errorf("open the try: %w", err)
	}
	if err := json.Unmarshal(data, &t.Head); err != nil {
		// A head that is damaged is one that was begun: what was kept is put back.
		t.Head = Head{Name: "unknown", Started: true}
	}
	return t, nil
}

// Document returns the user-data that is tried.
func (t *Try) Document() ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(t.dir, documentFile))
	if err != nil {
		return nil, fmt.Errorf("read the document of the try: %w", err)
	}
	return data, nil
}

// Confirm ends the try: what was applied stays. The document becomes the file
// Head.Save, below root.
func (t *Try) Confirm(root string) error {
	unlock, err := lock(t.dir)
	if err != nil {
		return err
	}
	defer unlock()
	now, err := Open(t.dir)
	switch {
	case err != nil:
		return err
	case !now.Head.Applied:
		return errors.New("confirm the try: it is still being applied, or taken back")
	}
	if now.Head.Save != "" {
		document, err := now.Document()
		if err != nil {
			return err
		}
		path := filepath.Join(root, now.Head.Save)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("save the document: %w", err)
		}
		if err := writeFile(path, document); err != nil {
			return fmt.Errorf("save the document: %w", err)
		}
	}
	return t.end()
}

// end removes the try, the head first.
func (t *Try) end() error {
	if err := os.Remove(filepath.Join(t.dir, headFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("end the try: %w", err)
	}
	if err := syncDir(t.dir); err != nil {
		return fmt.Errorf("end the try: %w", err)
	}
	os.Remove(filepath.Join(t.dir, documentFile))
	os.Remove(filepath.Join(t.dir, undoFile))
	return nil
}

// keep puts what takes a step back on the disk.
func (t *Try) keep(steps []plan.Step) error {
	if len(steps) == 0 {
		return nil
	}
	data, err := json.Marshal(steps) // one line: all of a step's undo, or nothing
	if err != nil {
		return fmt.Errorf("keep what there was: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(t.dir, undoFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("keep what there was: %w", err)
	}
	defer f.Close()
	if _, err := f.Write(append(data, '\n')); err != nil {
		return fmt.Errorf("keep what there was: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("keep what there was: %w", err)
	}
	return syncDir(t.dir)
}

// kept returns what was kept, in the order of keeping, one list for each step.
// A last line without its end is of a step that was not begun.
func (t *Try) kept() (lists [][]plan.Step, err error) {
	data, err := os.ReadFile(filepath.Join(t.dir, undoFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read what was kept: %w", err)
	}
	for line := range bytes.Lines(data) {
		var steps []plan.Step
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		if lineErr := json.Unmarshal(line, &steps); lineErr != nil {
			err = errors.Join(err, fmt.Errorf("read what was kept: %w", lineErr))
			continue
		}
		lists = append(lists, steps)
	}
	return lists, err
}

func (t *Try) save() error {
	data, err := json.MarshalIndent(t.Head, "", "  ")
	if err != nil {
		return fmt.Errorf("keep the try: %w", err)
	}
	return t.write(headFile, append(data, '\n'))
}

func (t *Try) write(name string, data []byte) error {
	if err := writeFile(filepath.Join(t.dir, name), data); err != nil {
		return fmt.Errorf("keep the try: %w", err)
	}
	return nil
}

// writeFile replaces a file that only root may read, in one step.
func writeFile(path string, data []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// lock keeps confirming and taking back apart.
func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the try: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock the try: %w", err)
	}
	return func() { f.Close() }, nil
}
