package uki

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// hostStub is the stub of Debian's systemd-boot-efi.
const hostStub = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"

func readStub(t testing.TB) []byte {
	t.Helper()
	stub, err := os.ReadFile(hostStub)
	if err != nil {
		t.Fatal(err)
	}
	return stub
}

func noise(n int) []byte {
	b := make([]byte, n)
	random := rand.NewChaCha8([32]byte{byte(n)})
	random.Read(b)
	return b
}

func sample() []Section {
	return []Section{
		{Name: ".osrel", Data: []byte("ID=coracle\nVERSION_ID=1.2.3\n")},
		{Name: ".cmdline", Data: []byte("roothash=00ff console=ttyS0")},
		{Name: ".uname", Data: []byte("6.12.0-cloud-amd64")},
		{Name: ".linux", Data: noise(1_000_001), VirtualSize: 3_000_000},
		{Name: ".initrd", Data: noise(4096)},
	}
}

// smallStub is an EFI program of this many sections with room for room more
// section headers. It shows cases that no systemd version has.
func smallStub(sections, room int) []byte {
	const optional = 240
	start := 64 + coffHeaderSize + optional
	size := start + (sections+room)*sectionHeaderSize
	b := make([]byte, size+16*sections)
	copy(b, "MZ")
	b[0x3c] = 64
	copy(b[64:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(b[68:], pe.IMAGE_FILE_MACHINE_AMD64)
	binary.LittleEndian.PutUint16(b[70:], uint16(sections))
	binary.LittleEndian.PutUint16(b[84:], optional)
	h := headers{b: b, pe: 64, optional: optional}
	binary.LittleEndian.PutUint16(b[88:], 0x20b)
	binary.LittleEndian.PutUint16(b[88+optSubsystem:], efiApplication)
	h.putU32(optSectionAlign, 4096)
	h.putU32(optFileAlign, 512)
	h.putU32(optHeadersSize, uint32(size))
	h.putU32(108, 16) // data directories
	for i := range sections {
		s := b[start+i*sectionHeaderSize:]
		copy(s, "."+string(rune('a'+i)))
		binary.LittleEndian.PutUint32(s[8:], 16)
		binary.LittleEndian.PutUint32(s[12:], uint32(4096*(i+1)))
		binary.LittleEndian.PutUint32(s[16:], 16)
		binary.LittleEndian.PutUint32(s[20:], uint32(size+16*i))
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	for name, stub := range map[string][]byte{"systemd": readStub(t), "small": smallStub(3, 5)} {
		t.Run(name, func(t *testing.T) {
			image, err := Build(stub, sample()...)
			if err != nil {
				t.Fatal(err)
			}
			img, err := Read(bytes.NewReader(image))
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range sample() {
				got, err := img.Section(s.Name)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.HasPrefix(got, s.Data) || len(bytes.Trim(got[len(s.Data):], "\x00")) > 0 || len(got) > len(s.Data)+511 {
					t.Errorf("section %s came back with %d bytes, not as it was", s.Name, len(got))
				}
			}
			if got, _ := img.Text(".cmdline"); got != "roothash=00ff console=ttyS0" {
				t.Errorf(".cmdline is %q", got)
			}
			if _, err := img.Section(".dtb"); !errors.Is(err, ErrNoSection) {
				t.Errorf(".dtb: %v", err)
			}
			again, err := Build(stub, sample()...)
			if err != nil || !bytes.Equal(image, again) {
				t.Errorf("a second image differs (%v)", err)
			}
		})
	}
}

// checkLayout says what is wrong with the section table of an image.
func checkLayout(t *testing.T, image []byte) {
	t.Helper()
	f, err := pe.NewFile(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	optional := f.OptionalHeader.(*pe.OptionalHeader64)
	var memory, file uint32
	for _, s := range f.Sections {
		if s.VirtualAddress < memory || s.Offset < file {
			t.Errorf("section %s at %#x, file %#x, overlaps the one before", s.Name, s.VirtualAddress, s.Offset)
		}
		if s.Offset%optional.FileAlignment != 0 || s.Offset+s.Size > uint32(len(image)) {
			t.Errorf("section %s: file offset %#x, size %#x", s.Name, s.Offset, s.Size)
		}
		memory, file = s.VirtualAddress+s.VirtualSize, s.Offset+s.Size
	}
	if optional.SizeOfImage < memory || optional.SizeOfImage%optional.SectionAlignment != 0 {
		t.Errorf("SizeOfImage is %#x, the sections end at %#x", optional.SizeOfImage, memory)
	}
	// The plain definition of the checksum.
	at := int(binary.LittleEndian.Uint32(image[0x3c:])) + coffHeaderSize + optChecksum
	var sum uint32
	for i := 0; i < len(image); i += 2 {
		if i == at || i == at+2 {
			continue
		}
		sum += uint32(binary.LittleEndian.Uint16(image[i:]))
		sum = sum&0xffff + sum>>16
	}
	if want := sum + uint32(len(image)); optional.CheckSum != want {
		t.Errorf("checksum is %#x, want %#x", optional.CheckSum, want)
	}
}

func TestObjdump(t *testing.T) {
	image, err := Build(readStub(t), sample()...)
	if err != nil {
		t.Fatal(err)
	}
	checkLayout(t, image)
	name := filepath.Join(t.TempDir(), "uki.efi")
	if err := os.WriteFile(name, image, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("objdump", "-h", name).CombinedOutput()
	if err != nil {
		t.Fatalf("objdump: %v\n%s", err, out)
	}
	var names []string
	for l := range strings.Lines(string(out)) {
		if f := strings.Fields(l); len(f) == 7 && strings.HasPrefix(f[1], ".") {
			names = append(names, f[1])
		}
	}
	got := strings.Join(names, " ")
	if !strings.HasSuffix(got, ".osrel .cmdline .uname .linux .initrd") || !strings.Contains(got, ".sbat") {
		t.Errorf("objdump -h has sections %q:\n%s", got, out)
	}
}

func TestBuildErrors(t *testing.T) {
	stub := smallStub(2, 4)
	one := Section{Name: ".x", Data: []byte("x")}
	changed := func(at int, v ...byte) []byte {
		b := bytes.Clone(stub)
		copy(b[at:], v)
		return b
	}
	security := 64 + coffHeaderSize + optSecurityDir
	behind := 64 + coffHeaderSize + 240 + 2*sectionHeaderSize
	for _, test := range []struct {
		name     string
		stub     []byte
		sections []Section
		want     string
	}{
		{"no program", []byte("hello"), nil, "no MZ header"},
		{"cut", stub[:100], nil, "cut short"},
		{"no PE", changed(64, 'X'), nil, "no PE header"},
		{"PE far away", changed(0x3c, 0xff, 0xff, 0xff, 0xff), nil, "no PE header"},
		{"ARM", changed(68, 0x64, 0xaa), nil, "machine 0xaa64"},
		{"Windows program", changed(88+optSubsystem, 3), nil, "subsystem 3"},
		{"signed", changed(security, 1), []Section{one}, "the stub is signed"},
		{"no room", stub, sample(), "room for 4 more sections, 5 are needed"},
		{"something there", changed(behind, 1), []Section{one}, "something behind its section table"},
		{"odd alignment", changed(88+optFileAlign, 3, 0), []Section{one}, "not usable"},
		{"long name", stub, []Section{{Name: ".toolongname", Data: one.Data}}, "section name"},
		{"name of the stub's", stub, []Section{{Name: ".a", Data: one.Data}}, "one already"},
		{"twice", stub, []Section{one, one}, "one already"},
		{"empty", stub, []Section{{Name: ".x"}}, "empty"},
		{"too large", stub, []Section{{Name: ".x", Data: one.Data, VirtualSize: 1 << 31}}, "larger than 2 GiB"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Build(test.stub, test.sections...)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
	if _, err := Linux([]byte("ELF")); err == nil || !strings.Contains(err.Error(), "bzImage") {
		t.Errorf("kernel: %v", err)
	}
}

func TestReadErrors(t *testing.T) {
	image, err := Build(smallStub(1, 5), sample()...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Read(bytes.NewReader(smallStub(2, 0))); !errors.Is(err, ErrNoSection) {
		t.Errorf("a program that is no UKI: %v", err)
	}
	img, err := Read(bytes.NewReader(image[:len(image)-5000]))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := img.Section(".initrd"); err == nil || !strings.Contains(err.Error(), "cut short") {
		t.Errorf("a cut file: %v", err)
	}
}

func TestLinux(t *testing.T) {
	kernel := smallStub(2, 0)
	headers{b: kernel, pe: 64, optional: 240}.putU32(optImageSize, 99_999)
	s, err := Linux(kernel)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Section{Name: ".linux", Data: kernel, VirtualSize: 99_999}, s); diff != "" {
		t.Error(diff)
	}
}

func FuzzRead(f *testing.F) {
	image, err := Build(smallStub(1, 2), Section{Name: ".linux", Data: []byte("kernel")}, Section{Name: ".uname", Data: []byte("6")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(image)
	f.Add(image[:200])
	f.Add(smallStub(1, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		if img, err := Read(bytes.NewReader(b)); err == nil {
			for _, s := range img.Sections {
				img.Section(s.Name)
			}
		}
		image, err := Build(b, Section{Name: ".linux", Data: []byte("kernel")})
		if err != nil {
			return
		}
		if h, err := parseHeaders(image); err != nil || h.section(h.numSections()-1).Name != ".linux" {
			t.Errorf("built from %d bytes: %v", len(b), err)
		}
	})
}
