// Package inspect opens a finished disk image and says what is in it: the
// partitions, the UKIs on the ESP with their sections, the root hash each one
// starts, whether the partitions fit it, and whether every block does. It is
// what `coracle inspect` and `coracle verify` show, and what tests look at an
// image with.
//
// It reads raw images only; the caller converts others first (qemu-img convert
// -O raw). It follows the formats of image/gpt, image/esp, image/uki and
// image/verity. Left out on purpose: the content of root, oem and state.
package inspect

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/coracle-os/coracle/image/esp"
	"github.com/coracle-os/coracle/image/gpt"
	"github.com/coracle-os/coracle/image/uki"
	"github.com/coracle-os/coracle/image/verity"
)

// An Image is what a disk image holds.
type Image struct {
	Size       int64       `json:"size"` // bytes
	DiskUUID   string      `json:"diskUUID"`
	Partitions []Partition `json:"partitions"`
	UKIs       []UKI       `json:"ukis"`
	Loaders    []Loader    `json:"loaders"`
	Enrol      []string    `json:"enrol,omitempty"` // updates of Secure Boot's variables on the ESP
	Slots      []Slot      `json:"slots"`
	// BIOS is nil when the image does not boot on legacy BIOS.
	BIOS *BIOS `json:"bios,omitempty"`
	// Problems are what does not fit together, each a sentence that says what
	// to do; empty for a good image.
	Problems []string `json:"problems"`

	disk   io.ReaderAt
	layout gpt.Layout
}

// A Partition is a partition of the image.
type Partition struct {
	Name  string `json:"name"`
	Type  string `json:"type"` // GUID
	UUID  string `json:"uuid"`
	Start int64  `json:"start"` // bytes
	Size  int64  `json:"size"`  // bytes
}

// A UKI is a unified kernel image in /EFI/Linux of the ESP.
type UKI struct {
	Path      string            `json:"path"`
	Size      int64             `json:"size"` // bytes
	TriesLeft *int              `json:"triesLeft,omitempty"`
	TriesDone *int              `json:"triesDone,omitempty"`
	Version   string            `json:"version"` // IMAGE_VERSION or VERSION_ID of os-release
	OSRelease map[string]string `json:"osRelease"`
	Kernel    string            `json:"kernel"`
	Cmdline   string            `json:"cmdline"`
	RootHash  string            `json:"rootHash"` // hexadecimal, "" when the command line has none
	Sections  []Section         `json:"sections"`
	// Signature is the subject of the certificate that it is signed with for
	// Secure Boot, and its expiry; "" when it is not signed.
	Signature string `json:"signature,omitempty"`
	// PCR11 is PCR 11 of a TPM while it runs, in the system that it starts (in
	// /sys/class/tpm/tpm0/pcr-sha256/11); PCR11Signed says that its section
	// .pcrsig lets stage 1 have the secrets that are sealed to the signer.
	PCR11       string `json:"pcr11,omitempty"`
	PCR11Signed bool   `json:"pcr11Signed,omitempty"`
}

// A Loader is a boot loader on the ESP.
type Loader struct {
	Path      string `json:"path"`
	Signature string `json:"signature,omitempty"` // as UKI.Signature
}

// A Section is a section of a UKI.
type Section struct {
	Name string `json:"name"`
	Size int64  `json:"size"` // bytes
}

// A Slot is a pair of root and verity partitions.
type Slot struct {
	Name     string `json:"name"` // "A" or "B"
	Empty    bool   `json:"empty"`
	RootHash string `json:"rootHash,omitempty"` // as the partition UUIDs say
	DataSize int64  `json:"dataSize,omitempty"` // bytes that the hash tree covers
	// UKIs are the paths of those that start this slot.
	UKIs []string `json:"ukis,omitempty"`
}

// Open reads an image of size bytes. An error says that there is no disk or no
// ESP to look at; what is wrong beyond that is in Problems.
func Open(disk io.ReaderAt, size int64) (*Image, error) {
	layout, err := gpt.Read(disk, size)
	if err != nil {
		return nil, fmt.Errorf("inspect image: %w", err)
	}
	img := &Image{Size: size, DiskUUID: layout.DiskUUID.String(), Problems: []string{}, disk: disk, layout: layout}
	if layout.FromBackup {
		img.problem("the partition table at the start of the disk is damaged; this is its backup (repair with sgdisk -e)")
	}
	for _, p := range layout.Partitions {
		img.Partitions = append(img.Partitions, Partition{p.Name, p.Type.String(), p.UUID.String(), p.Start, p.Size})
	}
	if err := img.readESP(); err != nil {
		return nil, fmt.Errorf("inspect image: %w", err)
	}
	img.readSlot("A", gpt.RootA, gpt.RootAVerity)
	img.readSlot("B", gpt.RootB, gpt.RootBVerity)
	img.matchUKIs()
	return img, nil
}

func (img *Image) problem(format string, args ...any) {
	img.Problems = append(img.Problems, fmt.Sprintf(format, args...))
}

// section returns the content of a partition.
func (img *Image) section(name string) (*io.SectionReader, error) {
	p, ok := img.layout.Find(name)
	if !ok {
		return nil, fmt.Errorf("there is no partition %q", name)
	}
	return io.NewSectionReader(img.disk, p.Start, p.Size), nil
}

func (img *Image) readESP() error {
	part, err := img.section(gpt.ESP)
	if err != nil {
		return err
	}
	volume, err := esp.Open(part, part.Size())
	if err != nil {
		return fmt.Errorf("partition %s: %w", gpt.ESP, err)
	}
	files, err := volume.Files()
	if err != nil {
		return fmt.Errorf("partition %s: %w", gpt.ESP, err)
	}
	loader := false
	for _, f := range files {
		loader = loader || strings.EqualFold(f.Path, "EFI/BOOT/BOOTX64.EFI")
		img.readLoader(volume, f)
		if f.Dir || !strings.EqualFold(path.Dir(f.Path), "EFI/Linux") || !strings.EqualFold(path.Ext(f.Path), ".efi") {
			continue
		}
		u, err := readUKI(volume, f)
		if err != nil {
			img.problem("%s: %v; write the image anew", f.Path, err)
			continue
		}
		u.Signature = img.signature(volume, f)
		img.measure(volume, f, &u)
		img.UKIs = append(img.UKIs, u)
	}
	img.checkSignatures()
	if !loader {
		img.problem("the ESP has no /EFI/BOOT/BOOTX64.EFI: firmware will not start the disk")
	}
	img.readBIOS(volume, files)
	if len(img.UKIs) == 0 {
		img.problem("the ESP has no readable UKI in /EFI/Linux: there is nothing to boot")
	}
	return nil
}

var counters = regexp.MustCompile(`\+([0-9]+)(?:-([0-9]+))?\.efi$`)

func readUKI(volume *esp.Volume, f esp.File) (UKI, error) {
	r, err := volume.OpenFile(f)
	if err != nil {
		return UKI{}, err
	}
	image, err := uki.Read(r)
	if err != nil {
		return UKI{}, err
	}
	u := UKI{Path: f.Path, Size: f.Size}
	if m := counters.FindStringSubmatch(f.Path); m != nil {
		u.TriesLeft, u.TriesDone = number(m[1]), number(m[2])
	}
	for _, s := range image.Sections {
		u.Sections = append(u.Sections, Section{s.Name, s.Size})
	}
	osrel, err := optionalText(image, ".osrel")
	if err != nil {
		return UKI{}, err
	}
	u.OSRelease = parseOSRelease(osrel)
	if u.Version = u.OSRelease["IMAGE_VERSION"]; u.Version == "" {
		u.Version = u.OSRelease["VERSION_ID"]
	}
	if u.Kernel, err = optionalText(image, ".uname"); err != nil {
		return UKI{}, err
	}
	if u.Cmdline, err = optionalText(image, ".cmdline"); err != nil {
		return UKI{}, err
	}
	for _, word := range strings.Fields(u.Cmdline) {
		if hash, ok := strings.CutPrefix(word, "roothash="); ok {
			u.RootHash = strings.ToLower(hash)
		}
	}
	return u, nil
}

func optionalText(image *uki.Image, name string) (string, error) {
	text, err := image.Text(name)
	if errors.Is(err, uki.ErrNoSection) {
		return "", nil
	}
	return text, err
}

func number(s string) *int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return nil
	}
	return &n
}

// parseOSRelease reads the assignments of os-release(5).
func parseOSRelease(text string) map[string]string {
	values := make(map[string]string)
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(key, "#") {
			continue
		}
		if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			value = value[1 : n-1]
		}
		values[key] = strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\$`, `$`, "\\`", "`").Replace(value)
	}
	return values
}

func (img *Image) readSlot(name, rootName, verityName string) {
	root, hasRoot := img.layout.Find(rootName)
	tree, hasTree := img.layout.Find(verityName)
	if !hasRoot && !hasTree {
		return
	}
	if !hasRoot || !hasTree {
		img.problem("slot %s has only one of %s and %s: nothing can start from it", name, rootName, verityName)
		return
	}
	slot := Slot{Name: name}
	part, _ := img.section(verityName)
	super, err := verity.ReadSuperblock(part)
	switch {
	case errors.Is(err, verity.ErrNoSuperblock):
		slot.Empty = true
	case err != nil:
		img.problem("partition %s: %v; write the slot anew", verityName, err)
	default:
		slot.RootHash = hex.EncodeToString(append(root.UUID[:], tree.UUID[:]...))
		slot.DataSize = super.DataBlocks * verity.BlockSize
		if slot.DataSize > root.Size {
			img.problem("partition %s: the hash tree covers %d bytes, %s has %d; write the slot anew", verityName, slot.DataSize, rootName, root.Size)
		}
	}
	img.Slots = append(img.Slots, slot)
}

// matchUKIs joins UKIs and slots by root hash and reports what stays alone.
func (img *Image) matchUKIs() {
	for _, u := range img.UKIs {
		if len(u.RootHash) != 2*verity.DigestSize {
			img.problem("%s: its command line has no roothash= of 64 digits: nothing says which root it starts", u.Path)
			continue
		}
		found := false
		for i := range img.Slots {
			if img.Slots[i].RootHash == u.RootHash {
				img.Slots[i].UKIs = append(img.Slots[i].UKIs, u.Path)
				found = true
			}
		}
		if !found {
			img.problem("%s: starts root hash %s, but no pair of partitions has its halves as UUIDs%s; stage 1 will not find the root", u.Path, u.RootHash, img.nearMiss(u.RootHash))
		}
	}
	for _, s := range img.Slots {
		if !s.Empty && s.RootHash != "" && len(s.UKIs) == 0 {
			img.problem("slot %s: has root hash %s, which no UKI starts", s.Name, s.RootHash)
		}
	}
}

// nearMiss names the partition that has only half of a root hash.
func (img *Image) nearMiss(hash string) string {
	for _, p := range img.layout.Partitions {
		id := strings.ReplaceAll(p.UUID.String(), "-", "")
		if id == hash[:32] || id == hash[32:] {
			return fmt.Sprintf(" (only %s does)", p.Name)
		}
	}
	return ""
}

// Verify checks every block of each slot that a UKI starts against the root
// hash on that UKI's command line. What does not hold is an error that names
// the slot and wraps a *verity.BadBlockError with the first bad block. An
// image in which no UKI starts a slot is an error.
func (img *Image) Verify() error {
	checked := 0
	for _, s := range img.Slots {
		if len(s.UKIs) == 0 {
			continue
		}
		hash, err := hex.DecodeString(s.RootHash)
		if err != nil {
			return fmt.Errorf("verify slot %s: %w", s.Name, err)
		}
		root, err1 := img.section("root-" + s.Name)
		tree, err2 := img.section("root-" + s.Name + "-verity")
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("verify slot %s: %w", s.Name, err)
		}
		if err := verity.Verify(root, root.Size(), tree, hash); err != nil {
			return fmt.Errorf("verify slot %s: %w", s.Name, err)
		}
		checked++
	}
	if checked == 0 {
		return fmt.Errorf("verify image: no UKI's root hash fits a slot: %s", strings.Join(img.Problems, "; "))
	}
	return nil
}
