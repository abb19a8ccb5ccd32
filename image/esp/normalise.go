package esp

import (
	"encoding/binary"
	"fmt"
	"os"
	"time"
)

// Offsets in the boot sector and the FSInfo sector.
const (
	bootVolumeID   = 67
	fsInfoSector   = 1
	backupSectors  = 6 // where go-diskfs puts the copy of sectors 0 and 1
	fsInfoFree     = 488
	fsInfoNextFree = 492
)

// normalise makes the file system that go-diskfs wrote a function of its files
// and the options.
func normalise(f *os.File, size int64, opts Options) error {
	v, err := Open(f, size)
	if err != nil {
		return err
	}
	if err := normaliseDir(f, v, v.root, v.root, dosTime(opts.Time)); err != nil {
		return err
	}
	free, next := uint32(0), uint32(0)
	for c := uint32(firstCluster); c < firstCluster+v.clusters; c++ {
		if v.fat[c] != 0 {
			continue
		}
		if free++; next == 0 {
			next = c
		}
	}
	if next == 0 {
		next = 0xffffffff
	}
	for _, base := range []int64{0, backupSectors * sectorSize} {
		for _, field := range []struct {
			at    int64
			value uint32
		}{
			{bootVolumeID, opts.VolumeID},
			{fsInfoSector*sectorSize + fsInfoFree, free},
			{fsInfoSector*sectorSize + fsInfoNextFree, next},
		} {
			if err := putU32(f, base+field.at, field.value); err != nil {
				return err
			}
		}
	}
	return nil
}

func putU32(f *os.File, at int64, v uint32) error {
	_, err := f.WriteAt(binary.LittleEndian.AppendUint32(nil, v), at)
	return err
}

// normaliseDir sets the times of all entries of a directory and those below
// it, gives the root its number 0 in "..", and takes the cluster from an empty
// file. Two entries with one short name are an error.
func normaliseDir(f *os.File, v *Volume, dir, parent uint32, stamp [4]byte) error {
	slots, err := v.readDir(dir)
	if err != nil {
		return err
	}
	short := make(map[string]bool)
	for _, s := range slots {
		b := s.raw
		name := string(b[:11])
		if short[name] {
			return fmt.Errorf("two files of one directory get the short name %q; rename one", name)
		}
		short[name] = true
		b[13] = 0
		for _, at := range []int{14, 22} { // created, modified
			copy(b[at:], stamp[:])
		}
		copy(b[18:20], stamp[2:]) // read
		switch {
		case s.name == "..":
			if parent == v.root {
				s.setCluster(0)
			}
		case s.isDir && s.name != ".":
			if err := normaliseDir(f, v, s.cluster, dir, stamp); err != nil {
				return err
			}
		case !s.isDir && !s.isLabel && s.size == 0 && s.cluster != 0:
			if err := v.release(f, s.cluster); err != nil {
				return err
			}
			s.setCluster(0)
		}
		if _, err := f.WriteAt(b, s.offset); err != nil {
			return err
		}
	}
	return nil
}

func (s *slot) setCluster(c uint32) {
	binary.LittleEndian.PutUint16(s.raw[20:], uint16(c>>16))
	binary.LittleEndian.PutUint16(s.raw[26:], uint16(c))
}

// release marks one cluster free in both tables.
func (v *Volume) release(f *os.File, cluster uint32) error {
	v.fat[cluster] = 0
	for _, start := range v.fatStarts {
		if err := putU32(f, start+int64(cluster)*4, 0); err != nil {
			return err
		}
	}
	return nil
}

// dosTime is the time and date of a directory entry, little endian.
func dosTime(t time.Time) [4]byte {
	t = t.UTC()
	if t.Year() < 1980 || t.Year() > 2107 {
		t = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	clock := t.Hour()<<11 | t.Minute()<<5 | t.Second()/2
	date := (t.Year()-1980)<<9 | int(t.Month())<<5 | t.Day()
	var b [4]byte
	binary.LittleEndian.PutUint16(b[:], uint16(clock))
	binary.LittleEndian.PutUint16(b[2:], uint16(date))
	return b
}
