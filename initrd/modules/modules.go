// Package modules loads kernel modules for stage 1: those that stage 1 names,
// and the drivers of the hardware that is found, by the modalias of each
// device (modules.alias of depmod(8)).
//
// Dependencies (modules.dep), decompression and the system call are u-root's
// pkg/kmodule. Left out on purpose: blacklists, install commands, options and
// soft dependencies; nothing that an initrd of ours carries needs them.
package modules

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/u-root/u-root/pkg/kmodule"
	"golang.org/x/sys/unix"
)

// Loader loads modules of one directory. It may be used from several
// goroutines at once.
type Loader struct {
	// Async has drivers that are found by alias look for their devices while
	// the boot goes on: LoadFor returns before they have found any, and the
	// devices announce themselves by uevents. A SATA controller alone takes
	// half a second to see that nothing is plugged in.
	Async bool

	aliases Aliases
	probe   func(module, parameters string) error

	mu    sync.Mutex
	tried map[string]bool // by module name, those found by alias
}

// New reads the indexes of the running kernel's modules in
// root/lib/modules/<release>. A missing modules.alias means that no hardware
// is found, a missing modules.dep is an error.
func New(root string) (*Loader, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return nil, fmt.Errorf("ask for the kernel release: %w", err)
	}
	release := unix.ByteSliceToString(name.Release[:])
	directory := filepath.Join(root, "lib/modules", release)
	if _, err := os.Stat(directory); err != nil {
		directory = filepath.Join(root, "usr/lib/modules", release)
	}
	prober, err := kmodule.NewProber(kmodule.ProbeOpts{RootDir: root, KVer: release})
	if err != nil {
		return nil, fmt.Errorf("find the modules of kernel %s in %s: %w: kernel and initrd must come from the same build", release, directory, err)
	}
	loader := &Loader{
		probe: prober.Probe,
		tried: map[string]bool{},
	}
	file, err := os.Open(filepath.Join(directory, "modules.alias"))
	if errors.Is(err, fs.ErrNotExist) {
		return loader, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read module aliases: %w", err)
	}
	defer file.Close()
	if loader.aliases, err = ParseAliases(file); err != nil {
		return nil, fmt.Errorf("read module aliases: %w", err)
	}
	return loader, nil
}

// Load loads a module and what it depends on. A module that is loaded or built
// in is no error.
func (l *Loader) Load(module string) error { return l.load(module, "") }

func (l *Loader) load(module, parameters string) error {
	if err := l.probe(module, parameters); err != nil {
		return fmt.Errorf("load kernel module %q: %w", module, err)
	}
	return nil
}

// LoadFor loads the modules for a device with the alias, each at most once in
// the life of the loader. It returns the names of those that it loaded now;
// the error joins what went wrong.
func (l *Loader) LoadFor(modalias string) (loaded []string, err error) {
	parameters := ""
	if l.Async {
		parameters = "async_probe" // the kernel's own, for every module
	}
	var problems []error
	for _, module := range l.aliases.Match(modalias) {
		l.mu.Lock()
		known := l.tried[module]
		l.tried[module] = true
		l.mu.Unlock()
		if known {
			continue
		}
		if err := l.load(module, parameters); err != nil {
			// A driver that finds out that it is not for this device after all.
			if !errors.Is(err, unix.ENODEV) {
				problems = append(problems, err)
			}
			continue
		}
		loaded = append(loaded, module)
	}
	return loaded, errors.Join(problems...)
}

// LoadForAll loads the modules for every device on every bus below
// sys/bus. Buses that a loaded module adds announce their devices by uevents.
func (l *Loader) LoadForAll(sys string) (loaded []string, err error) {
	files, err := filepath.Glob(filepath.Join(sys, "bus/*/devices/*/modalias"))
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	var problems []error
	for _, file := range files {
		alias, err := os.ReadFile(file)
		if err != nil {
			continue // the device went away, or has none after all
		}
		more, err := l.LoadFor(strings.TrimSpace(string(alias)))
		loaded = append(loaded, more...)
		if err != nil {
			problems = append(problems, err)
		}
	}
	return loaded, errors.Join(problems...)
}

// Aliases maps device patterns to modules, by the bus in front of the colon.
type Aliases map[string][]alias

type alias struct{ pattern, module string }

// ParseAliases reads modules.alias: lines "alias PATTERN MODULE".
func ParseAliases(r io.Reader) (Aliases, error) {
	aliases := Aliases{}
	scanner := bufio.NewScanner(r)
	for scanner.Scan() {
		fields := strings.Fields(scanner.Text())
		if len(fields) != 3 || fields[0] != "alias" {
			continue
		}
		bus, _, isDevice := strings.Cut(fields[1], ":")
		if !isDevice {
			continue // a file system, a cipher, another name of the module
		}
		aliases[bus] = append(aliases[bus], alias{pattern: fields[1], module: fields[2]})
	}
	return aliases, scanner.Err()
}

// Match gives the modules for a device, in the order of the file, each once.
func (a Aliases) Match(modalias string) []string {
	bus, _, _ := strings.Cut(modalias, ":")
	var modules []string
	seen := map[string]bool{}
	for _, alias := range a[bus] {
		if !seen[alias.module] && match(alias.pattern, modalias) {
			seen[alias.module] = true
			modules = append(modules, alias.module)
		}
	}
	return modules
}

// match is fnmatch(3) without flags. The standard library's path.Match is not
// the same: its "*" stops at a slash, which some buses have in their aliases.
func match(pattern, name string) bool {
	// Where to go on when the part after the last star does not fit.
	starPattern, starName := -1, 0
	p, n := 0, 0
	for n < len(name) {
		if p < len(pattern) && pattern[p] == '*' {
			starPattern, starName = p, n
			p++
			continue
		}
		if width := matchByte(pattern[p:], name[n]); width > 0 {
			p, n = p+width, n+1
			continue
		}
		if starPattern < 0 {
			return false
		}
		starName++
		p, n = starPattern+1, starName
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// matchByte gives the length of the pattern's first element if it fits c, and
// 0 if it does not.
func matchByte(pattern string, c byte) int {
	if pattern == "" {
		return 0
	}
	switch pattern[0] {
	case '?':
		return 1
	case '[':
		end := strings.IndexByte(pattern, ']')
		if end < 0 {
			break
		}
		set := pattern[1:end]
		for i := 0; i < len(set); i++ {
			low, high := set[i], set[i]
			if i+2 < len(set) && set[i+1] == '-' {
				high = set[i+2]
				i += 2
			}
			if low <= c && c <= high {
				return end + 1
			}
		}
		return 0
	}
	if pattern[0] == c {
		return 1
	}
	return 0
}
