// Package evidence collects what is left of a boot that failed: the kernel's
// last words from pstore and the last lines of the boot's journal on the state
// partition. The health gate stores it with the release that failed, and
// `updatectl history` shows it.
//
// It only reads, apart from pstore: records there take up the firmware's few
// kilobytes, so that they are removed once the caller has them stored (Clear).
// Left out on purpose: core dumps, and what other machines may have heard.
package evidence

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/journal/format"
	"github.com/coracle-os/coracle/rootfs/journal/query"
)

// Bounds of what is kept: it goes into a small database for good.
const (
	MaxLines = 60      // of each kind
	MaxLine  = 400     // bytes
	maxDump  = 1 << 20 // bytes read of one pstore record
	maxBoots = 10      // looked at, from the newest
)

// Evidence is what is known of one failed boot.
type Evidence struct {
	// Kernel are the last lines of the kernel's dump, oldest first. Empty when
	// the firmware kept none: not every machine can.
	Kernel []string `json:"kernel,omitempty"`
	// Journal are the last lines of the boot's journal, oldest first. Empty
	// when it never got that far, or lost its last seconds.
	Journal []string `json:"journal,omitempty"`
	// FailedUnits are the units that the boot's journal says have failed.
	FailedUnits []string `json:"failedUnits,omitempty"`
	// Boot is the boot id, "" when no journal of it was found.
	Boot string `json:"boot,omitempty"`
	// Files are the pstore records that Kernel is from.
	Files []string `json:"files,omitempty"`
}

// Collect gathers the evidence of the last boot of the release with that root
// hash, apart from the current one, which is given by its id. root is "/" on
// the machine. What cannot be read is told in the error; the evidence is what
// could be.
func Collect(root, current, rootHash string) (Evidence, error) {
	var e Evidence
	kernelErr := e.pstore(filepath.Join(root, "sys/fs/pstore"))
	journalErr := e.journal(root, current, rootHash)
	return e, errors.Join(kernelErr, journalErr)
}

// pstore reads the dumps in dir. A kernel splits a dump into records of which
// the one with the highest part number is the oldest; their names sort by it.
func (e *Evidence) pstore(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read kernel dumps: %w", err)
	}
	var errs []error
	var parts [][]string
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), "dmesg-") && !strings.HasPrefix(entry.Name(), "console-") {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		text, err := readSome(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("read kernel dump: %w", err))
			continue
		}
		e.Files = append(e.Files, path)
		parts = append(parts, Lines(text))
	}
	slices.Reverse(parts)
	e.Kernel = last(slices.Concat(parts...), MaxLines)
	return errors.Join(errs...)
}

func readSome(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxDump))
	return string(b), err
}

// Clear removes the records that the evidence is from. Call it once the
// evidence is stored.
func (e Evidence) Clear() error {
	var errs []error
	for _, f := range e.Files {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("free the firmware's memory: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (e *Evidence) journal(root, current, rootHash string) error {
	dirs, err := query.LocalDirs(root)
	if err != nil {
		return fmt.Errorf("read the journal of the failed boot: %w", err)
	}
	j, err := query.Open(dirs...)
	if err != nil {
		return fmt.Errorf("read the journal of the failed boot: %w", err)
	}
	defer j.Close()
	id, ok := failedBoot(j, current, rootHash)
	if !ok {
		return nil
	}
	e.Boot = id.String()
	for _, r := range j.Tail(&query.Filter{Boot: &id}, MaxLines) {
		var b strings.Builder
		if format.Write(&b, &r, format.Options{Mode: "short-monotonic", NoHostname: true}) == nil {
			e.Journal = append(e.Journal, Lines(b.String())...)
		}
	}
	e.Journal = last(e.Journal, MaxLines)
	for r := range j.Forward(&query.Filter{Boot: &id}) {
		if name, ok := failedUnit(&r); ok && !slices.Contains(e.FailedUnits, name) && len(e.FailedUnits) < MaxLines {
			e.FailedUnits = append(e.FailedUnits, name)
		}
	}
	return nil
}

// failedUnit tells if a record is PID 1's word that a unit has failed: an error
// about a unit.
func failedUnit(r *journal.Record) (name string, ok bool) {
	priority, err := strconv.Atoi(r.Get("PRIORITY"))
	name = r.Get("UNIT")
	return name, err == nil && priority <= 3 && name != "" && r.Get("_PID") == "1"
}

// failedBoot picks the last boot of the release: the kernel's first messages
// have its command line, and that the root hash.
func failedBoot(j *query.Journal, current, rootHash string) (journal.ID, bool) {
	boots := j.Boots()
	for i := len(boots) - 1; i >= max(0, len(boots)-maxBoots); i-- {
		if id := boots[i].ID; plain(id.String()) != plain(current) && booted(j, id, rootHash) {
			return id, true
		}
	}
	return journal.ID{}, false
}

func booted(j *query.Journal, id journal.ID, rootHash string) bool {
	n := 0
	for r := range j.Forward(&query.Filter{Boot: &id, Fields: [][]string{{"_TRANSPORT=kernel"}}}) {
		if strings.Contains(r.Get("MESSAGE"), "roothash="+rootHash) {
			return true
		}
		if n++; n == 100 {
			break
		}
	}
	return false
}

// plain takes the dashes from a boot id: the kernel writes them, the journal
// does not.
func plain(id string) string { return strings.ReplaceAll(strings.TrimSpace(id), "-", "") }

// Lines splits text into lines that can be shown on any terminal, each at most
// MaxLine bytes long, without empty ones.
func Lines(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		line = strings.Map(func(r rune) rune {
			if r < ' ' && r != '\t' || r == 0x7f {
				return -1
			}
			return r
		}, strings.ToValidUTF8(line, "?"))
		if len(line) > MaxLine {
			line = strings.ToValidUTF8(line[:MaxLine], "") + "..."
		}
		if strings.TrimSpace(line) != "" {
			out = append(out, line)
		}
	}
	return out
}

func last(lines []string, n int) []string {
	return lines[max(0, len(lines)-n):]
}

// String is the evidence as lines for people, "" when there is none.
func (e Evidence) String() string {
	var b strings.Builder
	part := func(title string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(&b, "%s:\n  %s\n", title, strings.Join(lines, "\n  "))
		}
	}
	part("failed units", e.FailedUnits)
	part("kernel", e.Kernel)
	part("journal of boot "+e.Boot, e.Journal)
	return b.String()
}
