// Package execcontext turns the execution settings of a unit and one of its
// commands into a process to spawn: environment, user, directories, limits and
// standard streams; systemd.exec(5). It is used by PID 1.
//
// A command's environment is made anew for every command, environment files
// included, because an ExecStartPre= may write them. What the process sees of
// the machine is planned here and done by rootfs/sandbox.
package execcontext

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/coracle-os/coracle/rootfs/spawn"
	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/envfile"
)

// System is the machine that commands run on.
type System struct {
	Root          string   // prefix of every path that this package itself touches; "" on a machine
	JournalSocket string   // the journal's stream socket
	Console       string   // the console's device
	NotifySocket  string   // the value of $NOTIFY_SOCKET
	Inherited     []string // PID 1's own environment, for PassEnvironment=
	Defaults      []string // what every command gets, such as LANG
}

// Request is one command to prepare.
type Request struct {
	Unit    string
	Command unit.Command
	Context *unit.ExecContext
	Extra   []string // variables that only the caller knows: MAINPID, INVOCATION_ID, ...
	AsRoot  bool     // User= and Group= do not count (PermissionsStartOnly=)
	Notify  bool     // pass $NOTIFY_SOCKET
	// WholeRoot says that RootDirectory= does not count (RootDirectoryStartOnly=).
	WholeRoot bool
	Passed    []int    // listening descriptors
	Names     []string // their names
	Socket    int      // the connection, for StandardInput=socket; -1: none
	TmpOf     string   // the unit whose private /tmp it has; "": its own
	Shutdown  bool     // the journal may be gone; do not insist
}

// Prepared is a process ready to be spawned. Close releases the descriptors
// that were opened for it, after the start.
type Prepared struct {
	Spec spawn.Spec
	open []int
}

// Prepare resolves a request. An *spawn.Error says with which status the
// command counts as ended; any other error means that it cannot be made
// (result "resources"), such as a missing environment file.
func (sys System) Prepare(r Request) (*Prepared, error) {
	c := r.Context
	p := &Prepared{Spec: spawn.Spec{Umask: c.UMask, Limits: c.Limits, Nice: c.Nice, OOMScoreAdjust: c.OOMScoreAdjust,
		NoNewPrivs: c.NoNewPrivileges, Scheduling: c.Scheduling, DefaultSIGPIPE: !c.IgnoreSIGPIPE, Cgroup: -1, Passed: r.Passed,
		Streams: [3]int{-1, -1, -1}, DirOptional: c.WorkingDirectoryOptional}}
	files, err := sys.environmentFiles(c.EnvironmentFiles)
	if err != nil {
		return nil, err
	}
	who, err := sys.identity(r)
	if err != nil {
		return nil, err
	}
	p.Spec.User = who.credential
	if p.Spec.Sandbox, err = sys.sandbox(r); err != nil {
		return nil, err
	}
	if !r.WholeRoot {
		p.Spec.Root = c.RootDirectory
	}
	if p.Spec.Dir, err = sys.directory(c, who); err != nil {
		return nil, err
	}
	searched := unit.DefaultPATH
	if len(c.SearchPath) > 0 {
		searched = strings.Join(c.SearchPath, ":")
	}
	env := slices.Concat([]string{"PATH=" + searched}, sys.Defaults, who.env(), r.Extra, sys.listenEnv(r))
	dirs, err := sys.makeDirectories(c, who)
	if err != nil {
		return nil, err
	}
	env = append(env, dirs...)
	secrets, err := sys.makeCredentials(r, who)
	if err != nil {
		return nil, err
	}
	env = append(env, secrets...)
	stream, err := sys.openStreams(p, r)
	if err != nil {
		p.Close()
		return nil, err
	}
	env = append(env, stream...)
	env = slices.Concat(env, sys.passed(c.PassEnvironment), c.Environment, files)
	p.Spec.Env = merge(env, c.UnsetEnvironment)
	if p.Spec.Path, err = resolve(r.Command.Path, c.SearchPath); err != nil {
		p.Close()
		return nil, err
	}
	p.Spec.Args = r.Command.Expand(p.Spec.Env)
	return p, nil
}

// Close releases what was opened for the process.
func (p *Prepared) Close() {
	for _, fd := range p.open {
		closeFD(fd)
	}
	p.open = nil
}

// Resolve returns the absolute path of a program named without "/", searched
// as systemd does.
func Resolve(path string) (string, error) { return resolve(path, nil) }

func resolve(path string, dirs []string) (string, error) {
	if len(dirs) == 0 {
		dirs = unit.SearchPath
	}
	if strings.Contains(path, "/") {
		return path, nil
	}
	for _, dir := range dirs {
		full := filepath.Join(dir, path)
		if info, err := os.Stat(full); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return full, nil
		}
	}
	return "", &spawn.Error{Status: spawn.StatusExec, Err: fmt.Errorf("find the program %q in %s: %w", path, strings.Join(dirs, ":"), os.ErrNotExist)}
}

// listenEnv returns the variables of passed descriptors and notifications.
func (sys System) listenEnv(r Request) []string {
	var env []string
	if r.Notify {
		env = append(env, "NOTIFY_SOCKET="+sys.NotifySocket)
	}
	if len(r.Passed) > 0 {
		env = append(env, "LISTEN_FDS="+strconv.Itoa(len(r.Passed)), "LISTEN_FDNAMES="+strings.Join(r.Names, ":"))
	}
	return env
}

func (sys System) passed(names []string) []string {
	var env []string
	for _, e := range sys.Inherited {
		if name, _, ok := strings.Cut(e, "="); ok && slices.Contains(names, name) {
			env = append(env, e)
		}
	}
	return env
}

// environmentFiles reads the files in order; each may be a glob.
func (sys System) environmentFiles(list []unit.EnvironmentFile) ([]string, error) {
	var env []string
	for _, f := range list {
		paths, err := filepath.Glob(filepath.Join(sys.Root, f.Path))
		if err == nil && len(paths) == 0 {
			err = os.ErrNotExist
		}
		for _, path := range paths {
			var b []byte
			if b, err = os.ReadFile(path); err != nil {
				break
			}
			env = append(env, envfile.Parse(b)...)
		}
		if err != nil && !f.Optional {
			return nil, fmt.Errorf("load the environment file %q: %w: create it, or write EnvironmentFile=-%s if it may be missing", f.Path, err, f.Path)
		}
	}
	return env, nil
}

// merge keeps the last value of each variable, in the place of the first, and
// drops those of unset: NAME, or NAME=value for that value only.
func merge(env, unset []string) []string {
	at := map[string]int{}
	var out []string
	for _, e := range env {
		name, _, ok := strings.Cut(e, "=")
		if !ok {
			continue
		}
		if i, seen := at[name]; seen {
			out[i] = e
			continue
		}
		at[name] = len(out)
		out = append(out, e)
	}
	return slices.DeleteFunc(out, func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.Contains(unset, name) || slices.Contains(unset, e)
	})
}

// directory returns the directory that the command starts in.
func (sys System) directory(c *unit.ExecContext, who identity) (string, error) {
	if c.WorkingDirectory != "~" {
		return c.WorkingDirectory, nil
	}
	if who.home == "" {
		return "", &spawn.Error{Status: spawn.StatusChdir, Err: errors.New("WorkingDirectory=~ needs User=")}
	}
	return who.home, nil
}
