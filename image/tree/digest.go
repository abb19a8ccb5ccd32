package tree

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
)

// Digest is the lower-case hexadecimal SHA-256 of everything the tree says,
// contents included. Trees with one digest give the same image. It reads all
// files, several at a time.
func (t Tree) Digest() (string, error) {
	sums := make([][]byte, len(t.entries))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, e := range t.entries {
		if !e.Mode.IsRegular() || e.Size == 0 {
			continue
		}
		group.Go(func() (err error) {
			sums[i], err = contentSum(e)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return "", fmt.Errorf("digest of tree: %w", err)
	}
	h := sha256.New()
	for i, e := range t.entries {
		fmt.Fprintf(h, "%q %o %d %d %q %d %d %d %x\n", e.Path, uint32(e.Mode), e.UID, e.GID, e.Target, e.Major, e.Minor, e.Size, sums[i])
		for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
			fmt.Fprintf(h, "\t%q %x\n", name, e.Xattrs[name])
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func contentSum(e Entry) ([]byte, error) {
	r, err := e.Open()
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", e.Path, err)
	}
	defer r.Close()
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", e.Path, err)
	}
	if n != e.Size {
		return nil, fmt.Errorf("read %q: got %d bytes, the tree says %d; the source changed while it was used", e.Path, n, e.Size)
	}
	return h.Sum(nil), nil
}
