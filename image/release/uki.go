package release

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/coracle-os/coracle/image/uki"
)

// ukiStep is how many bytes a piece of a UKI has at most.
const ukiStep = 64 << 10

// CutUKI cuts a UKI of this size into pieces: at the start of each section and
// every 64 KiB from there. Equal sections of two UKIs give equal pieces wherever
// they are, so a client cuts the UKIs that it has and finds the pieces of the
// new one by Content. Only At, Size and Content of the pieces are set. What is no
// UKI is cut every 64 KiB. Failed reads are errors.
func CutUKI(r io.ReaderAt, size int64) ([]Piece, error) {
	if size > MaxUKISize {
		return nil, fmt.Errorf("cut UKI: %d bytes, at most %d", size, int64(MaxUKISize))
	}
	cuts := []int64{0, size}
	if image, err := uki.Read(r); err == nil {
		for _, s := range image.Sections {
			if s.Size > 0 && s.Offset > 0 && s.Offset < size {
				cuts = append(cuts, s.Offset)
			}
		}
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	var pieces []Piece
	buffer := make([]byte, ukiStep)
	for i := range len(cuts) - 1 {
		at := cuts[i]
		for _, n := range even(cuts[i+1]-at, ukiStep) {
			if got, err := r.ReadAt(buffer[:n], at); int64(got) < n {
				return nil, fmt.Errorf("cut UKI: read at %d: %w", at, errors.Join(err, io.ErrUnexpectedEOF))
			}
			p := Piece{At: at, Content: sha256.Sum256(buffer[:n])}
			p.Size = n
			pieces = append(pieces, p)
			at += n
		}
	}
	return pieces, nil
}
