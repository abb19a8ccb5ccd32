package updatemodel

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/coracle-os/coracle/agents/update/slots"
	"github.com/coracle-os/coracle/image/verity"
	"github.com/coracle-os/coracle/initrd/entries"
	"github.com/coracle-os/coracle/initrd/partition"
	"github.com/coracle-os/coracle/rootfs/updatectl"
	"github.com/coracle-os/coracle/tools/tufrepo"
)

// check says what is wrong with what is on the disk, "" for nothing: the
// running system must be whole with its entry, and every entry that is whole
// must start a system that is whole. systems are all that there can be.
func (c *cut) check(running system, systems ...system) string {
	d := &disk{data: c.disk, log: &recorder{}}
	_, err := partition.ReadTable(d, int64(len(c.disk)), 512)
	if err != nil && !errors.Is(err, partition.ErrDamaged) {
		return fmt.Sprintf("the partition table is lost: %v", err)
	}
	e := &espDir{files: c.files, log: &recorder{}}
	l, err := entries.List(e)
	if err != nil {
		return err.Error()
	}
	pair, err := slots.Disk{File: d, Size: int64(len(c.disk)), SectorSize: 512}.Find(running.rootHash)
	if err != nil {
		return err.Error()
	}
	good := 0
	for _, s := range append(systems, running) {
		for _, f := range l.Files {
			if f.RootHash != s.rootHash {
				continue
			}
			if !bytes.Equal(c.files[f.File], s.uki) {
				return fmt.Sprintf("entry %s is named and not whole", f.File)
			}
			slot := pair.Running
			if !slot.Holds(s.rootHash) {
				slot = pair.Inactive
			}
			if !slot.Holds(s.rootHash) {
				return fmt.Sprintf("entry %s starts a root hash that no slot has", f.File)
			}
			if err := verifySlot(d, slot, s.rootHash); err != nil {
				return fmt.Sprintf("entry %s: slot %s: %v", f.File, slot.Letter, err)
			}
			if s.rootHash == running.rootHash {
				good++
			}
		}
	}
	for _, f := range l.Files {
		if f.RootHash == "" {
			return fmt.Sprintf("entry %s is named and cannot be read", f.File)
		}
	}
	if good == 0 {
		return "the running system has no whole entry"
	}
	return ""
}

func verifySlot(d *disk, s slots.Slot, rootHash string) error {
	hash, err := hex.DecodeString(rootHash)
	if err != nil {
		return err
	}
	return verity.Verify(io.NewSectionReader(d, s.Root.Start, s.Root.Size), s.Root.Size, io.NewSectionReader(d, s.Verity.Start, s.Verity.Size), hash)
}

// eachCut calls look with what can be on the disk when power fails after each
// operation: everything that was flushed, and of the rest all, nothing and
// several random parts, whole writes or sectors of them.
func eachCut(start *cut, ops []op, look func(i int, c *cut)) {
	random := rand.New(rand.NewPCG(1, 2))
	durable := start.clone()
	var pending []op
	for i, o := range ops {
		if o.sync {
			var rest []op
			for _, p := range pending {
				if p.esp == o.esp {
					durable.apply(p, 1)
				} else {
					rest = append(rest, p)
				}
			}
			pending = rest
			look(i, durable)
			continue
		}
		pending = append(pending, o)
		variants := 12
		if len(pending) > 8 && i%8 != 0 { // thinned where all are alike
			continue
		}
		for v := range variants {
			c := durable.clone()
			for _, p := range pending {
				switch {
				case v == 0:
					c.apply(p, 1)
				case random.IntN(2) == 0:
					c.apply(p, 1)
				case random.IntN(2) == 0:
					c.apply(p, random.Float64())
				}
			}
			look(i, c)
		}
	}
}

// TestPowerCut looks at every instant of two updates in a row, A to B and B
// to A, and of a third over an armed one.
func TestPowerCut(t *testing.T) {
	c := newClock()
	p := newPublisher(t, c)
	one, two, three, four := newSystem(t, "1.0.0", 300, 0), newSystem(t, "1.1.0", 310, 2), newSystem(t, "1.2.0", 290, 3), newSystem(t, "1.3.0", 320, 4)
	m := newMachine(t, one, c, p)
	cuts := 0
	record := func(name string, running system, next system) {
		t.Helper()
		start := m.before()
		m.log.ops = nil
		p.publish(t, next, tufrepo.Options{})
		m.update(t)
		ops := m.log.ops
		before := cuts
		eachCut(start, ops, func(i int, c *cut) {
			cuts++
			if why := c.check(running, one, two, three, four); why != "" {
				t.Fatalf("%s: power cut after operation %d of %d: %s", name, i, len(ops), why)
			}
		})
		end := m.before()
		if why := end.check(next, one, two, three, four); why != "" {
			t.Fatalf("%s: at the end: %s", name, why)
		}
		t.Logf("%s: %d operations, %d cuts", name, len(ops), cuts-before)
	}
	m.start(t)
	record("A to B", one, two)
	m.reboot(t, two)
	record("B to A", two, three)
	record("over an armed release", two, four)
	if cuts < 500 {
		t.Errorf("%d cuts were looked at, want 500 or more", cuts)
	}
}

// TestPowerCutResume cuts power in the middle of the block writes and lets the
// next boot go on: it ends with the release in place.
func TestPowerCutResume(t *testing.T) {
	c := newClock()
	p := newPublisher(t, c)
	one, two := newSystem(t, "1.0.0", 300, 0), newSystem(t, "1.1.0", 310, 2)
	m := newMachine(t, one, c, p)
	p.publish(t, two, tufrepo.Options{})
	m.start(t)
	start := m.before()
	m.update(t)
	m.stop()
	ops := m.log.ops
	var cutsAt []*cut
	n := 0
	eachCut(start, ops, func(i int, c *cut) {
		if n++; n%40 == 0 {
			cutsAt = append(cutsAt, c.clone())
		}
	})
	for i, cut := range cutsAt {
		m.disk.data, m.esp.files = cut.disk, cut.files
		m.start(t)
		if _, _, err := m.ask(updatectl.Request{Verb: "check"}); err != nil {
			t.Fatalf("cut %d: %v", i, err)
		}
		m.stop()
		if why := m.before().check(two); why != "" {
			t.Fatalf("cut %d: after the next boot: %s", i, why)
		}
	}
	t.Logf("%d resumed", len(cutsAt))
}
