// Package rsync is the far end of rsync(1): the program that a person's rsync
// starts over SSH (`rsync --server ...`) to copy a tree to the machine, or from
// it. Vagrant's rsync folders need it; so does `rsync -a site/ core@machine:`.
//
// It speaks version 27 of the protocol, which every rsync since 2003 does and
// which macOS's has too, and copies each changed file as a whole: what differs
// inside of a file is not looked for. The tree is given up to its client: names
// that lead out of the destination are refused (os.Root), files are replaced by
// renaming, so that none is ever half there.
//
// Why ours: Debian's rsync needs OpenSSL, 6 MB in all; this is 0.16 MB. There is no
// specification: the wire is as rsync 3 has it, which is the oracle in the tests.
// Left out on purpose: the local side (copying is started from elsewhere), the
// daemon, deltas, hard links, ACLs, extended attributes, devices, sparse files,
// and filter rules beyond include and exclude; an option that would need them is
// refused.
package rsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/program"
)

// version is the protocol's that we speak, oldest the least that a client may.
const (
	version    = 27
	oldest     = 27
	exitUsage  = 1
	exitSyntax = 12 // the client does not speak as it should
	exitPart   = 23 // some files could not be copied
)

// Main runs the program rsync.
func Main(_ context.Context, args []string, stdio program.Stdio) int {
	o, err := parse(args[1:])
	if err != nil {
		fmt.Fprintf(stdio.Err, "rsync: %v\n", err)
		return exitUsage
	}
	code, err := serve(o, stdio.In, stdio.Out, uint32(time.Now().Unix()))
	if err != nil {
		fmt.Fprintf(stdio.Err, "rsync: %v\n", err)
	}
	return code
}

// options are what the client asks for.
type options struct {
	sender, recurse, links, copyLinks, owner, group, perms, times, compress bool
	remove, removeExcluded, numeric, dryRun, update, always, devices        bool
	ignoreErrors                                                            bool
	paths                                                                   []string
}

var errUsage = errors.New("only the far end is here: start rsync on your computer, as `rsync -a FOLDER/ core@MACHINE:FOLDER`")

// parse reads the arguments that a client's rsync makes.
func parse(args []string) (o options, err error) {
	flags := map[rune]*bool{
		'r': &o.recurse, 'l': &o.links, 'L': &o.copyLinks, 'o': &o.owner, 'g': &o.group, 'p': &o.perms, 't': &o.times,
		'z': &o.compress, 'n': &o.dryRun, 'u': &o.update, 'I': &o.always, 'D': &o.devices,
		'v': new(bool), 'q': new(bool), 'W': new(bool), 'O': new(bool), 'd': new(bool),
	}
	long := map[string]*bool{
		"--sender": &o.sender, "--delete": &o.remove, "--delete-before": &o.remove, "--delete-during": &o.remove,
		"--delete-after": &o.remove, "--delete-delay": &o.remove, "--delete-excluded": &o.removeExcluded,
		"--numeric-ids": &o.numeric, "--ignore-errors": &o.ignoreErrors, "--force": new(bool), "--no-implied-dirs": new(bool),
		"--old-compress": &o.compress, "--stats": new(bool), "--whole-file": new(bool), "--no-whole-file": new(bool),
	}
	if len(args) == 0 || args[0] != "--server" {
		return o, errUsage
	}
	for i, arg := range args[1:] {
		switch {
		case arg == ".":
			o.paths = args[i+2:]
			o.remove = o.remove || o.removeExcluded
			if len(o.paths) == 0 || !o.sender && len(o.paths) > 1 {
				return o, fmt.Errorf("want a path after %q", arg)
			}
			return o, nil
		case strings.HasPrefix(arg, "--"):
			name, _, _ := strings.Cut(arg, "=")
			flag, ok := long[name]
			if !ok && name != "--log-format" && name != "--timeout" {
				return o, fmt.Errorf("the option %s is not supported by this rsync; leave it out", name)
			}
			if ok {
				*flag = true
			}
		case strings.HasPrefix(arg, "-"):
			for _, letter := range arg[1:] {
				if letter == 'e' { // the rest says what the client could do in later versions
					break
				}
				flag, ok := flags[letter]
				if !ok {
					return o, fmt.Errorf("the option -%c is not supported by this rsync; leave it out", letter)
				}
				*flag = true
			}
		default:
			return o, fmt.Errorf("argument %q is not understood", arg)
		}
	}
	return o, errors.New("want a path")
}

// session is one client.
type session struct {
	options
	r       *reader
	w       *writer
	seed    uint32
	rules   rules
	partial bool // something was not copied, and was told
}

// serve talks to a client and returns the exit code.
func serve(o options, in io.Reader, out io.Writer, seed uint32) (code int, err error) {
	s := &session{options: o, r: newReader(in), w: &writer{out: out}, seed: seed}
	s.w.int(version)
	if err := s.w.plain(); err != nil {
		return exitSyntax, err
	}
	if theirs := s.r.int(); s.r.err != nil || theirs < oldest || theirs > 255 {
		return exitSyntax, fmt.Errorf("the client says version %d of the protocol; want %d or later: something printed to its output before, or it is no rsync", theirs, oldest)
	}
	s.w.int(int32(seed))
	if err := s.w.plain(); err != nil {
		return exitSyntax, err
	}
	if o.sender {
		err = s.send()
	} else {
		err = s.receive()
	}
	if err == nil {
		err = s.w.flush()
	}
	switch {
	case err != nil:
		s.tell("%v", err)
		_ = s.w.flush()
		return exitSyntax, err
	case s.partial:
		return exitPart, nil
	}
	return 0, nil
}

// tell has the client print that something was not copied.
func (s *session) tell(format string, args ...any) {
	s.partial = true
	s.w.message(messageError, []byte("rsync: "+fmt.Sprintf(format, args...)+"\n"))
}

// isGone is true for what went away while it was looked at.
func isGone(err error) bool { return errors.Is(err, os.ErrNotExist) }
