// Package configdrive reads the files that a platform puts on a disk or a CD for
// its machine: OpenStack's config drive (label config-2) and NoCloud's (cidata).
// What the files say is for the packages openstack and nocloud.
//
// FAT and ISO 9660 are read by go-diskfs in this process instead of being
// mounted: the drive is outside input, and this way a damaged one can cost an
// error and not the kernel, and neither modules nor mount points are needed.
// What go-diskfs does not find is looked for once more through the kernel.
// The label is read here, from the fixed places that the formats give it,
// because that costs one small read for each block device of a machine; that
// is all that is our own.
//
// Left out on purpose: UDF, 9p and the EC2 folder of a config drive.
package configdrive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat12"
	"github.com/diskfs/go-diskfs/filesystem/fat16"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"

	"github.com/coracle-os/coracle/rootfs/userdata/mounted"
)

// MaxFile is the size in bytes of the largest file that is read.
const MaxFile = 16 << 20

// readTimeout bounds the reading of one drive, whatever loops it holds.
const readTimeout = 10 * time.Second

// Files are the files of a drive by name; those that are not there are missing.
type Files map[string][]byte

// Open reads the named files of the drive on a block device or in an image file.
func Open(ctx context.Context, device string, names ...string) (Files, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	type result struct {
		files Files
		err   error
	}
	done := make(chan result, 1)
	go func() {
		files, err := open(device, names)
		done <- result{files, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return r.files, fmt.Errorf("read config drive %s: %w", device, r.err)
		}
		return r.files, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("read config drive %s: %w; the disk or its file system is damaged", device, ctx.Err())
	}
}

func open(device string, names []string) (files Files, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the file system is damaged: %v", r)
		}
	}()
	f, err := os.Open(device)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	format, _, err := Probe(f)
	if err != nil {
		return nil, err
	}
	fsys, err := fileSystem(f, format)
	if err == nil {
		files, err = Read(fsys, names...)
	}
	if (err == nil && len(files) > 0) || !isBlockDevice(f) {
		return files, err
	}
	kind := "vfat"
	if format == ISO9660 {
		kind = "iso9660"
	}
	// go-diskfs does not find the nested folders of an ISO with Joliet names only.
	var mountedFiles Files
	mountErr := mounted.Do(device, kind, func(fsys fs.FS) (err error) {
		mountedFiles, err = Read(fsys, names...)
		return err
	})
	if mountErr == nil {
		return mountedFiles, nil
	}
	return files, err
}

func isBlockDevice(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode().Type() == fs.ModeDevice
}

func fileSystem(f *os.File, format Format) (fs.FS, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	disk := file.New(f, true)
	switch format {
	case ISO9660:
		return iso9660.Read(disk, size, 0, 2048)
	case FAT12:
		return fat12.Read(disk, size, 0, 512)
	case FAT16:
		return fat16.Read(disk, size, 0, 512)
	case FAT32:
		return fat32.Read(disk, size, 0, 512)
	}
	return nil, errors.New("neither FAT nor ISO 9660")
}

// Read reads the named files of a drive. A missing file is no error.
func Read(fsys fs.FS, names ...string) (Files, error) {
	files := Files{}
	for _, name := range names {
		data, err := readFile(fsys, name)
		if err != nil {
			return files, err
		}
		if data != nil {
			files[name] = data
		}
	}
	return files, nil
}

// readFile returns nil without an error when there is no such file.
func readFile(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || isMissing(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("open %q: %w", name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", name, err)
	}
	if len(data) > MaxFile {
		return nil, fmt.Errorf("read %q: it is larger than %d bytes", name, MaxFile)
	}
	return data, nil
}

// isMissing recognizes go-diskfs's errors for a path that does not exist, which
// are texts only.
func isMissing(err error) bool {
	text := err.Error()
	return strings.Contains(text, "does not exist") || strings.Contains(text, "could not read directory entries") || strings.Contains(text, "could not find")
}

// Format is a file system format that Probe knows.
type Format string

// The formats.
const (
	FAT12   Format = "fat12"
	FAT16   Format = "fat16"
	FAT32   Format = "fat32"
	ISO9660 Format = "iso9660"
)

// ErrUnknown says that a device holds none of the formats.
var ErrUnknown = errors.New("neither FAT nor ISO 9660")

// Probe returns the format of the file system on r and its label, without the
// blanks that pad it. The error is ErrUnknown when there is neither FAT (as
// Microsoft's specification has it) nor ISO 9660 (ECMA-119), else the error of
// reading.
func Probe(r io.ReaderAt) (Format, string, error) {
	sector := make([]byte, 512)
	if _, err := r.ReadAt(sector, 0); err != nil {
		return "", "", err
	}
	if format, label := probeFAT(sector); format != "" {
		return format, label, nil
	}
	descriptor := make([]byte, 72)
	if _, err := r.ReadAt(descriptor, 16*2048); err != nil && !errors.Is(err, io.EOF) {
		return "", "", err
	}
	if bytes.HasPrefix(descriptor, []byte("\x01CD001")) {
		return ISO9660, text(descriptor[40:72]), nil
	}
	return "", "", ErrUnknown
}

func probeFAT(sector []byte) (Format, string) {
	if sector[510] != 0x55 || sector[511] != 0xaa {
		return "", ""
	}
	if bytes.HasPrefix(sector[82:], []byte("FAT32")) {
		return FAT32, text(sector[71:82])
	}
	switch text(sector[54:62]) {
	case "FAT12":
		return FAT12, text(sector[43:54])
	case "FAT16":
		return FAT16, text(sector[43:54])
	}
	return "", ""
}

func text(field []byte) string { return strings.TrimRight(string(field), " \x00") }

// Find returns the first of the devices that has a file system with the label;
// case does not matter. Devices that can not be read, such as a CD drive without
// a CD, are passed over.
func Find(devices []string, label string) (device string, found bool) {
	for _, device := range devices {
		if hasLabel(device, label) {
			return device, true
		}
	}
	return "", false
}

func hasLabel(device, want string) bool {
	f, err := os.Open(device)
	if err != nil {
		return false
	}
	defer f.Close()
	_, label, err := Probe(f)
	return err == nil && strings.EqualFold(label, want)
}
