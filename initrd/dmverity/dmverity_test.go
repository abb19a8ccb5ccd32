package dmverity

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unsafe"

	"github.com/coracle-os/coracle/image/verity"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// format makes a hash tree with veritysetup and gives its root hash.
func format(t *testing.T, dataSize int64) (hashes string, rootHash [32]byte) {
	t.Helper()
	directory := t.TempDir()
	data := filepath.Join(directory, "data")
	hashes = filepath.Join(directory, "hashes")
	if err := os.WriteFile(data, bytes.Repeat([]byte("coracle!"), int(dataSize/8)), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("veritysetup", "format", data, hashes).CombinedOutput()
	if err != nil {
		t.Fatalf("veritysetup: %v\n%s", err, out)
	}
	match := regexp.MustCompile(`Root hash:\s+([0-9a-f]{64})`).FindSubmatch(out)
	if match == nil {
		t.Fatalf("veritysetup printed no root hash:\n%s", out)
	}
	sum, err := hex.DecodeString(string(match[1]))
	if err != nil {
		t.Fatal(err)
	}
	return hashes, [32]byte(sum)
}

func TestCheck(t *testing.T) {
	const size = 1 << 20
	hashes, rootHash := format(t, size)
	good, err := os.ReadFile(hashes)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		change  func(b []byte) []byte
		size    int64
		hash    func(h [32]byte) [32]byte
		wantErr error
	}{
		{name: "good", size: size},
		{name: "larger partition", size: 2 * size},
		{name: "data cut off", size: size - 4096, wantErr: ErrCutOff},
		{name: "tree of another release", size: size, wantErr: ErrWrongRoot,
			hash: func(h [32]byte) [32]byte { h[31] ^= 1; return h }},
		{name: "top of the tree changed", size: size, wantErr: ErrWrongRoot,
			change: func(b []byte) []byte { b[4096+100] ^= 1; return b }},
		{name: "empty partition", size: size, wantErr: verity.ErrNoSuperblock,
			change: func(b []byte) []byte { clear(b); return b }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			image, hash := bytes.Clone(good), rootHash
			if test.change != nil {
				image = test.change(image)
			}
			if test.hash != nil {
				hash = test.hash(hash)
			}
			if _, err := Check(bytes.NewReader(image), test.size, hash); !errors.Is(err, test.wantErr) {
				t.Errorf("got error %v, want %v", err, test.wantErr)
			}
		})
	}
	if _, err := Check(bytes.NewReader(good[:4096]), size, rootHash); err == nil {
		t.Error("a partition that ends before the tree is no error")
	}
}

func TestTable(t *testing.T) {
	hash := [32]byte{0xab, 31: 0xcd}
	superblock := verity.Superblock{DataBlocks: 256, Salt: []byte{1, 2}}
	want := "1 /dev/vda3 /dev/vda4 4096 4096 256 1 sha256 ab" + strings.Repeat("00", 30) + "cd 0102 1 restart_on_corruption"
	if diff := cmp.Diff(want, Table(superblock, "/dev/vda3", "/dev/vda4", hash)); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	superblock.Salt = nil
	if got := Table(superblock, "a", "b", hash); !strings.Contains(got, " - 1 restart") {
		t.Errorf("without salt: %s", got)
	}
}

// TestLayout compares what is encoded here with the structures of x/sys.
func TestLayout(t *testing.T) {
	spec, err := encodeSpec(target{name: "root", uuid: "u", sectors: 2048, kind: "verity", params: "1 a b"})
	if err != nil {
		t.Fatal(err)
	}
	b := message("root", readOnlyFlag, spec)
	header := (*unix.DmIoctl)(unsafe.Pointer(&b[0]))
	if header.Version[0] != 4 || int(header.Data_size) != len(b) || header.Data_start != uint32(unsafe.Sizeof(*header)) ||
		header.Target_count != 1 || header.Flags != 1 || unix.ByteSliceToString(header.Name[:]) != "root" {
		t.Errorf("header %+v", header)
	}
	target := (*unix.DmTargetSpec)(unsafe.Pointer(&b[header.Data_start]))
	if target.Sector_start != 0 || target.Length != 2048 || int(target.Next) != len(spec) || unix.ByteSliceToString(target.Target_type[:]) != "verity" {
		t.Errorf("target %+v", target)
	}
	if got := unix.ByteSliceToString(spec[unsafe.Sizeof(*target):]); got != "1 a b" {
		t.Errorf("parameters %q", got)
	}
	if offset := unsafe.Offsetof(header.Uuid); offset != 176 {
		t.Errorf("the UUID is at %d", offset)
	}
	if offset := unsafe.Offsetof(header.Dev); offset != 40 {
		t.Errorf("the device number is at %d", offset)
	}
}

func TestNameTooLong(t *testing.T) {
	if _, err := create(target{name: strings.Repeat("x", 128), kind: "verity"}); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("got %v, want an error about the length", err)
	}
}

func TestOpenErrors(t *testing.T) {
	if _, err := Open("root", "/none", "/dev/none", 0, [32]byte{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
	hashes, rootHash := format(t, 1<<20)
	// Whatever this machine's kernel has: the data is not a block device.
	_, err := Open("coracle-test-"+fmt.Sprint(os.Getpid()), "/none", hashes, 1<<20, rootHash)
	if err == nil || !strings.Contains(err.Error(), "device") {
		t.Errorf("got %v, want an error that says which device", err)
	}
}
