package pid1

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestConstantRanges(t *testing.T) {
	maps := `00400000-0096b000 r-xp 00000000 00:2b 101  /usr/bin/init
0096b000-00ee8000 r--p 0056b000 00:2b 101  /usr/bin/init
00ee8000-00f29000 rw-p 00ae8000 00:2b 101  /usr/bin/init
00f29000-02f67000 rw-p 00000000 00:00 0
7f0000000000-7f0000001000 r--p 00000000 00:2b 102  /usr/bin/init2
7f0000001000-7f0000002000 r--s 00000000 00:2b 101  /usr/bin/init
7f2fa6295000-7f2fa6297000 r-xp 00000000 00:00 0  [vdso]
strange line
`
	want := [][2]uintptr{{0x400000, 0x96b000}, {0x96b000, 0xee8000}}
	if diff := cmp.Diff(want, constantRanges(maps, "/usr/bin/init")); diff != "" {
		t.Error(diff)
	}
	if got := constantRanges(maps, "/usr/bin/init (deleted)"); got != nil {
		t.Errorf("a program whose file was replaced: %x", got)
	}
}

// TestTrim lets this process give back its own code, and finds it less and
// working.
func TestTrim(t *testing.T) {
	before := fileMemory(t)
	if err := trim(); err != nil {
		t.Fatal(err)
	}
	if after := fileMemory(t); after >= before {
		t.Errorf("%d kB of files are resident, before %d", after, before)
	}
	if !bytes.Equal(bytes.ToUpper([]byte("coracle")), []byte("CORACLE")) {
		t.Error("the program does not work any more")
	}
}

// fileMemory returns the kB of files that are resident in this process.
func fileMemory(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(os.Getpid()), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "RssFile:" {
			n, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no RssFile in the status of this process")
	return 0
}
