// Package dmverity opens a dm-verity device for stage 1 (Documentation/
// admin-guide/device-mapper/verity.rst). The superblock is image/verity's. Left
// out on purpose: error correction, signatures.
package dmverity

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/coracle-os/coracle/image/verity"
	"github.com/coracle-os/coracle/initrd/devicemapper"
)

// Errors of Check.
var (
	ErrWrongRoot = errors.New("the hash tree does not belong to the root hash on the command line: root and UKI are of different releases")
	ErrCutOff    = errors.New("the root partition is smaller than its hash tree says: the image was cut off; write it again")
)

// Check reads the superblock and the top of the hash tree from a verity
// partition and compares it with the root hash and the size of the data in
// bytes, so that a mismatch has a name before the kernel restarts the machine
// for it. The rest of the tree is the kernel's to check as it is read.
func Check(hashes io.ReaderAt, dataSize int64, rootHash [32]byte) (verity.Superblock, error) {
	superblock, err := verity.ReadSuperblock(hashes)
	if err != nil {
		return superblock, err
	}
	if size := superblock.DataBlocks * verity.BlockSize; size > dataSize {
		return superblock, fmt.Errorf("%w (%d of %d bytes)", ErrCutOff, dataSize, size)
	}
	if superblock.DataBlocks == 1 {
		return superblock, nil // no tree: the root hash is the block's own
	}
	top := make([]byte, verity.BlockSize)
	if _, err := hashes.ReadAt(top, verity.BlockSize); err != nil {
		return superblock, fmt.Errorf("read the top of the hash tree: %w", err)
	}
	digest := sha256.New()
	digest.Write(superblock.Salt)
	digest.Write(top)
	if !bytes.Equal(digest.Sum(nil), rootHash[:]) {
		return superblock, ErrWrongRoot
	}
	return superblock, nil
}

// Table is the target line of the kernel for a device of
// superblock.DataBlocks blocks. data and hashes are device nodes or
// "major:minor". A block that does not verify restarts the machine.
func Table(superblock verity.Superblock, data, hashes string, rootHash [32]byte) string {
	salt := "-"
	if len(superblock.Salt) > 0 {
		salt = hex.EncodeToString(superblock.Salt)
	}
	const version, hashStart = 1, 1 // the superblock is block 0
	return fmt.Sprintf("%d %s %s %d %d %d %d sha256 %x %s 1 restart_on_corruption",
		version, data, hashes, verity.BlockSize, verity.BlockSize,
		superblock.DataBlocks, hashStart, rootHash, salt)
}

// Open checks the pair of partitions and makes the verified device /dev/mapper/name.
// dataSize is the size of the data partition in bytes. It returns the device's
// node, such as "/dev/dm-0", to which /dev/mapper/name is a link.
func Open(name, data, hashes string, dataSize int64, rootHash [32]byte) (string, error) {
	file, err := os.Open(hashes)
	if err != nil {
		return "", fmt.Errorf("open hash tree: %w", err)
	}
	superblock, err := Check(file, dataSize, rootHash)
	file.Close()
	if err != nil {
		return "", fmt.Errorf("verity partition %s: %w", hashes, err)
	}
	device, err := devicemapper.Create(devicemapper.Target{
		Name:     name,
		UUID:     fmt.Sprintf("CRYPT-VERITY-%x-%s", superblock.UUID, name),
		Sectors:  uint64(superblock.DataBlocks) * (verity.BlockSize / 512),
		Kind:     "verity",
		Params:   Table(superblock, data, hashes, rootHash),
		ReadOnly: true,
	})
	if err != nil {
		return "", fmt.Errorf("open verity device %q over %s and %s: %w", name, data, hashes, err)
	}
	link := "/dev/mapper/" + name
	if err := os.Symlink("../"+device, link); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("name verity device: %w", err)
	}
	return "/dev/" + device, nil
}
