// Package slots is the two root slots on a machine's disk, for the update
// engine: which is which, writing the one that is not running, and giving it
// the identity of what it holds.
//
// Identity is the pair of partition UUIDs, the halves of the root hash
// (Discoverable Partitions Specification). A slot that is being written has
// UUIDs that no root hash has, so that stage 1 can never mount it. The second
// copy of the partition table is written and flushed before the first; stage 1
// repairs the first from the second.
//
// Everything goes through one file, the whole disk: one flush covers a slot and
// its hash tree, and a test can record all writes. Left out on purpose: disks
// whose slots have been moved to another disk.
package slots

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	diskgpt "github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/google/uuid"

	"github.com/coracle-os/coracle/image/gpt"
	"github.com/coracle-os/coracle/image/verity"
	"github.com/coracle-os/coracle/initrd/grow"
	"github.com/coracle-os/coracle/initrd/partition"
)

// A Disk is the disk that the running system is on.
type Disk struct {
	File       grow.File
	Size       int64 // in bytes
	SectorSize int   // in bytes
}

// A Slot is a root partition and the partition of its hash tree.
type Slot struct {
	Letter       string // "A" or "B"
	Root, Verity Region
}

// A Region is a partition of the disk.
type Region struct {
	Name        string
	UUID        string
	Start, Size int64 // in bytes
}

// Pair is both slots of a machine.
type Pair struct{ Running, Inactive Slot }

// ErrNoSlots says that the disk does not have the two slots.
var ErrNoSlots = errors.New("the disk does not have the partitions of two slots")

// Find reads the partition table and tells the running slot, whose UUIDs are
// those of the running root hash (64 hexadecimal digits), from the other.
func (d Disk) Find(rootHash string) (Pair, error) {
	running, err := Identity(rootHash)
	if err != nil {
		return Pair{}, fmt.Errorf("find slots: %w", err)
	}
	table, err := partition.ReadTable(d.File, d.Size, d.SectorSize)
	if table == nil {
		return Pair{}, fmt.Errorf("find slots: %w", err)
	}
	a, errA := d.slot(table, "A", gpt.RootA, gpt.RootAVerity)
	b, errB := d.slot(table, "B", gpt.RootB, gpt.RootBVerity)
	if err := errors.Join(errA, errB); err != nil {
		return Pair{}, fmt.Errorf("find slots: %w: %w", ErrNoSlots, err)
	}
	inA, inB := a.is(running), b.is(running)
	switch {
	case inA && !inB:
		return Pair{a, b}, nil
	case inB && !inA:
		return Pair{b, a}, nil
	}
	return Pair{}, fmt.Errorf("find slots: in A %t, in B %t: the slots do not tell which holds the running root hash %s; nothing is written", inA, inB, rootHash)
}

func (d Disk) slot(table *diskgpt.Table, letter, root, tree string) (Slot, error) {
	s := Slot{Letter: letter}
	for _, p := range table.Partitions {
		if p.Type == diskgpt.Unused || (p.Name != root && p.Name != tree) {
			continue
		}
		r := Region{Name: p.Name, UUID: strings.ToLower(p.GUID), Start: int64(p.Start) * int64(d.SectorSize), Size: int64(p.End-p.Start+1) * int64(d.SectorSize)}
		if p.Name == root {
			s.Root = r
		} else {
			s.Verity = r
		}
	}
	if s.Root.Size == 0 || s.Verity.Size == 0 {
		return Slot{}, fmt.Errorf("no partitions named %q and %q", root, tree)
	}
	return s, nil
}

func (s Slot) is(p partition.Pair) bool { return s.Root.UUID == p.Root && s.Verity.UUID == p.Verity }

// Holds says whether the slot has the identity of this root hash.
func (s Slot) Holds(rootHash string) bool {
	p, err := Identity(rootHash)
	return err == nil && s.is(p)
}

// Identity gives the UUIDs that belong to a root hash.
func Identity(rootHash string) (partition.Pair, error) {
	b, err := hex.DecodeString(rootHash)
	if err != nil || len(b) != 32 {
		return partition.Pair{}, fmt.Errorf("root hash %q: want 64 hexadecimal digits", rootHash)
	}
	return partition.PairOf([32]byte(b)), nil
}

// Invalidate gives the slot UUIDs that are of no root hash, and returns when
// both copies of the table are on the disk.
func (d Disk) Invalidate(s Slot) error {
	none := partition.Pair{Root: unused(s.Letter, "root"), Verity: unused(s.Letter, "verity")}
	if s.is(none) {
		return nil
	}
	if err := d.setUUIDs(s, none); err != nil {
		return fmt.Errorf("take the identity from slot %s: %w", s.Letter, err)
	}
	return nil
}

// unused is a UUID of version 5, which half of a SHA-256 is only by a chance of
// one in 64, and then not this one.
func unused(letter, what string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/coracle-os/coracle/slot/"+letter+"/"+what)).String()
}

// Identify gives the slot the UUIDs of the root hash that it now holds, and
// returns when they are on the disk.
func (d Disk) Identify(s Slot, rootHash string) error {
	pair, err := Identity(rootHash)
	if err == nil {
		err = d.setUUIDs(s, pair)
	}
	if err != nil {
		return fmt.Errorf("give slot %s the identity %s: %w", s.Letter, rootHash, err)
	}
	return nil
}

func (d Disk) setUUIDs(s Slot, pair partition.Pair) error {
	table, err := partition.ReadTable(d.File, d.Size, d.SectorSize)
	if err != nil && !errors.Is(err, partition.ErrDamaged) {
		return err
	}
	for _, p := range table.Partitions {
		switch {
		case p.Type == diskgpt.Unused:
		case p.Name == s.Root.Name:
			p.GUID = strings.ToUpper(pair.Root)
		case p.Name == s.Verity.Name:
			p.GUID = strings.ToUpper(pair.Verity)
		}
	}
	return grow.Write(d.File, d.Size, table)
}

// Section reads a partition.
func (d Disk) Section(r Region) *io.SectionReader {
	return io.NewSectionReader(d.File, r.Start, r.Size)
}

// WriteAt writes b at an offset of a partition, and never outside it.
func (d Disk) WriteAt(r Region, b []byte, offset int64) error {
	if offset < 0 || offset+int64(len(b)) > r.Size {
		return fmt.Errorf("write %d bytes at %d of partition %s: it has %d bytes", len(b), offset, r.Name, r.Size)
	}
	if _, err := d.File.WriteAt(b, r.Start+offset); err != nil {
		return fmt.Errorf("write partition %s: %w", r.Name, err)
	}
	return nil
}

// Digests hashes the first n blocks of a partition with the salt, and returns
// 32 bytes for each: what a slot really holds, whatever its tree says.
func (d Disk) Digests(r Region, n int64, salt []byte) ([]byte, error) {
	n = min(n, r.Size/verity.BlockSize)
	digests := make([]byte, 0, n*verity.DigestSize)
	in := d.Section(r)
	buffer := make([]byte, 64*verity.BlockSize)
	h := sha256.New()
	add := func(to, block []byte) []byte {
		h.Reset()
		h.Write(salt)
		h.Write(block)
		return h.Sum(to)
	}
	// A slot that was never written is all zeros, and to see that is cheaper.
	zeros := make([]byte, verity.BlockSize)
	ofZeros := add(nil, zeros)
	for done := int64(0); done < n; {
		count := min(n-done, int64(len(buffer)/verity.BlockSize))
		if _, err := in.ReadAt(buffer[:count*verity.BlockSize], done*verity.BlockSize); err != nil {
			return nil, fmt.Errorf("read partition %s: %w", r.Name, err)
		}
		for i := range count {
			block := buffer[i*verity.BlockSize:][:verity.BlockSize]
			if bytes.Equal(block, zeros) {
				digests = append(digests, ofZeros...)
			} else {
				digests = add(digests, block)
			}
		}
		done += count
	}
	return digests, nil
}

// Verify reads the slot back from the disk and checks all of it against the
// root hash.
func (d Disk) Verify(s Slot, rootHash string) error {
	want, err := hex.DecodeString(rootHash)
	if err != nil {
		return fmt.Errorf("verify slot %s: %w", s.Letter, err)
	}
	if u, ok := d.File.(Uncacher); ok {
		u.Uncache()
	}
	if err := verity.Verify(d.Section(s.Root), s.Root.Size, d.Section(s.Verity), want); err != nil {
		return fmt.Errorf("slot %s does not hold what was written: %w", s.Letter, err)
	}
	return nil
}

// An Uncacher can forget what it has in memory of the disk, so that a read
// comes from the disk itself.
type Uncacher interface{ Uncache() }

// WriteTree writes a hash partition's content, except where it is the same.
func (d Disk) WriteTree(s Slot, tree []byte) error {
	old := make([]byte, 64*verity.BlockSize)
	for at := 0; at < len(tree); at += len(old) {
		part := tree[at:min(at+len(old), len(tree))]
		n, err := d.Section(s.Verity).ReadAt(old[:len(part)], int64(at))
		if err == nil && bytes.Equal(old[:n], part) {
			continue
		}
		if err := d.WriteAt(s.Verity, part, int64(at)); err != nil {
			return err
		}
	}
	return nil
}
