package qemutests

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/image/gpt"
	"github.com/coracle-os/coracle/image/inspect"
	"github.com/coracle-os/coracle/initrd/entries"
	"github.com/coracle-os/coracle/qemu-tests/writelog"
)

// survivesCuts replays the log of what a machine with this image, on a disk of
// size bytes, wrote while it took an update. It cuts the power after every write
// to the ESP and the partition table, each time with another part of what was
// not flushed lost, and looks at the disk: there is always a release that is
// marked good and whole, and one that is on trial is whole, too.
func survivesCuts(t *testing.T, logFile, image string, size int64) {
	t.Helper()
	log, err := os.Open(logFile)
	must(t, err)
	defer log.Close()
	writes, err := writelog.Read(log)
	must(t, err)
	name := logFile + ".disk"
	run(t, "cp", "--sparse=always", "--reflink=auto", image, name)
	defer os.Remove(name)
	disk, err := os.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	defer disk.Close()
	must(t, disk.Truncate(size))
	layout, err := gpt.Read(disk, size)
	must(t, err)

	seed := rand.Uint64()
	t.Logf("%d writes and flushes; cuts with seed %d", len(writes), seed)
	random := rand.New(rand.NewPCG(seed, 0))
	c := cutDisk{disk: disk, size: size, layout: layout, whole: map[string]string{}, verified: map[string]bool{}}
	cut := func(i int) bool {
		c.written(writes[i])
		return touches(writes[i], 0, gpt.Alignment) || c.in(writes[i], gpt.ESP)
	}
	must(t, writelog.Disk{File: disk, Log: log}.Cuts(writes, cut, func() bool { return random.IntN(2) == 0 }, c.check))
	if len(c.whole) != 2 || c.cuts < 50 || c.trials == 0 {
		t.Errorf("%d cuts, %d with a release on trial, saw the releases %v", c.cuts, c.trials, c.whole)
	}
	t.Logf("%d cuts, %d of them with a release on trial", c.cuts, c.trials)
}

// cutDisk looks at a disk after each of many power cuts.
type cutDisk struct {
	disk         io.ReaderAt
	size         int64
	layout       gpt.Layout
	slotWrites   int               // so far
	whole        map[string]string // PCR 11 of each version: the first time it is seen it must be right
	verified     map[string]bool   // what Verify has been asked before
	cuts, trials int
}

func touches(e writelog.Entry, start, size int64) bool {
	return e.Length > 0 && e.Offset < start+size && e.Offset+e.Length > start
}

func (c *cutDisk) in(e writelog.Entry, partition string) bool {
	p, ok := c.layout.Find(partition)
	return ok && touches(e, p.Start, p.Size)
}

func (c *cutDisk) written(e writelog.Entry) {
	for _, p := range []string{gpt.RootA, gpt.RootAVerity, gpt.RootB, gpt.RootBVerity} {
		if c.in(e, p) {
			c.slotWrites++
		}
	}
}

func (c *cutDisk) check(int) error {
	c.cuts++
	img, err := inspect.Open(c.disk, c.size)
	if err != nil {
		return err
	}
	noGRUB := map[string]bool{}
	for _, p := range img.Problems {
		file, what, _ := strings.Cut(p, ": ")
		switch {
		case !strings.HasPrefix(file, "EFI/Linux/") || entries.IsTemp(filepath.Base(file)):
		case strings.HasPrefix(what, "on legacy BIOS GRUB does not start it"):
			noGRUB[file] = true // GRUB starts another, which there must be
		default:
			return errors.New(p)
		}
	}
	good, goodGRUB, state := 0, 0, fmt.Sprint(c.slotWrites)
	for _, u := range img.UKIs {
		if first, ok := c.whole[u.Version]; u.PCR11 == "" || ok && first != u.PCR11 {
			return fmt.Errorf("the UKI %s is damaged", u.Path)
		}
		c.whole[u.Version] = u.PCR11
		if !strings.Contains(fmt.Sprint(img.Slots), u.RootHash) {
			return fmt.Errorf("no slot has the root of the UKI %s", u.Path)
		}
		if u.TriesLeft == nil {
			good++
			if !noGRUB[u.Path] {
				goodGRUB++
			}
		} else {
			c.trials++
		}
		state += " " + u.RootHash
	}
	if good == 0 || goodGRUB == 0 {
		return fmt.Errorf("%d releases are marked good, %d for GRUB: %v; %q", good, goodGRUB, img.UKIs, img.Problems)
	}
	if c.verified[state] {
		return nil
	}
	c.verified[state] = true
	return img.Verify()
}
