// Package uki builds and reads unified kernel images: systemd's EFI stub with
// kernel, initrd, command line and os-release as PE sections, one file that the
// firmware or systemd-boot starts. The builder makes one per release; inspect
// and update code read the sections back.
//
// It follows the UKI specification of the UAPI group and the PE/COFF format.
// The stub is taken as it is; sections are added behind its own. Building is
// written here because no kept Go library adds PE sections (debug/pe only
// reads); reading is debug/pe's.
//
// Left out on purpose: signing (sbsign does it on the finished file, and what
// Build writes has room for it), PCR policies, multi-profile UKIs, and
// architectures other than x86-64.
package uki

import (
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
)

// A Section is one payload of a UKI.
type Section struct {
	Name string // with the dot: ".linux"
	Data []byte
	// VirtualSize is the memory that the section takes when that is more than
	// len(Data), in bytes; the rest is zero.
	VirtualSize uint32
}

// Offsets in the PE headers that Build changes or checks.
const (
	coffHeaderSize    = 24 // with the signature
	sectionHeaderSize = 40
	optionalMin       = 112 + 5*8 // PE32+ up to the security directory
	offNumSections    = 6
	offOptionalSize   = 20

	optInitializedData = 8
	optSectionAlign    = 32
	optFileAlign       = 36
	optImageSize       = 56
	optHeadersSize     = 60
	optChecksum        = 64
	optSubsystem       = 68
	optSecurityDir     = 112 + 4*8

	efiApplication = 10
	pageSize       = 4096 // sections start on pages whatever the stub says
	// maxSize keeps every offset and address of an image in 32 bits with room.
	maxSize = math.MaxInt32
)

// Linux returns the .linux section of a bzImage. Its virtual size is the
// kernel's own, so that stubs which start the kernel in place leave it room.
func Linux(kernel []byte) (Section, error) {
	h, err := parseHeaders(kernel)
	if err != nil {
		return Section{}, fmt.Errorf("kernel: %w; want an x86-64 bzImage with an EFI stub", err)
	}
	return Section{Name: ".linux", Data: kernel, VirtualSize: max(h.u32(optImageSize), uint32(len(kernel)))}, nil
}

// Build returns the stub with the sections added in the order given. The same
// arguments give the same bytes. It fails when the stub is no unsigned x86-64
// EFI program or its header has no room for so many more sections.
func Build(stub []byte, sections ...Section) ([]byte, error) {
	image, err := build(stub, sections)
	if err != nil {
		return nil, fmt.Errorf("build UKI: %w", err)
	}
	return image, nil
}

func build(stub []byte, sections []Section) ([]byte, error) {
	h, err := parseHeaders(stub)
	if err != nil {
		return nil, fmt.Errorf("stub: %w; want systemd's linuxx64.efi.stub", err)
	}
	if err := h.checkRoom(len(sections)); err != nil {
		return nil, err
	}
	place, err := h.placeAll(sections)
	if err != nil {
		return nil, err
	}
	image := make([]byte, place.fileEnd)
	copy(image, stub)
	out := headers{b: image, pe: h.pe, optional: h.optional}
	headerAt := out.sectionTable() + h.numSections()*sectionHeaderSize
	initialized := h.u32(optInitializedData)
	for i, s := range sections {
		p := place.sections[i]
		b := image[headerAt+i*sectionHeaderSize:]
		copy(b[:8], s.Name)
		binary.LittleEndian.PutUint32(b[8:], p.VirtualSize)
		binary.LittleEndian.PutUint32(b[12:], p.VirtualAddress)
		binary.LittleEndian.PutUint32(b[16:], p.Size)
		binary.LittleEndian.PutUint32(b[20:], p.Offset)
		binary.LittleEndian.PutUint32(b[36:], pe.IMAGE_SCN_CNT_INITIALIZED_DATA|pe.IMAGE_SCN_MEM_READ)
		copy(image[p.Offset:], s.Data)
		initialized += p.Size
	}
	binary.LittleEndian.PutUint16(image[h.pe+offNumSections:], uint16(h.numSections()+len(sections)))
	out.putU32(optInitializedData, initialized)
	out.putU32(optImageSize, place.memoryEnd)
	out.putU32(optChecksum, 0)
	out.putU32(optChecksum, checksum(image))
	return image, nil
}

// headers are the headers of a PE image in b.
type headers struct {
	b        []byte
	pe       int // offset of the PE signature
	optional int // size of the optional header
}

var errNotEFI = errors.New("not an x86-64 EFI program")

func parseHeaders(b []byte) (headers, error) {
	if len(b) < 64 || string(b[:2]) != "MZ" {
		return headers{}, fmt.Errorf("%w: no MZ header", errNotEFI)
	}
	at := binary.LittleEndian.Uint32(b[0x3c:])
	if int64(at)+coffHeaderSize > int64(len(b)) || string(b[at:at+4]) != "PE\x00\x00" {
		return headers{}, fmt.Errorf("%w: no PE header", errNotEFI)
	}
	h := headers{b: b, pe: int(at)}
	h.optional = int(binary.LittleEndian.Uint16(b[h.pe+offOptionalSize:]))
	if machine := binary.LittleEndian.Uint16(b[h.pe+4:]); machine != pe.IMAGE_FILE_MACHINE_AMD64 {
		return headers{}, fmt.Errorf("%w: machine %#x", errNotEFI, machine)
	}
	if h.optional < optionalMin || h.sectionTable()+h.numSections()*sectionHeaderSize > len(b) {
		return headers{}, fmt.Errorf("%w: header is cut short", errNotEFI)
	}
	if magic := binary.LittleEndian.Uint16(b[h.pe+coffHeaderSize:]); magic != 0x20b {
		return headers{}, fmt.Errorf("%w: optional header of type %#x", errNotEFI, magic)
	}
	if sub := binary.LittleEndian.Uint16(b[h.pe+coffHeaderSize+optSubsystem:]); sub != efiApplication {
		return headers{}, fmt.Errorf("%w: subsystem %d", errNotEFI, sub)
	}
	return h, nil
}

func (h headers) u32(optionalOffset int) uint32 {
	return binary.LittleEndian.Uint32(h.b[h.pe+coffHeaderSize+optionalOffset:])
}

func (h headers) putU32(optionalOffset int, v uint32) {
	binary.LittleEndian.PutUint32(h.b[h.pe+coffHeaderSize+optionalOffset:], v)
}

func (h headers) numSections() int {
	return int(binary.LittleEndian.Uint16(h.b[h.pe+offNumSections:]))
}

func (h headers) sectionTable() int { return h.pe + coffHeaderSize + h.optional }

// section returns the i-th section header.
func (h headers) section(i int) pe.SectionHeader {
	b := h.b[h.sectionTable()+i*sectionHeaderSize:]
	u32 := func(off int) uint32 { return binary.LittleEndian.Uint32(b[off:]) }
	return pe.SectionHeader{
		Name:        strings.TrimRight(string(b[:8]), "\x00"),
		VirtualSize: u32(8), VirtualAddress: u32(12), Size: u32(16), Offset: u32(20),
	}
}

// checkRoom fails when n more section headers do not fit before the stub's own
// content.
func (h headers) checkRoom(n int) error {
	if h.u32(optSecurityDir) != 0 {
		return errors.New("the stub is signed; take the unsigned one and sign the UKI")
	}
	start := h.sectionTable() + h.numSections()*sectionHeaderSize
	end := int64(h.u32(optHeadersSize))
	for i := range h.numSections() {
		s := h.section(i)
		if s.Size > 0 {
			end = min(end, int64(s.Offset))
		}
		end = min(end, int64(s.VirtualAddress))
	}
	end = min(end, int64(len(h.b)))
	room := max(0, int(end)-start) / sectionHeaderSize
	if n > room {
		return fmt.Errorf("the stub's header has room for %d more sections, %d are needed; take another systemd version's stub or fewer sections", room, n)
	}
	for _, b := range h.b[start : start+n*sectionHeaderSize] {
		if b != 0 {
			return errors.New("the stub's header has something behind its section table; take another systemd version's stub")
		}
	}
	return nil
}

// placement says where sections go.
type placement struct {
	sections  []pe.SectionHeader
	fileEnd   uint32
	memoryEnd uint32
}

func (h headers) placeAll(sections []Section) (placement, error) {
	fileAlign, memoryAlign := h.u32(optFileAlign), max(h.u32(optSectionAlign), pageSize)
	if !powerOfTwo(fileAlign) || !powerOfTwo(memoryAlign) || fileAlign > 1<<16 || memoryAlign > 1<<21 {
		return placement{}, fmt.Errorf("stub: alignments %d and %d are not usable", fileAlign, memoryAlign)
	}
	taken := make(map[string]bool)
	memory := uint64(h.u32(optHeadersSize))
	for i := range h.numSections() {
		s := h.section(i)
		taken[s.Name] = true
		memory = max(memory, uint64(s.VirtualAddress)+uint64(max(s.VirtualSize, s.Size)))
	}
	file := uint64(len(h.b))
	var p placement
	for _, s := range sections {
		if len(s.Name) < 2 || len(s.Name) > 8 || s.Name[0] != '.' {
			return placement{}, fmt.Errorf("section name %q: want a dot and 1 to 7 more bytes", s.Name)
		}
		if taken[s.Name] {
			return placement{}, fmt.Errorf("section %s: there is one already", s.Name)
		}
		if len(s.Data) == 0 {
			return placement{}, fmt.Errorf("section %s: it is empty; leave it out", s.Name)
		}
		taken[s.Name] = true
		file, memory = align(file, fileAlign), align(memory, memoryAlign)
		size := max(uint64(len(s.Data)), uint64(s.VirtualSize))
		raw := align(uint64(len(s.Data)), fileAlign)
		if file+raw > maxSize || memory+size > maxSize-uint64(memoryAlign) {
			return placement{}, fmt.Errorf("section %s: the image would be larger than 2 GiB", s.Name)
		}
		p.sections = append(p.sections, pe.SectionHeader{
			VirtualSize: uint32(size), VirtualAddress: uint32(memory), Size: uint32(raw), Offset: uint32(file),
		})
		file, memory = file+raw, memory+size
	}
	p.fileEnd, p.memoryEnd = uint32(align(file, fileAlign)), uint32(align(memory, h.u32(optSectionAlign)))
	return p, nil
}

func powerOfTwo(n uint32) bool { return n != 0 && n&(n-1) == 0 }

func align(n uint64, to uint32) uint64 { return (n + uint64(to) - 1) &^ (uint64(to) - 1) }

// checksum is the PE checksum of an image whose checksum field is zero: the
// ones' complement sum of its 16-bit words, and its length.
func checksum(image []byte) uint32 {
	var sum uint64
	b := image
	for ; len(b) >= 8; b = b[8:] {
		v := binary.LittleEndian.Uint64(b)
		sum += v&0xffffffff + v>>32
	}
	for i, c := range b {
		sum += uint64(c) << (8 * i)
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return uint32(sum) + uint32(len(image))
}
