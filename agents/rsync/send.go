package rsync

import (
	"compress/flate"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/crypto/md4"
)

// send gives the client the trees that it names.
func (s *session) send() error {
	if err := s.readRules(); err != nil {
		return fmt.Errorf("read the filter rules: %w", err)
	}
	var files []*file
	for _, name := range s.paths {
		files = append(files, s.find(name)...)
	}
	if err := s.putList(files); err != nil {
		return err
	}
	if len(files) == 0 {
		return nil
	}
	files = sorted(files)
	size := int64(0)
	for phase := 0; phase < 2; phase++ {
		for {
			i := s.r.int()
			if s.r.err != nil {
				return s.r.err
			}
			if i == done {
				break
			}
			if i < 0 || int(i) >= len(files) || !files[i].isRegular() {
				return fmt.Errorf("the client asks for file %d of %d", i, len(files))
			}
			if s.dryRun {
				s.w.int(i)
				continue
			}
			n, err := s.give(i, files[i])
			if err != nil {
				return err
			}
			size += n
		}
		s.w.int(done)
		if err := s.w.flush(); err != nil {
			return err
		}
	}
	for range 2 { // what was read and written, for the client's summary
		s.w.long(size)
	}
	total := int64(0)
	for _, f := range files {
		total += f.size
	}
	s.w.long(total)
	if err := s.w.flush(); err != nil {
		return err
	}
	s.r.int() // farewell
	return s.r.err
}

// find lists a path: what is in it when it ends in a slash, else itself too.
func (s *session) find(name string) (files []*file) {
	base := path.Base(path.Clean(name))
	if strings.HasSuffix(name, "/") || base == "." || base == ".." || name == "" {
		base = "."
	}
	if name == "" {
		name = "."
	}
	var walk func(local, name string)
	walk = func(local, name string) {
		info, err := os.Lstat(local)
		if err == nil && (s.copyLinks || name == ".") {
			info, err = os.Stat(local)
		}
		if err != nil {
			s.tell("%v", err)
			return
		}
		if name != "." && s.rules.excludes(name, info.IsDir()) {
			return
		}
		f, err := describe(local, name, info)
		if err != nil {
			s.tell("%v", err)
			return
		}
		if f.isLink() && !s.links || f.isDir() && !s.recurse && name != "." || f.isSpecial() && !s.devices {
			return
		}
		files = append(files, f)
		if !f.isDir() || !s.recurse {
			return
		}
		entries, err := os.ReadDir(local)
		if err != nil {
			s.tell("%v", err)
		}
		for _, e := range entries {
			walk(filepath.Join(local, e.Name()), path.Join(name, e.Name()))
		}
	}
	walk(name, base)
	return files
}

// describe makes a file's entry.
func describe(local, name string, info fs.FileInfo) (*file, error) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, fmt.Errorf("look at %s: no owner and mode", local)
	}
	f := &file{name: name, local: local, size: info.Size(), time: int32(info.ModTime().Unix()),
		mode: stat.Mode, uid: int32(stat.Uid), gid: int32(stat.Gid)}
	if !f.isRegular() {
		f.size = 0
	}
	var err error
	if f.isLink() {
		f.link, err = os.Readlink(local)
	}
	return f, err
}

// give sends one file as a whole, and returns its length.
func (s *session) give(i int32, f *file) (int64, error) {
	var head [4]int32 // blocks of the client's copy, which are not looked at
	for k := range head {
		head[k] = s.r.int()
	}
	if head[0] < 0 || head[2] < 0 || head[2] > md4.Size {
		return 0, fmt.Errorf("the client's sums of %q are damaged", f.name)
	}
	if _, err := io.CopyN(io.Discard, s.r.Reader, int64(head[0])*int64(4+head[2])); err != nil {
		return 0, err
	}
	in, err := os.Open(f.local)
	if err != nil {
		s.tell("%v", err)
		return 0, nil // the client sees that it does not come
	}
	defer in.Close()
	s.w.int(i)
	for _, n := range head {
		s.w.int(n)
	}
	sum := md4.New()
	binary.Write(sum, binary.LittleEndian, s.seed)
	n, err := s.content(in, f, sum)
	if err != nil {
		return n, err
	}
	s.w.bytes(sum.Sum(nil))
	return n, s.w.flush()
}

// content sends the bytes of a file. What cannot be read is told, and the sum made
// wrong, so that the client does not take the rest for the file.
func (s *session) content(in io.Reader, f *file, sum hash.Hash) (int64, error) {
	from := &readable{in: in}
	var n int64
	var err error
	if s.compress {
		parts := &deflating{s: s}
		w, newErr := flate.NewWriter(parts, flate.DefaultCompression)
		if newErr != nil {
			return 0, newErr
		}
		if n, err = io.Copy(io.MultiWriter(w, sum), from); err == nil {
			err = w.Flush()
		}
		if err == nil {
			err = parts.finish()
		}
	} else {
		n, err = io.CopyBuffer(io.MultiWriter(literal{s}, sum), from, make([]byte, 32<<10))
		s.w.int(0)
	}
	if from.err != nil {
		s.tell("%s: %v", f.name, from.err)
		sum.Write([]byte{0})
	}
	return n, err
}

// readable ends at the first error and keeps it.
type readable struct {
	in  io.Reader
	err error
}

func (r *readable) Read(b []byte) (int, error) {
	n, err := r.in.Read(b)
	if err != nil && err != io.EOF {
		r.err = err
		err = io.EOF
	}
	return n, err
}

type literal struct{ s *session }

func (l literal) Write(b []byte) (int, error) {
	l.s.w.int(int32(len(b)))
	l.s.w.bytes(b)
	return len(b), l.s.w.flush()
}

// deflating cuts a deflate stream into parts. The last four bytes are held back:
// they are those of the flush, which the client adds itself.
type deflating struct {
	s    *session
	held []byte
}

func (d *deflating) Write(b []byte) (int, error) {
	d.held = append(d.held, b...)
	for len(d.held) > 4 {
		n := min(len(d.held)-4, maxDeflated)
		d.s.w.bytes([]byte{tokenDeflated | byte(n>>8), byte(n)})
		d.s.w.bytes(d.held[:n])
		d.held = d.held[n:]
	}
	return len(b), d.s.w.flush()
}

func (d *deflating) finish() error {
	d.s.w.bytes([]byte{tokenEnd})
	return d.s.w.flush()
}
