package grub

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var two = State{Generation: 7, Entries: []Entry{
	{Version: "2.0.0-rc1", Release: "0123456789abcdef", Given: 3, Left: 3},
	{Version: "1.0", Release: "fedcba9876543210", Good: true},
}}

// counted is what GRUB's save_env makes of a block: the value in its place, and
// the padding as long as is needed.
func counted(block []byte, name, value string) []byte {
	lines := strings.Split(string(block), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, name+"=") {
			lines[i] = name + "=" + value
		}
	}
	return []byte(strings.Join(lines, "\n"))
}

func TestEnv(t *testing.T) {
	block := two.Encode()
	if len(block) != EnvSize {
		t.Errorf("%d bytes, want %d", len(block), EnvSize)
	}
	got, err := Decode(block)
	if diff := cmp.Diff(two, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	got, err = Decode(counted(block, "l1", "2"))
	if err != nil || got.Entries[0].Left != 2 || got.Entries[0].Given != 3 {
		t.Errorf("after GRUB has counted: %+v, %v", got, err)
	}
	long := State{Entries: []Entry{
		{Version: strings.Repeat("a", 100), Release: "0123456789abcdef", Good: true},
		{Version: strings.Repeat("b", 100), Release: "0123456789abcdef", Good: true},
		{Version: strings.Repeat("c", 100), Release: "0123456789abcdef", Good: true},
		{Version: strings.Repeat("d", 100), Release: "0123456789abcdef", Good: true},
	}}
	if got, err = Decode(long.Encode()); err != nil || len(got.Entries) < 2 {
		t.Errorf("long versions: %+v, %v; want at least the two slots", got, err)
	}
}

// TestFlippedEnv flips every bit: no copy of the state with an error in it reads
// as one with other releases or more tries.
func TestFlippedEnv(t *testing.T) {
	block := two.Encode()
	for i := range block {
		for bit := range 8 {
			bad := append([]byte(nil), block...)
			bad[i] ^= 1 << bit
			got, err := Decode(bad)
			if err != nil {
				if !errors.Is(err, ErrEnv) {
					t.Fatalf("byte %d, bit %d: %v is not ErrEnv", i, bit, err)
				}
				continue
			}
			for j := range got.Entries {
				got.Entries[j].Left = two.Entries[j].Left // GRUB may have changed it
			}
			if diff := cmp.Diff(two, got); diff != "" {
				t.Errorf("byte %d, bit %d reads as another state:\n%s", i, bit, diff)
			}
		}
	}
}

func TestLatest(t *testing.T) {
	older := two
	older.Generation = 6
	newer := two
	newer.Generation = 10
	bad := make([]byte, EnvSize)
	for name, c := range map[string]struct {
		first, second []byte
		want          uint32
		left          int
	}{
		"both":                      {two.Encode(), two.Encode(), 7, 3},
		"power cut in GRUB":         {counted(two.Encode(), "l1", "2"), two.Encode(), 7, 2},
		"first is older":            {older.Encode(), two.Encode(), 7, 3},
		"second is older":           {two.Encode(), older.Encode(), 7, 3},
		"numbers, not texts":        {two.Encode(), newer.Encode(), 10, 3},
		"first is damaged":          {bad, older.Encode(), 6, 3},
		"second is damaged":         {older.Encode(), bad, 6, 3},
		"first is gone":             {nil, two.Encode(), 7, 3},
		"second ends too early":     {two.Encode(), newer.Encode()[:300], 7, 3},
		"second of mixed sectors":   {two.Encode(), counted(newer.Encode(), "end", "9"), 7, 3},
		"second has too many tries": {two.Encode(), counted(newer.Encode(), "l1", "4"), 7, 3},
	} {
		got, err := Latest(c.first, c.second)
		if err != nil || got.Generation != c.want || got.Entries[0].Left != c.left {
			t.Errorf("%s: %+v, %v; want generation %d", name, got, err, c.want)
		}
	}
	if _, err := Latest(bad, nil); !errors.Is(err, ErrEnv) {
		t.Errorf("both are damaged: %v, want ErrEnv", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(two.Encode())
	f.Add(counted(two.Encode(), "l1", "0"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Decode(data)
		if err != nil {
			return
		}
		again, err := Decode(s.Encode())
		if diff := cmp.Diff(s, again); err != nil || diff != "" {
			t.Errorf("%v (-first +again):\n%s", err, diff)
		}
	})
}

// TestScriptUsesOurNames holds boot.cfg and the Go side together.
func TestScriptUsesOurNames(t *testing.T) {
	for _, want := range []string{
		"/" + Directory + "/" + EnvNames[0], "/" + Directory + "/" + EnvNames[1], "/" + Directory + "/$1" + ScriptSuffix,
		"/" + Directory + "/$1" + SumSuffix, "EFI/Linux/coracle-$1.efi", "EFI/Linux/coracle-$1+*.efi", "= " + goodWord + " ",
	} {
		if !strings.Contains(string(bootConfig), want) {
			t.Errorf("boot.cfg has no %q", want)
		}
	}
	for line := range strings.Lines(string(bootConfig)) {
		if !strings.Contains(line, "_env --file") {
			continue
		}
		for name := range strings.FieldsSeq("generation v1 r1 l1 v2 r2 l2 v3 r3 l3 check end") {
			if !strings.Contains(line, " "+name) {
				t.Errorf("%q leaves out %s", line, name)
			}
		}
	}
}

func TestInstall(t *testing.T) {
	g := Image{Boot: make([]byte, bootImgSize), Core: make([]byte, 3*sector+10)}
	g.Boot[0], g.Boot[bootCode+1] = 0xeb, 0xff
	g.Core[coreLength] = 3
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("table"), bootCode); err != nil {
		t.Fatal(err)
	}
	if err := g.Install(f, 2048*sector); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, sector)
	if _, err := f.ReadAt(head, 0); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]byte{0, 8, 0, 0, 0, 0, 0, 0}, head[0x5c:0x64]); diff != "" {
		t.Errorf("sector of the core (-want +got):\n%s", diff)
	}
	if string(head[bootCode:][:5]) != "table" {
		t.Errorf("the partition table became %q", head[bootCode:][:5])
	}
	core := make([]byte, 4*sector)
	if _, err := f.ReadAt(core, 2048*sector); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]byte{1, 8, 0, 0, 0, 0, 0, 0, 3, 0}, core[0x1f4:0x1fe]); diff != "" {
		t.Errorf("the core's next sector (-want +got):\n%s", diff)
	}
	for name, bad := range map[string]Image{
		"no boot sector": {Boot: g.Boot[:100], Core: g.Core}, "no core": {Boot: g.Boot}, "too large": {g.Boot, make([]byte, half+1)},
		"wrong length": {g.Boot, g.Core[:2*sector]},
	} {
		if err := bad.Install(f, 2048*sector); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
