package rsync

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Bits in front of a file's entry: what is as in the entry before.
const (
	sameMode = 1 << 1
	sameRdev = 1 << 2
	sameUID  = 1 << 3
	sameGID  = 1 << 4
	sameName = 1 << 5 // its first bytes; their number follows
	longName = 1 << 6 // the length has 4 bytes
	sameTime = 1 << 7
)

// file is one entry of the list of files.
type file struct {
	name     string // relative, "." for the top
	size     int64
	time     int32 // Unix seconds
	mode     uint32
	uid, gid int32
	link     string
	local    string // where the sender has it
}

func (f *file) isDir() bool     { return f.mode&unix.S_IFMT == unix.S_IFDIR }
func (f *file) isLink() bool    { return f.mode&unix.S_IFMT == unix.S_IFLNK }
func (f *file) isRegular() bool { return f.mode&unix.S_IFMT == unix.S_IFREG }
func (f *file) isSpecial() bool { return !f.isDir() && !f.isLink() && !f.isRegular() }

func (f *file) permissions() fs.FileMode {
	mode := fs.FileMode(f.mode & 0o777)
	for bit, flag := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
		if f.mode&bit != 0 {
			mode |= flag
		}
	}
	return mode
}

func (f *file) modified() time.Time { return time.Unix(int64(f.time), 0) }

// sorted puts a list in the order that gives files their numbers.
func sorted(list []*file) []*file {
	slices.SortStableFunc(list, func(a, b *file) int { return strings.Compare(a.name, b.name) })
	return list
}

// list reads the client's files. ioError says that it could not read them all.
func (s *session) list() (files []*file, ioError bool, err error) {
	var last file
	for {
		flags := s.r.byte()
		if flags == 0 || s.r.err != nil {
			break
		}
		f, err := s.entry(flags, last)
		if err != nil {
			return nil, false, err
		}
		last = *f
		files = append(files, f)
	}
	for _, has := range []bool{s.owner, s.group} { // names of users and groups: numbers are kept
		for has && !s.numeric && s.r.err == nil && s.r.int() != 0 {
			s.r.bytes(int(s.r.byte()))
		}
	}
	ioError = s.r.int() != 0
	return sorted(files), ioError, s.r.err
}

// entry reads one file of the list.
func (s *session) entry(flags byte, last file) (*file, error) {
	f := last
	same, length := 0, 0
	if flags&sameName != 0 {
		same = int(s.r.byte())
	}
	if flags&longName != 0 {
		length = int(s.r.int())
	} else {
		length = int(s.r.byte())
	}
	if same > len(last.name) || length < 0 || same+length > maxName {
		return nil, fmt.Errorf("the client's list of files is damaged after %q", last.name)
	}
	f.name = last.name[:same] + string(s.r.bytes(length))
	f.size = s.r.long()
	if flags&sameTime == 0 {
		f.time = s.r.int()
	}
	if flags&sameMode == 0 {
		f.mode = uint32(s.r.int())
	}
	if s.owner && flags&sameUID == 0 {
		f.uid = s.r.int()
	}
	if s.group && flags&sameGID == 0 {
		f.gid = s.r.int()
	}
	if s.devices && f.isSpecial() && flags&sameRdev == 0 {
		s.r.int()
	}
	f.link = ""
	if s.links && f.isLink() {
		n := int(s.r.int())
		if n < 0 || n > maxName {
			return nil, fmt.Errorf("the client's list of files is damaged at %q", f.name)
		}
		f.link = string(s.r.bytes(n))
	}
	if s.r.err != nil {
		return nil, s.r.err
	}
	if !fs.ValidPath(f.name) || f.size < 0 {
		return nil, fmt.Errorf("the client's file %q of %d bytes is refused: no name in the destination", f.name, f.size)
	}
	return &f, nil
}

// putList writes a list to the client.
func (s *session) putList(files []*file) error {
	for _, f := range files {
		s.w.bytes([]byte{longName})
		s.w.int(int32(len(f.name)))
		s.w.bytes([]byte(f.name))
		s.w.long(f.size)
		s.w.int(f.time)
		s.w.int(int32(f.mode))
		if s.owner {
			s.w.int(f.uid)
		}
		if s.group {
			s.w.int(f.gid)
		}
		if s.devices && f.isSpecial() {
			s.w.int(0)
		}
		if s.links && f.isLink() {
			s.w.int(int32(len(f.link)))
			s.w.bytes([]byte(f.link))
		}
	}
	s.w.bytes([]byte{0})
	for _, has := range []bool{s.owner, s.group} {
		if has && !s.numeric {
			s.w.int(0)
		}
	}
	ioError := int32(0)
	if s.partial {
		ioError = 1
	}
	s.w.int(ioError)
	return s.w.flush()
}

// rules are the client's includes and excludes, the first that fits counts.
type rules []rule

type rule struct {
	include, anchored, dir bool
	pattern                string
}

// readRules reads rules up to an empty one.
func (s *session) readRules() error {
	for {
		n := s.r.int()
		if s.r.err != nil || n == 0 {
			return s.r.err
		}
		if n < 0 || n > maxRule {
			return fmt.Errorf("a filter rule of %d bytes", n)
		}
		text := string(s.r.bytes(int(n)))
		if text == "!" {
			s.rules = nil
			continue
		}
		r := rule{pattern: text}
		if rest, ok := strings.CutPrefix(text, "+ "); ok {
			r.include, r.pattern = true, rest
		} else if rest, ok := strings.CutPrefix(text, "- "); ok {
			r.pattern = rest
		}
		r.pattern, r.dir = strings.CutSuffix(r.pattern, "/")
		r.pattern, r.anchored = strings.CutPrefix(r.pattern, "/")
		s.rules = append(s.rules, r)
	}
}

// excludes is true for names that are neither sent nor deleted.
func (rs rules) excludes(name string, isDir bool) bool {
	for _, r := range rs {
		if (!r.dir || isDir) && r.fits(name) {
			return !r.include
		}
	}
	return false
}

// fits matches as rsync(1) says in PATTERN MATCHING RULES.
func (r rule) fits(name string) bool {
	if r.anchored {
		return matches(r.pattern, name)
	}
	if !strings.Contains(r.pattern, "/") && !strings.Contains(r.pattern, "**") {
		return matches(r.pattern, path.Base(name))
	}
	for { // the end of the path, from any directory on
		if matches(r.pattern, name) {
			return true
		}
		_, rest, found := strings.Cut(name, "/")
		if !found {
			return false
		}
		name = rest
	}
}

// matches is path.Match with ** for any number of directories.
func matches(pattern, name string) bool {
	before, after, found := strings.Cut(pattern, "**")
	if !found {
		ok, err := path.Match(pattern, name)
		return ok && err == nil
	}
	for i := 0; i <= len(name); i++ {
		if ok, err := path.Match(before, name[:i]); !ok || err != nil {
			continue
		}
		for j := i; j <= len(name); j++ {
			if matches(after, name[j:]) {
				return true
			}
		}
	}
	return false
}
