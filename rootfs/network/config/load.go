package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/syntax"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
	"github.com/coracle-os/coracle/rootfs/unit/words"
)

// directories from the strongest to the weakest, relative to the root.
var directories = []string{"etc/systemd/network", "run/systemd/network", "usr/lib/systemd/network"}

// maxFile is the size in bytes of the largest file that is read; the largest
// that anybody wrote by hand has a few thousand.
const maxFile = 1 << 20

// Load reads the files of a root directory, in the order in which they are
// tried: by name, whatever the directory. A file hides those of the same name
// in weaker directories, and an empty one is how to hide without replacing.
// Drop-ins are read from NAME.d/*.conf. Files whose conditions do not hold are
// left out.
func Load(root fs.FS, holds func([]unit.Condition) bool) (Config, []Warning) {
	l := &loader{root: root}
	var c Config
	l.each(".network", func(sources []source) []Warning {
		network, warnings := parseNetwork(sources)
		if holds(network.Match.Conditions) {
			c.Networks = append(c.Networks, network)
		}
		return warnings
	})
	l.each(".netdev", func(sources []source) []Warning {
		netdev, ok, warnings := parseNetdev(sources)
		if i := slices.IndexFunc(c.Netdevs, func(n Netdev) bool { return n.Name == netdev.Name }); ok && i >= 0 {
			warnings = append(warnings, Warning{File: netdev.File, Text: fmt.Sprintf("%s has described %q already; this file is ignored", c.Netdevs[i].File, netdev.Name)})
			return warnings
		}
		if ok && holds(netdev.Match.Conditions) {
			c.Netdevs = append(c.Netdevs, netdev)
		}
		return warnings
	})
	l.each(".link", func(sources []source) []Warning {
		link, warnings := parseLink(sources)
		if holds(link.Match.Conditions) {
			c.Links = append(c.Links, link)
		}
		return warnings
	})
	return c, l.warnings
}

type loader struct {
	root     fs.FS
	warnings []Warning
}

// each reads the files with a suffix, each with its drop-ins.
func (l *loader) each(suffix string, do func([]source) []Warning) {
	found := gather(l.root, "", suffix, &l.warnings)
	for _, name := range sorted(found) {
		text, ok := l.read(found[name])
		if !ok || len(strings.TrimSpace(string(text))) == 0 {
			continue
		}
		sources := []source{{"/" + found[name], text}}
		dropins := gather(l.root, name+".d", ".conf", &l.warnings)
		for _, dropin := range sorted(dropins) {
			if text, ok := l.read(dropins[dropin]); ok {
				sources = append(sources, source{"/" + dropins[dropin], text})
			}
		}
		l.warnings = append(l.warnings, do(sources)...)
	}
}

// read reads a file; a link to /dev/null, which hides one, is empty.
func (l *loader) read(name string) ([]byte, bool) {
	warn := func(text string) { l.warnings = append(l.warnings, Warning{File: "/" + name, Text: text}) }
	file, err := l.root.Open(name)
	if err != nil {
		warn(err.Error())
		return nil, false
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	switch {
	case err != nil:
		warn(err.Error())
		return nil, false
	case len(text) > maxFile:
		warn(fmt.Sprintf("larger than %d bytes; the file is ignored", maxFile))
		return nil, false
	}
	return text, true
}

// gather lists the files of all directories by name, the strongest of each.
func gather(root fs.FS, below, suffix string, warnings *[]Warning) map[string]string {
	found := map[string]string{}
	for _, directory := range directories {
		directory = path.Join(directory, below)
		entries, err := fs.ReadDir(root, directory)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				*warnings = append(*warnings, Warning{File: "/" + directory, Text: err.Error()})
			}
			continue
		}
		for _, entry := range entries {
			if strings.HasSuffix(entry.Name(), suffix) && found[entry.Name()] == "" {
				found[entry.Name()] = path.Join(directory, entry.Name())
			}
		}
	}
	return found
}

func sorted(found map[string]string) []string {
	var names []string
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// LoadTime reads timesyncd.conf of /usr/lib, /run and /etc, the later over the
// earlier.
func LoadTime(root fs.FS) (Time, []Warning) {
	conf := Time{PollMin: 32 * time.Second, PollMax: 2048 * time.Second}
	var warnings []Warning
	for _, file := range []string{"usr/lib/systemd/timesyncd.conf", "run/systemd/timesyncd.conf", "etc/systemd/timesyncd.conf"} {
		text, err := fs.ReadFile(root, file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		warn := func(line int, format string, args ...any) {
			warnings = append(warnings, Warning{File: "/" + file, Line: line, Text: fmt.Sprintf(format, args...)})
		}
		if err != nil {
			warn(0, "%v", err)
			continue
		}
		parsed, err := syntax.Parse(text, []string{"Time"})
		for _, warning := range parsed.Warnings {
			warn(warning.Line, "%s", warning.Text)
		}
		if err != nil {
			warn(0, "%v", err)
			continue
		}
		for _, assignment := range parsed.Assignments {
			if err := conf.set(assignment.Key, assignment.Value); err != nil {
				warn(assignment.Line, "%s=: %v", assignment.Key, err)
			}
		}
	}
	return conf, warnings
}

func (t *Time) set(key, value string) error {
	servers := func(target *[]string) error {
		if value == "" {
			*target = nil
			return nil
		}
		var problem error
		for _, word := range words.SplitRelaxed(value) {
			if _, err := server(word); err != nil {
				problem = err
				continue
			}
			*target = append(*target, word)
		}
		return problem
	}
	interval := func(target *time.Duration) error {
		span, err := timespan.Parse(value, time.Second)
		if err != nil || span < 16*time.Second {
			return fmt.Errorf("%q is not a time of at least 16 s", value)
		}
		*target = span
		return nil
	}
	switch key {
	case "NTP":
		return servers(&t.Servers)
	case "FallbackNTP":
		return servers(&t.Fallback)
	case "PollIntervalMinSec":
		return interval(&t.PollMin)
	case "PollIntervalMaxSec":
		return interval(&t.PollMax)
	}
	return errors.New("not supported")
}
