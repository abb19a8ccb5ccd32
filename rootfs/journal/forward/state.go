package forward

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal"
)

// loadState reads the number and cursor of the last record received.
func loadState(path string) (seq uint64, cursor string, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, "", err
	}
	cursor = strings.TrimSpace(string(text))
	seq, _, err = journal.ParseCursor(cursor)
	return seq, cursor, err
}

// save remembers how far the receiver is, at most once in saveEvery unless now
// is zero. The file is replaced as a whole and not synced: one that is behind
// costs records sent twice, no more.
func (f *Forwarder) save(now time.Time) {
	if f.received == f.saved || f.cursor == "" {
		return
	}
	if n := len(f.marks); !now.IsZero() && n > 1 && now.Sub(f.marks[n-2].at) < saveEvery && f.received-f.saved < 10*maxBatch {
		return
	}
	temporary := f.config.State + ".new"
	err := os.MkdirAll(filepath.Dir(temporary), 0o755)
	if err == nil {
		err = os.WriteFile(temporary, []byte(f.cursor+"\n"), 0o600)
	}
	if err == nil {
		err = os.Rename(temporary, f.config.State)
	}
	if err == nil {
		f.saved = f.received
	}
}
