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

	"github.com/coracle-os/coracle/image/verity"
	"github.com/google/go-cmp/cmp"
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
