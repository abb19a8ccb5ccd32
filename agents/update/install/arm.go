package install

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math"

	"github.com/coracle-os/coracle/image/release"
	"github.com/coracle-os/coracle/initrd/entries"
)

// arm writes the UKI under a temporary name, checks it as it stands there, and
// only then gives it the name that the boot loader takes.
func (in *Install) arm(ctx context.Context) error {
	l, err := entries.List(in.ESP)
	if err != nil {
		return err
	}
	steps, err := entries.PlanArm(l, in.Running, in.Version, in.rootHash(), in.Index.UKISize)
	if err != nil {
		return err
	}
	own, _ := l.Find(in.Running)
	pieces, err := newPieces(ctx, in, own)
	if err != nil {
		return err
	}
	defer pieces.close()
	named := 0
	for named < len(steps) && steps[named].Kind != entries.Rename {
		named++
	}
	if err := entries.Apply(in.ESP, steps[:named], pieces); err != nil {
		return err
	}
	if err := in.checkUKI(steps[named].File); err != nil {
		return fmt.Errorf("boot entry as written: %w", err)
	}
	return entries.Apply(in.ESP, steps[named:], nil)
}

func (in *Install) checkUKI(file string) error {
	f, err := in.ESP.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, math.MaxInt64)); err != nil {
		return err
	}
	if release.Sum(h.Sum(nil)) != in.Index.UKISum {
		return fmt.Errorf("%s does not have the signed digest; the EFI system partition or its disk fails", file)
	}
	if hash := entries.RootHash(in.ESP, file); hash != in.rootHash() {
		return fmt.Errorf("%s starts root hash %q, the release is %s: the publisher's files do not belong together", file, hash, in.rootHash())
	}
	return nil
}

// pieces reads the new UKI: pieces that the running one has come from there,
// the others are fetched, neighbours together.
type pieces struct {
	ctx     context.Context
	in      *Install
	old     entries.Reader // nil when the running entry cannot be read
	known   map[release.Sum]release.Piece
	next    int
	decoder *release.Decoder
	rest    []byte // unpacked and not yet read
	stored  []byte // fetched, from offset at of the blob
	at      int64
}

// together is how much is fetched at a time, in bytes.
const together = 1 << 20

func newPieces(ctx context.Context, in *Install, own entries.File) (*pieces, error) {
	d, err := release.NewDecoder()
	if err != nil {
		return nil, err
	}
	p := &pieces{ctx: ctx, in: in, decoder: d, known: map[release.Sum]release.Piece{}}
	if p.old, err = in.ESP.Open(own.File); err != nil {
		p.old = nil
		return p, nil
	}
	cut, err := release.CutUKI(p.old, own.Size)
	if err != nil {
		in.Log.Warn("running boot entry cannot be reused", "error", err)
	}
	for _, piece := range cut {
		p.known[piece.Content] = piece
	}
	return p, nil
}

func (p *pieces) close() {
	p.decoder.Close()
	if p.old != nil {
		p.old.Close()
	}
}

// Read gives the next bytes of the UKI.
func (p *pieces) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		if p.next == len(p.in.Index.UKI) {
			return 0, io.EOF
		}
		if err := p.unpack(p.in.Index.UKI[p.next]); err != nil {
			return 0, fmt.Errorf("UKI of version %s: %w", p.in.Version, err)
		}
		p.next++
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

func (p *pieces) unpack(piece release.Piece) error {
	content := make([]byte, piece.Size)
	if old, ok := p.known[piece.Content]; ok && old.Size == piece.Size {
		if _, err := p.old.ReadAt(content, old.At); err == nil && sha256.Sum256(content) == piece.Content {
			p.rest = content
			return nil
		}
	}
	stored, err := p.fetch(piece)
	if err != nil {
		return err
	}
	if err := p.decoder.Decode(content, piece.Chunk, stored); err != nil {
		return err
	}
	if sha256.Sum256(content) != piece.Content {
		return fmt.Errorf("piece at %d: the publisher's index and blob do not belong together", piece.At)
	}
	p.rest = content
	return nil
}

// fetch returns the stored bytes of a piece, and fetches with it what follows
// and will be needed.
func (p *pieces) fetch(piece release.Piece) ([]byte, error) {
	if piece.Length == 0 {
		return nil, nil
	}
	if from := piece.Offset - p.at; from >= 0 && from+piece.Length <= int64(len(p.stored)) {
		return p.stored[from:][:piece.Length], nil
	}
	all := p.in.Index.UKI
	last := p.next
	for last+1 < len(all) && all[last+1].Range().End()-piece.Offset <= together {
		if _, ok := p.known[all[last+1].Content]; ok {
			break
		}
		last++
	}
	want := release.Range{Offset: piece.Offset, Length: all[last].Range().End() - piece.Offset}
	stored, err := p.in.Range(p.ctx, want, func(b []byte) error {
		for _, q := range all[p.next : last+1] {
			if q.Length > 0 && sha256.Sum256(b[q.Offset-want.Offset:][:q.Length]) != q.Sum {
				return fmt.Errorf("piece of the UKI at %d: digest differs: %w", q.At, release.ErrDamaged)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	p.stored, p.at = stored, want.Offset
	return stored[:piece.Length], nil
}
