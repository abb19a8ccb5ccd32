// Package modprobe is the command modprobe(8): it loads and removes kernel
// modules by name or alias. The kernel itself calls it by the path in
// /proc/sys/kernel/modprobe when it needs one, such as an nftables expression;
// people and scripts call it by hand.
//
// Debian's program is not used because it brings OpenSSL with it, 6.5 MB for
// printing signatures. Dependencies (modules.dep), decompression and the system
// calls are u-root's pkg/kmodule; aliases (modules.alias) are looked up here, as
// that package does not know them. Left out on purpose: modprobe.d with its
// options, blacklists and install commands, and soft dependencies.
package modprobe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/u-root/u-root/pkg/kmodule"
	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/program"
)

// options are the flags of one call.
type options struct {
	quiet, all, remove, dryRun, verbose bool
	names                               []string
	params                              string // for the module, when there is one name
}

// Main is the command.
func Main(_ context.Context, args []string, stdio program.Stdio) int {
	o, err := parse(args[1:])
	if err == nil {
		err = o.run(stdio.Out)
	}
	if err != nil {
		if !o.quiet {
			fmt.Fprintf(stdio.Err, "modprobe: %v\n", err)
		}
		return 1
	}
	return 0
}

// parse reads the arguments; single letters can stand together.
func parse(args []string) (options, error) {
	var o options
	long := map[string]*bool{
		"--quiet": &o.quiet, "--all": &o.all, "--remove": &o.remove, "--dry-run": &o.dryRun, "--show": &o.dryRun,
		"--verbose": &o.verbose, "--use-blacklist": new(bool), "--force": new(bool),
	}
	short := map[rune]*bool{
		'q': &o.quiet, 'a': &o.all, 'r': &o.remove, 'n': &o.dryRun, 'v': &o.verbose, 'b': new(bool), 'f': new(bool), 's': new(bool),
	}
	var words []string
	for i, arg := range args {
		if arg == "--" {
			words = append(words, args[i+1:]...)
			break
		}
		switch {
		case strings.HasPrefix(arg, "--"):
			flag, ok := long[arg]
			if !ok {
				return o, fmt.Errorf("unknown option %q", arg)
			}
			*flag = true
		case strings.HasPrefix(arg, "-") && len(arg) > 1:
			for _, letter := range arg[1:] {
				flag, ok := short[letter]
				if !ok {
					return o, fmt.Errorf("unknown option -%c", letter)
				}
				*flag = true
			}
		default:
			words = append(words, arg)
		}
	}
	if len(words) == 0 {
		return o, errors.New("want the name of a module: modprobe [-qarnv] NAME [PARAMETER=VALUE...]")
	}
	o.names = words
	if !o.all && !o.remove {
		o.names, o.params = words[:1], strings.Join(words[1:], " ")
	}
	return o, nil
}

func (o options) run(out io.Writer) error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fmt.Errorf("ask for the kernel release: %w", err)
	}
	release := unix.ByteSliceToString(name.Release[:])
	prober, err := kmodule.NewProber(kmodule.ProbeOpts{KVer: release, DryRunCB: o.dryRunner(out)})
	if err != nil {
		return fmt.Errorf("read the index of the modules of kernel %s: %w", release, err)
	}
	var problems []error
	for _, name := range o.names {
		modules, err := Find(filepath.Join("/lib/modules", release, "modules.alias"), name)
		if err != nil {
			return err
		}
		for _, module := range modules {
			if o.verbose && !o.dryRun {
				fmt.Fprintln(out, module)
			}
			if err := o.apply(prober, module); err != nil {
				problems = append(problems, err)
			}
		}
	}
	return errors.Join(problems...)
}

// dryRunner returns what prints a module in place of loading it, or nil.
func (o options) dryRunner(out io.Writer) func(string) {
	if !o.dryRun {
		return nil
	}
	return func(module string) { fmt.Fprintln(out, "insmod", module) }
}

func (o options) apply(prober *kmodule.Prober, module string) error {
	if o.remove {
		if o.dryRun {
			return nil
		}
		if err := kmodule.Delete(strings.ReplaceAll(module, "-", "_"), unix.O_NONBLOCK); err != nil {
			return fmt.Errorf("remove %s: %w", module, err)
		}
		return nil
	}
	if err := prober.Probe(module, o.params); err != nil {
		return fmt.Errorf("load %s: %w", module, err)
	}
	return nil
}

// Find returns the modules that name stands for: those that the alias file
// gives for it, or else the name itself. A missing file has no aliases.
func Find(aliasFile, name string) ([]string, error) {
	file, err := os.Open(aliasFile)
	if errors.Is(err, fs.ErrNotExist) {
		return []string{name}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read module aliases: %w", err)
	}
	defer file.Close()
	modules, err := match(file, name)
	if err != nil {
		return nil, fmt.Errorf("read module aliases: %w", err)
	}
	if len(modules) == 0 {
		return []string{name}, nil
	}
	return modules, nil
}

// match returns the modules of all "alias PATTERN MODULE" lines that fit name,
// each once. In names of modules - and _ are the same.
func match(aliases io.Reader, name string) ([]string, error) {
	name = strings.ReplaceAll(name, "-", "_")
	var modules []string
	seen := map[string]bool{}
	scanner := bufio.NewScanner(aliases)
	for scanner.Scan() {
		fields := strings.Fields(scanner.Text())
		if len(fields) != 3 || fields[0] != "alias" || seen[fields[2]] {
			continue
		}
		// A slash is an ordinary letter here, but not to path.Match.
		pattern := strings.NewReplacer("-", "_", "/", "\x01").Replace(outside(fields[1]))
		if ok, err := path.Match(pattern, strings.ReplaceAll(name, "/", "\x01")); ok && err == nil {
			seen[fields[2]] = true
			modules = append(modules, fields[2])
		}
	}
	return modules, scanner.Err()
}

// outside protects the - of ranges such as [0-9] from becoming _.
func outside(pattern string) string {
	if !strings.Contains(pattern, "[") {
		return pattern
	}
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		end := strings.IndexByte(pattern[i:], ']')
		if pattern[i] != '[' || end < 0 {
			b.WriteByte(pattern[i])
			continue
		}
		set := pattern[i+1 : i+end]
		b.WriteString("[" + expand(set) + "]")
		i += end
	}
	return b.String()
}

// expand writes the ranges of a set out: 0-3 is 0123.
func expand(set string) string {
	var b strings.Builder
	for i := 0; i < len(set); i++ {
		if i+2 < len(set) && set[i+1] == '-' {
			for c := int(set[i]); c <= int(set[i+2]); c++ {
				b.WriteByte(byte(c))
			}
			i += 2
			continue
		}
		b.WriteByte(set[i])
	}
	return b.String()
}
