package verity

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// batch is how many blocks one worker takes at a time: the digests of a batch
// fill whole hash blocks.
const batch = 2 * digestsPerBlock

// Format writes superblock and hash tree of data, which has dataSize bytes (a
// whole number of blocks), to out and returns the root hash. It hashes on all
// processors. The same arguments give the same bytes; s.DataBlocks is set from
// dataSize.
func Format(data io.ReaderAt, dataSize int64, out io.WriterAt, s Superblock) (rootHash []byte, err error) {
	if dataSize <= 0 || dataSize%BlockSize != 0 {
		return nil, fmt.Errorf("format verity: %d bytes of data, want a positive multiple of %d", dataSize, BlockSize)
	}
	s.DataBlocks = dataSize / BlockSize
	head, err := s.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("format verity: %w", err)
	}
	digests, err := hashBlocks(data, s.DataBlocks, s.Salt)
	if err != nil {
		return nil, fmt.Errorf("format verity: %w", err)
	}
	for _, l := range Levels(s.DataBlocks) {
		blocks := make([]byte, l.Blocks*BlockSize)
		copy(blocks, digests)
		if _, err := out.WriteAt(blocks, l.Start*BlockSize); err != nil {
			return nil, fmt.Errorf("format verity: write hash tree: %w", err)
		}
		if digests, err = hashBlocks(bytes.NewReader(blocks), l.Blocks, s.Salt); err != nil {
			return nil, fmt.Errorf("format verity: %w", err)
		}
	}
	if _, err := out.WriteAt(append(head, make([]byte, BlockSize-len(head))...), 0); err != nil {
		return nil, fmt.Errorf("format verity: write superblock: %w", err)
	}
	return digests, nil
}

// hashBlocks returns the digests of the first n blocks of r, one after the
// other.
func hashBlocks(r io.ReaderAt, n int64, salt []byte) ([]byte, error) {
	digests := make([]byte, n*DigestSize)
	err := eachBatch(n, func(first, count int64, w *worker) error {
		blocks, err := w.read(r, first, count)
		if err != nil {
			return fmt.Errorf("read data block %d: %w", first, err)
		}
		for i := range count {
			w.sum(digests[(first+i)*DigestSize:], salt, blocks[i*BlockSize:])
		}
		return nil
	})
	return digests, err
}

// A BadBlockError names the first block that does not have its digest.
type BadBlockError struct {
	Tree  bool  // the block is in the hash tree, else in the data
	Block int64 // its number in its partition, in blocks of BlockSize
}

func (e *BadBlockError) Error() string {
	where := "root"
	if e.Tree {
		where = "hash tree"
	}
	return fmt.Sprintf("block %d of the %s does not match the root hash; write the image anew", e.Block, where)
}

// Verify checks data, of dataSize bytes, and its hash partition against the
// root hash: first the tree from the top down, then all data on all
// processors. What does not hold is a *BadBlockError, of the first such block;
// a partition that is too short, no superblock and failed reads are other
// errors.
func Verify(data io.ReaderAt, dataSize int64, hashes io.ReaderAt, rootHash []byte) error {
	if len(rootHash) != DigestSize {
		return fmt.Errorf("verify: root hash %q has %d bytes, want %d", hex.EncodeToString(rootHash), len(rootHash), DigestSize)
	}
	s, err := ReadSuperblock(hashes)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if s.DataBlocks > dataSize/BlockSize {
		return fmt.Errorf("verify: the hash tree covers %d blocks, the data has only %d; the image is cut short", s.DataBlocks, dataSize/BlockSize)
	}
	want := rootHash
	all := Levels(s.DataBlocks)
	for i := len(all) - 1; i >= 0; i-- {
		blocks, err := verifyLevel(hashes, all[i], want, s.Salt)
		if err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		want = blocks
	}
	if err := verifyData(data, s, want); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	return nil
}

// verifyLevel reads a level and checks it against its digests.
func verifyLevel(hashes io.ReaderAt, l Level, want, salt []byte) ([]byte, error) {
	// Read before allocating by number: the superblock may lie.
	blocks, err := io.ReadAll(io.NewSectionReader(hashes, l.Start*BlockSize, l.Blocks*BlockSize))
	if err != nil {
		return nil, fmt.Errorf("read hash tree: %w", err)
	}
	if int64(len(blocks)) != l.Blocks*BlockSize {
		return nil, fmt.Errorf("read hash tree: it ends in block %d of %d; the image is cut short", l.Start+int64(len(blocks))/BlockSize, l.Start+l.Blocks)
	}
	w := newWorker()
	var got [DigestSize]byte
	for i := range l.Blocks {
		w.sum(got[:], salt, blocks[i*BlockSize:])
		if !bytes.Equal(got[:], want[i*DigestSize:][:DigestSize]) {
			return nil, &BadBlockError{Tree: true, Block: l.Start + i}
		}
	}
	return blocks, nil
}

// verifyData checks the data blocks against their digests. A worker that finds
// a bad block lets the others go on below it, so that the first one is named.
func verifyData(data io.ReaderAt, s Superblock, want []byte) error {
	var bad atomic.Int64
	bad.Store(s.DataBlocks)
	err := eachBatch(s.DataBlocks, func(first, count int64, w *worker) error {
		if first > bad.Load() {
			return errStop
		}
		blocks, err := w.read(data, first, count)
		if err != nil {
			return fmt.Errorf("read data block %d: %w", first, err)
		}
		var got [DigestSize]byte
		for i := range count {
			w.sum(got[:], s.Salt, blocks[i*BlockSize:])
			if !bytes.Equal(got[:], want[(first+i)*DigestSize:][:DigestSize]) {
				lower(&bad, first+i)
				break
			}
		}
		return nil
	})
	if b := bad.Load(); b < s.DataBlocks {
		return &BadBlockError{Block: b}
	}
	return err
}

func lower(v *atomic.Int64, to int64) {
	for {
		old := v.Load()
		if old <= to || v.CompareAndSwap(old, to) {
			return
		}
	}
}

// errStop ends eachBatch early and is not an error of it.
var errStop = errors.New("stop")

// eachBatch calls do for the blocks 0 to n-1, in batches from low to high, on
// all processors; a worker is used by one goroutine.
func eachBatch(n int64, do func(first, count int64, w *worker) error) error {
	var group errgroup.Group
	var mu sync.Mutex
	next := int64(0)
	take := func() (first, count int64) {
		mu.Lock()
		defer mu.Unlock()
		first = next
		next = min(next+batch, n)
		return first, next - first
	}
	for range min(int64(runtime.GOMAXPROCS(0)), (n+batch-1)/batch) {
		group.Go(func() error {
			w := newWorker()
			for {
				first, count := take()
				if count == 0 {
					return nil
				}
				if err := do(first, count, w); err != nil {
					return err
				}
			}
		})
	}
	if err := group.Wait(); err != nil && !errors.Is(err, errStop) {
		return err
	}
	return nil
}

type worker struct {
	hash   hash.Hash
	buffer []byte
}

func newWorker() *worker { return &worker{hash: sha256.New()} }

// read returns count blocks of r, valid until the next call.
func (w *worker) read(r io.ReaderAt, first, count int64) ([]byte, error) {
	if w.buffer == nil {
		w.buffer = make([]byte, batch*BlockSize)
	}
	blocks := w.buffer[:count*BlockSize]
	n, err := r.ReadAt(blocks, first*BlockSize)
	if n == len(blocks) {
		return blocks, nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return nil, err
}

// sum puts the digest of the first block of blocks in dst.
func (w *worker) sum(dst, salt, blocks []byte) {
	w.hash.Reset()
	w.hash.Write(salt)
	w.hash.Write(blocks[:BlockSize])
	w.hash.Sum(dst[:0])
}
