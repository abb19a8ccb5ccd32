package uki

import (
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// An Image is a UKI that is read.
type Image struct {
	Sections []SectionInfo // all, the stub's own too, in the file's order
	r        io.ReaderAt
}

// SectionInfo says where a section is.
type SectionInfo struct {
	Name           string
	Offset         int64 // in the file, in bytes
	Size           int64 // of the content in the file, without padding
	VirtualAddress uint32
	VirtualSize    uint32
}

// ErrNoSection says that an image has no section of the name asked for.
var ErrNoSection = errors.New("no such section")

// Read reads the section table of a UKI. It fails when r is no PE program or
// has no .linux section.
func Read(r io.ReaderAt) (*Image, error) {
	f, err := pe.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("read UKI: %w", err)
	}
	defer f.Close()
	img := &Image{r: r}
	for _, s := range f.Sections {
		img.Sections = append(img.Sections, SectionInfo{
			Name: s.Name, Offset: int64(s.Offset), Size: int64(min(s.Size, s.VirtualSize)),
			VirtualAddress: s.VirtualAddress, VirtualSize: s.VirtualSize,
		})
	}
	if _, err := img.find(".linux"); err != nil {
		return nil, fmt.Errorf("read UKI: %w; is this a UKI?", err)
	}
	return img, nil
}

func (img *Image) find(name string) (SectionInfo, error) {
	i := slices.IndexFunc(img.Sections, func(s SectionInfo) bool { return s.Name == name })
	if i < 0 {
		return SectionInfo{}, fmt.Errorf("section %q: %w", name, ErrNoSection)
	}
	return img.Sections[i], nil
}

// Section returns the content of the section. The padding after a section
// whose virtual size is more than its content, as .linux has, can be in it.
func (img *Image) Section(name string) ([]byte, error) {
	s, err := img.find(name)
	if err != nil {
		return nil, fmt.Errorf("read UKI: %w", err)
	}
	content, err := io.ReadAll(io.NewSectionReader(img.r, s.Offset, s.Size))
	if err != nil {
		return nil, fmt.Errorf("read UKI: section %q: %w", name, err)
	}
	if int64(len(content)) != s.Size {
		return nil, fmt.Errorf("read UKI: section %q: %d bytes of %d; the file is cut short", name, len(content), s.Size)
	}
	return content, nil
}

// Text returns the content of a text section such as .cmdline, without zero
// bytes and white space at its end.
func (img *Image) Text(name string) (string, error) {
	b, err := img.Section(name)
	return strings.TrimRight(string(b), "\x00 \n"), err
}
