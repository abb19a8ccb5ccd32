package updatemodel

import (
	"bytes"
	"io"
	"io/fs"
	"maps"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/initrd/entries"
)

// op is one thing that reached the disk or the EFI system partition.
type op struct {
	esp     bool
	sync    bool
	at      int64  // of a write to the disk
	content []byte // of a write
	name    string // of a file
	to      string // of a rename; "" for others
	remove  bool
}

// recorder keeps the operations of both in their order.
type recorder struct {
	mu  sync.Mutex
	ops []op
}

func (r *recorder) add(o op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, o)
}

// disk is a disk in memory.
type disk struct {
	data []byte
	log  *recorder
	at   int64
}

func (d *disk) ReadAt(b []byte, at int64) (int, error) {
	if at >= int64(len(d.data)) {
		return 0, io.EOF
	}
	n := copy(b, d.data[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (d *disk) WriteAt(b []byte, at int64) (int, error) {
	if at+int64(len(b)) > int64(len(d.data)) {
		return 0, io.ErrShortWrite
	}
	d.log.add(op{at: at, content: bytes.Clone(b)})
	return copy(d.data[at:], b), nil
}

func (d *disk) Sync() error                { d.log.add(op{sync: true}); return nil }
func (d *disk) Stat() (fs.FileInfo, error) { return nil, fs.ErrInvalid }
func (d *disk) Close() error               { return nil }

func (d *disk) Read(b []byte) (int, error) {
	n, err := d.ReadAt(b, d.at)
	d.at += int64(n)
	return n, err
}

func (d *disk) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
		d.at = offset
	case io.SeekCurrent:
		d.at += offset
	default:
		d.at = int64(len(d.data)) + offset
	}
	return d.at, nil
}

// espDir is the directory of boot entries in memory.
type espDir struct {
	files map[string][]byte
	size  int64
	log   *recorder
}

func (d *espDir) Names() (map[string]int64, error) {
	names := map[string]int64{}
	for name, content := range d.files {
		names[name] = int64(len(content))
	}
	return names, nil
}

func (d *espDir) Free() (int64, error) {
	free := d.size
	for _, content := range d.files {
		free -= int64(len(content))
	}
	return max(0, free), nil
}

type espFile struct{ *bytes.Reader }

func (espFile) Close() error { return nil }

func (d *espDir) Open(name string) (entries.Reader, error) {
	content, ok := d.files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return espFile{bytes.NewReader(content)}, nil
}

func (d *espDir) Write(name string, content io.Reader) error {
	b, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	if free, _ := d.Free(); int64(len(b)) > free {
		return unix.ENOSPC
	}
	d.log.add(op{esp: true, name: name, content: b})
	d.files[name] = b
	d.log.add(op{esp: true, sync: true})
	return nil
}

func (d *espDir) Rename(from, to string) error {
	b, ok := d.files[from]
	if !ok {
		return fs.ErrNotExist
	}
	d.log.add(op{esp: true, name: from, to: to})
	delete(d.files, from)
	d.files[to] = b
	return nil
}

func (d *espDir) Remove(name string) error {
	d.log.add(op{esp: true, name: name, remove: true})
	delete(d.files, name)
	return nil
}

func (d *espDir) Sync() error { d.log.add(op{esp: true, sync: true}); return nil }

// cut is what is on disk and ESP when power fails.
type cut struct {
	disk  []byte
	files map[string][]byte
}

func (c *cut) clone() *cut {
	return &cut{disk: bytes.Clone(c.disk), files: maps.Clone(c.files)}
}

// apply does an operation on what is there; share is how much of a write.
func (c *cut) apply(o op, share float64) {
	switch {
	case o.sync:
	case !o.esp:
		n := int(share*float64(len(o.content))) / 512 * 512
		if share >= 1 {
			n = len(o.content)
		}
		copy(c.disk[o.at:], o.content[:n])
	case o.remove:
		delete(c.files, o.name)
	case o.to != "":
		if content, ok := c.files[o.name]; ok {
			delete(c.files, o.name)
			c.files[o.to] = content
		}
	default:
		c.files[o.name] = o.content[:int(share*float64(len(o.content)))]
	}
}
