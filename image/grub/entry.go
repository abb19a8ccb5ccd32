package grub

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/coracle-os/coracle/image/tree"
	"github.com/coracle-os/coracle/image/uki"
)

const (
	// Directory is where GRUB's files are on the EFI system partition.
	Directory = "coracle"
	// ScriptSuffix and SumSuffix follow a version in the names of its files.
	ScriptSuffix = ".cfg"
	SumSuffix    = ".sum"

	sector = 512
)

// Files are what GRUB needs of one release beside its UKI.
type Files struct {
	// Script loads kernel and initrd out of the UKI, without a copy of either.
	Script []byte
	// Sum has the SHA-256 of the script and of the UKI, padded to whole sectors,
	// for GRUB's sha256sum.
	Sum []byte
}

// Describe makes the files of the release of this version, whose UKI is r, of
// size bytes. The UKI must have been verified: what it holds now is what GRUB
// will insist on.
func Describe(version string, r io.ReaderAt, size int64) (Files, error) {
	script, err := script(r, size)
	if err != nil {
		return Files{}, fmt.Errorf("describe version %s for GRUB: %w", version, err)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(r, 0, size)); err != nil {
		return Files{}, fmt.Errorf("describe version %s for GRUB: %w", version, err)
	}
	sectors := (size + sector - 1) / sector
	sum.Write(make([]byte, sectors*sector-size))
	own := sha256.Sum256(script)
	return Files{script, fmt.Appendf(nil, "%x  /%s/%s%s\n%x  (uki)0+%d\n", own, Directory, version, ScriptSuffix, sum.Sum(nil), sectors)}, nil
}

// NewTree returns what GRUB reads from the EFI system partition of a new disk:
// the files of its one release, marked good, and both copies of the state.
func NewTree(version, rootHash string, uki io.ReaderAt, size int64) ([]tree.Entry, error) {
	files, err := Describe(version, uki, size)
	if err != nil {
		return nil, err
	}
	state := State{Generation: 1, Entries: []Entry{{Version: version, Release: rootHash[:ReleaseDigits], Good: true}}}.Encode()
	in := func(name string, content []byte) tree.Entry { return tree.File(Directory+"/"+name, 0o644, content) }
	return []tree.Entry{
		in(version+ScriptSuffix, files.Script), in(version+SumSuffix, files.Sum), in(EnvNames[0], state), in(EnvNames[1], state),
	}, nil
}

// Mark is the first line of a script: which UKI it is for.
func Mark(rootHash string, size int64) string {
	return fmt.Sprintf("# root hash %s, UKI of %d bytes\n", rootHash, size)
}

func script(r io.ReaderAt, size int64) ([]byte, error) {
	image, err := uki.Read(r)
	if err != nil {
		return nil, err
	}
	line, err := image.Text(".cmdline")
	if err != nil {
		return nil, err
	}
	kernel, errKernel := blocks(image, ".linux")
	initrd, errInitrd := blocks(image, ".initrd")
	if err := errors.Join(errKernel, errInitrd); err != nil {
		return nil, err
	}
	hash := ""
	words := strings.Fields(line)
	for i, word := range words {
		if value, ok := strings.CutPrefix(word, "roothash="); ok {
			hash = strings.ToLower(value)
		}
		words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return fmt.Appendf(nil, "%slinux %s %s\ninitrd %s\n", Mark(hash, size), kernel, strings.Join(words, " "), initrd), nil
}

// blocks is a section as GRUB names a part of a disk: the disk is the UKI.
func blocks(image *uki.Image, name string) (string, error) {
	for _, s := range image.Sections {
		if s.Name != name {
			continue
		}
		if s.Offset%sector != 0 {
			return "", fmt.Errorf("section %s is at byte %d, not at the start of a sector", name, s.Offset)
		}
		return fmt.Sprintf("(uki)%d+%d", s.Offset/sector, (s.Size+sector-1)/sector), nil
	}
	return "", fmt.Errorf("section %q: %w", name, uki.ErrNoSection)
}
