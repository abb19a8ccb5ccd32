package segment

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/google/go-cmp/cmp"
)

// TestTornTail is what a power cut leaves when the file's size was written and
// its last blocks were not: zeroes, or what the blocks held before, from many
// bytes on. The records before it are read, and a writer goes on behind them.
func TestTornTail(t *testing.T) {
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole")
	const count = 5
	ends := write(t, whole, count)
	text, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	garbage := make([]byte, len(text)+4096)
	for i := range garbage {
		garbage[i] = byte(random.Uint32())
	}
	// Another segment's frames are the worst: whole, but not of this file.
	other := testHeader
	other.ID = journal.ID{8}
	var foreign []byte
	for len(foreign) < len(text)+4096 {
		foreign = appendFrame(foreign, other.seed(), frameEntry, []byte{1, 2, 3, 0, 1, 4, 'f', 'a', 'k', 'e'})
	}
	for name, filling := range map[string][]byte{"zeroes": make([]byte, len(text)+4096), "garbage": garbage, "foreign": foreign} {
		for torn := headerSize; torn < len(text); torn += 23 {
			for _, size := range []int{len(text), torn + 4096} {
				path := filepath.Join(dir, fmt.Sprint(name, torn, size))
				data := append(append([]byte(nil), text[:torn]...), filling[:size-torn]...)
				if err := os.WriteFile(path, data, 0o600); err != nil {
					t.Fatal(err)
				}
				var want []uint64
				for n, end := range ends {
					if bytes.HasPrefix(data, text[:end]) { // a frame ends with zeroes
						want = append(want, testHeader.FirstSeq+uint64(n))
					}
				}
				checkCut(t, path, torn, want)
				os.Remove(path)
			}
		}
	}
}

// TestDamagedBlock overwrites a block in the middle: the records before and
// behind it are read in both directions, and the writer leaves the file alone.
func TestDamagedBlock(t *testing.T) {
	const count, block = 200, 4096
	for name, fill := range map[string]byte{"zeroes": 0, "ones": 0xff, "frame types": frameEntry} {
		path := filepath.Join(t.TempDir(), "s")
		ends := write(t, path, count)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		begin := int64(len(text)) / 2 / block * block
		for i := range int64(block) {
			text[begin+i] = fill
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		var want []uint64
		for n, end := range ends {
			start := int64(headerSize)
			if n > 0 {
				start = ends[n-1]
			}
			if end <= begin || start >= begin+block {
				want = append(want, testHeader.FirstSeq+uint64(n))
			}
		}
		r := open(t, path)
		if diff := cmp.Diff(want, numbers(forward(t, r))); diff != "" {
			t.Errorf("%s, forward (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(want, numbers(backward(t, r))); diff != "" {
			t.Errorf("%s, backward (-want +got):\n%s", name, diff)
		}
		// Its end is whole, so a writer may go on behind it; it must not cut.
		if w, dropped, err := Append(path); err == nil {
			if dropped != 0 || w.LastSeq() != want[len(want)-1] {
				t.Errorf("%s: the writer dropped %d bytes and goes on after %d", name, dropped, w.LastSeq())
			}
			w.Close()
		} else if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
