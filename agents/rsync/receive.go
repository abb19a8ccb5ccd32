package rsync

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/md4" // the protocol's sum: it finds accidents, not forgeries
	"golang.org/x/sys/unix"
)

// What stands in front of a part of a compressed file.
const (
	tokenEnd      = 0
	tokenDeflated = 0x40 // with the length's high bits; the low byte follows
	maxDeflated   = 1<<14 - 1
)

// done ends a phase of the copying in place of a file's number.
const done = -1

// receive takes a tree from the client.
func (s *session) receive() error {
	if s.remove {
		if err := s.readRules(); err != nil {
			return fmt.Errorf("read the filter rules: %w", err)
		}
	}
	files, ioError, err := s.list()
	if err != nil {
		return fmt.Errorf("read the list of files: %w", err)
	}
	root, rename, err := s.destination(files)
	if err != nil {
		return err
	}
	defer root.Close()
	if rename != "" {
		files[0].name = rename
	}
	if s.remove && !s.dryRun {
		if ioError && !s.ignoreErrors {
			s.tell("nothing is deleted: your computer could not read all files")
		} else {
			s.clean(root, files)
		}
	}
	var wanted []int32
	for i, f := range files {
		want, err := s.prepare(root, f)
		if err != nil {
			s.tell("%v", err)
		}
		if want {
			wanted = append(wanted, int32(i))
		}
	}
	// Two phases: files whose sum was wrong are asked for again.
	for range 2 {
		failed := make(chan error, 1)
		go func() { failed <- s.request(wanted) }()
		if wanted, err = s.take(root, files); err != nil {
			return err
		}
		if err := <-failed; err != nil {
			return err
		}
	}
	for _, i := range wanted {
		s.tell("%s: came damaged twice", files[i].name)
	}
	for _, f := range slices.Backward(files) { // times of directories, after their content
		if f.isDir() && !s.dryRun {
			if err := s.attributes(root, f.name, f); err != nil && !isGone(err) {
				s.tell("%v", err)
			}
		}
	}
	s.w.int(done)
	return nil
}

// destination opens the directory that is copied to, which it makes. A single
// file may be copied to another name, which is returned then.
func (s *session) destination(files []*file) (root *os.Root, rename string, err error) {
	target := s.paths[0]
	if target == "" {
		target = "."
	}
	info, statErr := os.Stat(target)
	single := len(files) == 1 && !files[0].isDir() && !strings.HasSuffix(target, "/")
	if single && (statErr != nil || !info.IsDir()) {
		target, rename = filepath.Dir(target), filepath.Base(target)
	} else if statErr != nil && !s.dryRun {
		// One level, as rsync has it: a mistyped path is not made as a whole.
		if err := os.Mkdir(strings.TrimSuffix(target, "/"), 0o777); err != nil {
			return nil, "", err
		}
	}
	root, err = os.OpenRoot(target)
	return root, rename, err
}

// clean removes what the client does not have, in the directories that it has.
func (s *session) clean(root *os.Root, files []*file) {
	kept := map[string]*file{}
	for _, f := range files {
		kept[f.name] = f
	}
	for _, f := range files {
		if !f.isDir() {
			continue
		}
		entries, err := fs.ReadDir(root.FS(), f.name)
		if err != nil {
			continue // it is not there yet, or no directory
		}
		for _, e := range entries {
			name := path.Join(f.name, e.Name())
			f, has := kept[name]
			if has && (f.isDir() || !e.IsDir()) || !has && !s.removeExcluded && s.rules.excludes(name, e.IsDir()) {
				continue // a directory in the place of a file goes
			}
			if err := s.removeTree(root, name, e.IsDir()); err != nil {
				s.tell("delete: %v", err)
			}
		}
	}
}

// removeTree removes a file or a directory, but for what the rules protect in it.
func (s *session) removeTree(root *os.Root, name string, isDir bool) error {
	if !isDir {
		return root.Remove(name)
	}
	entries, err := fs.ReadDir(root.FS(), name)
	if err != nil {
		return err
	}
	protected := false
	for _, e := range entries {
		inside := path.Join(name, e.Name())
		if !s.removeExcluded && s.rules.excludes(inside, e.IsDir()) {
			protected = true
			continue
		}
		if err := s.removeTree(root, inside, e.IsDir()); err != nil {
			return err
		}
	}
	if protected {
		return nil
	}
	return root.Remove(name)
}

// prepare makes directories and links, and says whether a file is to be asked for.
func (s *session) prepare(root *os.Root, f *file) (want bool, err error) {
	old, err := root.Lstat(f.name)
	if err != nil && !isGone(err) {
		return false, err
	}
	there := err == nil
	switch {
	case s.dryRun:
		return f.isRegular() && !s.same(f, old, there), nil
	case f.isDir():
		if there && old.IsDir() {
			return false, nil
		}
		if there {
			if err := root.Remove(f.name); err != nil {
				return false, err
			}
		}
		return false, root.Mkdir(f.name, 0o700|f.permissions()&0o777)
	case f.isLink():
		if !s.links {
			return false, nil
		}
		if there {
			if now, err := root.Readlink(f.name); err == nil && now == f.link {
				return false, nil
			}
			if err := root.Remove(f.name); err != nil {
				return false, err
			}
		}
		if err := root.Symlink(f.link, f.name); err != nil {
			return false, err
		}
		return false, s.attributes(root, f.name, f)
	case !f.isRegular():
		return false, fmt.Errorf("%s: devices, pipes and sockets are not copied", f.name)
	case there && old.IsDir():
		return false, fmt.Errorf("%s: a directory is in the place of the file; --delete removes it when your computer has none", f.name)
	case s.same(f, old, there):
		return false, s.attributes(root, f.name, f)
	}
	return true, nil
}

// same is true for a file that need not be copied.
func (s *session) same(f *file, old fs.FileInfo, there bool) bool {
	if !there || !old.Mode().IsRegular() || s.always {
		return false
	}
	if s.update && old.ModTime().Unix() > int64(f.time) {
		return true
	}
	return old.Size() == f.size && old.ModTime().Unix() == int64(f.time)
}

// request asks for files as a whole: with the sums of no blocks.
func (s *session) request(wanted []int32) error {
	for _, i := range wanted {
		s.w.int(i)
		if !s.dryRun {
			s.w.bytes(make([]byte, 16))
		}
		if err := s.w.flush(); err != nil {
			return err
		}
	}
	s.w.int(done)
	return s.w.flush()
}

// take writes the files that come, and returns those that came damaged.
func (s *session) take(root *os.Root, files []*file) (damaged []int32, err error) {
	for {
		i := s.r.int()
		switch {
		case s.r.err != nil:
			return nil, s.r.err
		case i == done:
			return damaged, nil
		case i < 0 || int(i) >= len(files) || !files[i].isRegular():
			return nil, fmt.Errorf("the client sends file %d of %d, which was not asked for", i, len(files))
		case s.dryRun:
			continue
		}
		whole, err := s.takeFile(root, files[i])
		if err != nil {
			return nil, err
		}
		if !whole {
			damaged = append(damaged, i)
		}
	}
}

// takeFile writes one file and puts it into its place. A file that cannot be
// written is told, and read to its end all the same.
func (s *session) takeFile(root *os.Root, f *file) (whole bool, err error) {
	s.r.bytes(16) // the blocks that it is made of: none
	sum := md4.New()
	binary.Write(sum, binary.LittleEndian, s.seed)
	temporary := path.Join(path.Dir(f.name), "."+path.Base(f.name)+".rsync~")
	_ = root.Remove(temporary) // of a copy that was cut
	out, openErr := root.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	to := &careful{out: out, err: openErr}
	defer func() {
		if out != nil {
			out.Close()
			_ = root.Remove(temporary)
		}
	}()
	content := io.Reader(&tokens{r: s.r})
	if s.compress {
		content = flate.NewReader(&deflated{r: s.r})
	}
	if _, err := io.Copy(io.MultiWriter(sum, to), content); err != nil && !(s.compress && errors.Is(err, io.ErrUnexpectedEOF) && s.r.err == nil) {
		return false, fmt.Errorf("%s: %w", f.name, err)
	}
	want := s.r.bytes(md4.Size)
	if s.r.err != nil {
		return false, s.r.err
	}
	if !bytes.Equal(sum.Sum(nil), want) {
		return false, nil
	}
	if to.err == nil {
		to.err = s.attributes(root, temporary, f)
	}
	if to.err == nil {
		to.err = root.Rename(temporary, f.name)
	}
	if to.err != nil {
		s.tell("%s: %v", f.name, to.err)
	}
	return true, nil
}

// careful keeps the first error and takes all that follows.
type careful struct {
	out *os.File
	err error
}

func (c *careful) Write(b []byte) (int, error) {
	if c.err == nil {
		_, c.err = c.out.Write(b)
	}
	return len(b), nil
}

// tokens is a file's content as it comes uncompressed: parts with their lengths.
type tokens struct {
	r    *reader
	left int32
	end  bool
}

func (t *tokens) Read(b []byte) (int, error) {
	if t.end {
		return 0, io.EOF
	}
	if t.left == 0 {
		t.left = t.r.int()
		switch {
		case t.r.err != nil:
			return 0, t.r.err
		case t.left == 0:
			t.end = true
			return 0, io.EOF
		case t.left < 0:
			return 0, errors.New("the client refers to a block that was not offered")
		}
	}
	n, err := t.r.Read(b[:min(len(b), int(t.left))])
	if err != nil {
		t.r.err = io.ErrUnexpectedEOF
		return n, t.r.err
	}
	t.left -= int32(n)
	return n, nil
}

// deflated is the deflate stream of a file: the client leaves the last four bytes
// out, which are always the same, and the end mark.
type deflated struct {
	r    *reader
	part []byte
	end  bool
}

func (d *deflated) Read(b []byte) (int, error) {
	for len(d.part) == 0 {
		if d.end {
			return 0, io.EOF
		}
		flag := d.r.byte()
		switch {
		case d.r.err != nil:
			return 0, d.r.err
		case flag == tokenEnd:
			d.part, d.end = []byte{0, 0, 0xff, 0xff}, true
		case flag&0xc0 == tokenDeflated:
			d.part = d.r.bytes(int(flag&0x3f)<<8 | int(d.r.byte()))
		default:
			return 0, errors.New("the client refers to a block that was not offered")
		}
	}
	n := copy(b, d.part)
	d.part = d.part[n:]
	return n, nil
}

// attributes gives a file the client's mode, owner and time, as far as it asks.
func (s *session) attributes(root *os.Root, name string, f *file) error {
	if s.owner || s.group {
		uid, gid := -1, -1
		if s.owner && os.Geteuid() == 0 {
			uid = int(f.uid)
		}
		if s.group && os.Geteuid() == 0 {
			gid = int(f.gid)
		}
		if uid >= 0 || gid >= 0 {
			if err := root.Lchown(name, uid, gid); err != nil {
				return err
			}
		}
	}
	if f.isLink() {
		return s.linkTime(root, name, f)
	}
	mode := f.permissions()
	if !s.perms { // a new file has what the umask leaves
		mask := unix.Umask(0)
		unix.Umask(mask)
		mode &= 0o777 &^ fs.FileMode(mask)
	}
	if err := root.Chmod(name, mode); err != nil {
		return err
	}
	if s.times {
		return root.Chtimes(name, f.modified(), f.modified())
	}
	return nil
}

// linkTime sets the time of a link itself, which os.Root cannot.
func (s *session) linkTime(root *os.Root, name string, f *file) error {
	if !s.times {
		return nil
	}
	dir, err := root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	to := unix.Timespec{Sec: int64(f.time)}
	if err := unix.UtimesNanoAt(int(dir.Fd()), path.Base(name), []unix.Timespec{to, to}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set the time of the link %q: %w", name, err)
	}
	return nil
}
