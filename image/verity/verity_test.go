package verity

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

var testUUID = uuid.MustParse("7f3a3f5e-0b5c-4a51-9d9c-0c0ffee0c0de")

func noise(n int64) []byte {
	b := make([]byte, n)
	random := rand.NewChaCha8([32]byte{1})
	random.Read(b)
	return b
}

// buffer is an io.WriterAt in memory.
type buffer struct{ b []byte }

func (w *buffer) WriteAt(p []byte, off int64) (int, error) {
	if need := off + int64(len(p)); need > int64(len(w.b)) {
		w.b = append(w.b, make([]byte, need-int64(len(w.b)))...)
	}
	return copy(w.b[off:], p), nil
}

func format(t testing.TB, data []byte) (tree, root []byte) {
	t.Helper()
	var out buffer
	root, err := Format(bytes.NewReader(data), int64(len(data)), &out, Superblock{UUID: testUUID, Salt: Salt()})
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(out.b)) != TreeSize(int64(len(data))) {
		t.Fatalf("tree has %d bytes, TreeSize says %d", len(out.b), TreeSize(int64(len(data))))
	}
	return out.b, root
}

var rootHashLine = regexp.MustCompile(`Root hash:\s+([0-9a-f]{64})`)

// veritysetup writes the same bytes, and accepts ours.
func TestAgainstVeritysetup(t *testing.T) {
	for _, blocks := range []int64{1, 2, 127, 128, 129, 300, 16384, 16385, 20000} {
		t.Run(fmt.Sprint(blocks), func(t *testing.T) {
			dir := t.TempDir()
			data := noise(blocks * BlockSize)
			dataFile, ours, theirs := filepath.Join(dir, "data"), filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
			tree, root := format(t, data)
			for name, content := range map[string][]byte{dataFile: data, ours: tree, theirs: nil} {
				if err := os.WriteFile(name, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			out, err := exec.Command("veritysetup", "format", dataFile, theirs,
				"--salt", hex.EncodeToString(Salt()), "--uuid", testUUID.String()).CombinedOutput()
			if err != nil {
				t.Fatalf("veritysetup format: %v\n%s", err, out)
			}
			match := rootHashLine.FindSubmatch(out)
			if match == nil || string(match[1]) != hex.EncodeToString(root) {
				t.Errorf("our root hash is %x, veritysetup says:\n%s", root, out)
			}
			want, err := os.ReadFile(theirs)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, make([]byte, len(tree)-len(want))...) // it leaves the first block's end unwritten
			if !bytes.Equal(want, tree) {
				t.Error("the trees differ")
			}
			if out, err := exec.Command("veritysetup", "verify", dataFile, ours, hex.EncodeToString(root)).CombinedOutput(); err != nil {
				t.Errorf("veritysetup verify: %v\n%s", err, out)
			}
		})
	}
}

func TestVerifyFindsTheFirstBadBlock(t *testing.T) {
	const blocks = 20_000
	data := noise(blocks * BlockSize)
	tree, root := format(t, data)
	verify := func() error {
		return Verify(bytes.NewReader(data), int64(len(data)), bytes.NewReader(tree), root)
	}
	if err := verify(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		flip  []*byte
		wrong BadBlockError
	}{
		{"first", []*byte{&data[0]}, BadBlockError{Block: 0}},
		{"last", []*byte{&data[len(data)-1]}, BadBlockError{Block: blocks - 1}},
		{"several", []*byte{&data[19_000*BlockSize], &data[700*BlockSize+9], &data[500*BlockSize+5], &data[501*BlockSize]}, BadBlockError{Block: 500}},
		{"top of tree", []*byte{&tree[BlockSize]}, BadBlockError{Tree: true, Block: 1}},
		{"bottom of tree", []*byte{&tree[len(tree)-1]}, BadBlockError{Tree: true, Block: int64(len(tree)/BlockSize) - 1}},
		{"tree before data", []*byte{&data[0], &tree[7*BlockSize]}, BadBlockError{Tree: true, Block: 7}},
		{"salt", []*byte{&tree[90]}, BadBlockError{Tree: true, Block: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, b := range test.flip {
				*b ^= 0x40
				defer func() { *b ^= 0x40 }()
			}
			var bad *BadBlockError
			if err := verify(); !errors.As(err, &bad) {
				t.Fatalf("got %v, want a bad block", err)
			}
			if diff := cmp.Diff(test.wrong, *bad); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestVerifyErrors(t *testing.T) {
	data := noise(300 * BlockSize)
	tree, root := format(t, data)
	for _, test := range []struct {
		name       string
		data, tree []byte
		root       []byte
		want       string
	}{
		{"short data", data[:200*BlockSize], tree, root, "cut short"},
		{"short tree", data, tree[:2*BlockSize], root, "cut short"},
		{"no tree", data, nil, root, "read verity superblock"},
		{"empty slot", data, make([]byte, len(tree)), root, "no dm-verity superblock"},
		{"short hash", data, tree, root[:20], "want 32"},
		{"other hash", data, tree, make([]byte, 32), "block 1 of the hash tree"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := Verify(bytes.NewReader(test.data), int64(len(test.data)), bytes.NewReader(test.tree), test.root)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestFormatErrors(t *testing.T) {
	data := bytes.NewReader(noise(2 * BlockSize))
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for name, try := range map[string]func() error{
		"no data":   func() error { _, err := Format(data, 0, &buffer{}, Superblock{}); return err },
		"odd size":  func() error { _, err := Format(data, BlockSize+1, &buffer{}, Superblock{}); return err },
		"too short": func() error { _, err := Format(data, 3*BlockSize, &buffer{}, Superblock{}); return err },
		"full disk": func() error { _, err := Format(data, 2*BlockSize, full, Superblock{}); return err },
		"long salt": func() error {
			_, err := Format(data, BlockSize, &buffer{}, Superblock{Salt: make([]byte, 257)})
			return err
		},
	} {
		if try() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzParseSuperblock(f *testing.F) {
	good, err := Superblock{UUID: testUUID, DataBlocks: 5, Salt: Salt()}.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:100])
	f.Add(make([]byte, superblockSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSuperblock(b)
		if err != nil {
			return
		}
		again, err := s.MarshalBinary()
		if err != nil {
			t.Fatalf("%+v cannot be written: %v", s, err)
		}
		back, err := ParseSuperblock(again)
		if diff := cmp.Diff(s, back); err != nil || diff != "" {
			t.Errorf("%v %s", err, diff)
		}
		// No claim of the superblock makes Verify read or allocate without end.
		if err := Verify(bytes.NewReader(b), int64(len(b)), bytes.NewReader(b), make([]byte, DigestSize)); err == nil {
			t.Error("verified against a zero root hash")
		}
	})
}

func BenchmarkFormat(b *testing.B) {
	data := noise(64 << 20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := Format(bytes.NewReader(data), int64(len(data)), discard{}, Superblock{}); err != nil {
			b.Fatal(err)
		}
	}
}

type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

var _ io.WriterAt = discard{}
