package early

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// confDirs are where configuration is looked for; a file in an earlier one
// hides those of the same name in later ones.
func confDirs(kind string) []string {
	return []string{"etc/" + kind, "run/" + kind, "usr/local/lib/" + kind, "usr/lib/" + kind}
}

// ConfFiles returns the *.conf files of kind ("sysctl.d") below root in the
// order in which they count: by name, whatever their directory.
func ConfFiles(root, kind string) []string {
	byName := map[string]string{}
	for _, dir := range confDirs(kind) {
		files, _ := filepath.Glob(filepath.Join(root, dir, "*.conf"))
		for _, f := range files {
			if _, seen := byName[filepath.Base(f)]; !seen {
				byName[filepath.Base(f)] = f
			}
		}
	}
	names := make([]string, 0, len(byName))
	for n := range byName {
		names = append(names, n)
	}
	slices.Sort(names)
	var out []string
	for _, n := range names {
		if to, err := os.Readlink(byName[n]); err == nil && to == "/dev/null" {
			continue
		}
		out = append(out, byName[n])
	}
	return out
}

// Sysctl applies sysctl.d(5) and /etc/sysctl.conf below root to the parameters
// below proc. Every error is a line of its own; the other lines still count.
func Sysctl(root, proc string) error {
	var errs []error
	files := ConfFiles(root, "sysctl.d")
	if f := filepath.Join(root, "etc/sysctl.conf"); exists(f) {
		files = append(files, f)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		n := 0
		for line := range strings.Lines(string(b)) {
			n++
			if err := sysctlLine(proc, strings.TrimSpace(line)); err != nil {
				errs = append(errs, fmt.Errorf("%s:%d: %w", f, n, err))
			}
		}
	}
	return errors.Join(errs...)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// sysctlLine applies "key = value"; "-key" may fail.
func sysctlLine(proc, line string) error {
	if line == "" || line[0] == '#' || line[0] == ';' {
		return nil
	}
	key, value, ok := strings.Cut(line, "=")
	optional := strings.HasPrefix(key, "-")
	key = strings.TrimSpace(strings.TrimPrefix(key, "-"))
	if !ok {
		if optional { // "-key" alone keeps a glob from setting it
			return nil
		}
		return fmt.Errorf("no \"=\" in %q: write key = value", line)
	}
	paths, err := filepath.Glob(filepath.Join(proc, "sys", sysctlPath(key)))
	if err == nil && len(paths) == 0 && !strings.ContainsAny(key, "*?[") {
		err = fmt.Errorf("the kernel has no parameter %q", key)
	}
	errs := []error{err}
	for _, p := range paths {
		errs = append(errs, os.WriteFile(p, []byte(strings.TrimSpace(value)+"\n"), 0))
	}
	if optional {
		return nil
	}
	return errors.Join(errs...)
}

// sysctlPath turns a key into a path: the first separator decides whether "."
// or "/" separates, and the other one then stands for itself swapped.
func sysctlPath(key string) string {
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '.' {
		return strings.Map(func(r rune) rune {
			switch r {
			case '.':
				return '/'
			case '/':
				return '.'
			}
			return r
		}, key)
	}
	return key
}
