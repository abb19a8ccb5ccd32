package journald

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/journal/forward"
	"github.com/coracle-os/coracle/rootfs/journal/store"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

// Config is the part of journald.conf(5) that has an effect.
type Config struct {
	Storage           string        // auto, persistent, volatile or none
	System, Runtime   store.Bounds  // of the journal on disk and in memory
	RateLimitInterval time.Duration // 0 = no limit
	RateLimitBurst    int           // records of a unit in an interval
	SyncInterval      time.Duration
	MaxRetention      time.Duration // 0 = for ever
	MaxFile           time.Duration // a segment is ended when it is this old; 0 = never
	MaxLevelStore     int
	MaxLevelConsole   int
	ForwardToConsole  bool
	ReadKMsg          bool
	LineMax           int              // bytes; a longer line of a stream is cut
	Forward           []forward.Target // receivers elsewhere, in ForwardToRemote= and coracle.log=
}

// DefaultConfig is systemd's, except that the disk is synced after 10 seconds
// instead of 5 minutes: a machine whose power is cut should know why.
func DefaultConfig() Config {
	return Config{Storage: "auto", RateLimitInterval: 30 * time.Second, RateLimitBurst: 10000,
		SyncInterval: 10 * time.Second, MaxFile: month, MaxLevelStore: journal.Debug, MaxLevelConsole: journal.Info, ReadKMsg: true, LineMax: maxLine}
}

// month is systemd's: a twelfth of a year of 365.25 days.
const month = 31557600 * time.Second / 12

// LoadConfig reads journald.conf and journald.conf.d/*.conf below root.
// Problems name file and line; the other settings hold.
func LoadConfig(root string) (Config, []string) {
	config := DefaultConfig()
	var problems []string
	files := []string{filepath.Join(root, "etc/systemd/journald.conf")}
	dropIns := map[string]string{}
	for _, dir := range []string{"usr/lib", "run", "etc"} {
		matches, _ := filepath.Glob(filepath.Join(root, dir, "systemd/journald.conf.d/*.conf"))
		for _, path := range matches {
			dropIns[filepath.Base(path)] = path
		}
	}
	names := make([]string, 0, len(dropIns))
	for name := range dropIns {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		files = append(files, dropIns[name])
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err == nil {
			problems = append(problems, config.parse(path, string(text))...)
		} else if !os.IsNotExist(err) {
			problems = append(problems, fmt.Sprintf("read configuration: %v", err))
		}
	}
	return config, problems
}

func (c *Config) parse(path, text string) (problems []string) {
	section := ""
	scanner := bufio.NewScanner(strings.NewReader(text))
	for number := 1; scanner.Scan(); number++ {
		line := strings.TrimSpace(scanner.Text())
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			section = strings.Trim(line, "[]")
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || section != "Journal" {
			problems = append(problems, fmt.Sprintf("%s:%d: expected KEY=value in [Journal]; ignored", path, number))
			continue
		}
		if err := c.set(strings.TrimSpace(key), strings.TrimSpace(value)); err != nil {
			problems = append(problems, fmt.Sprintf("%s:%d: %v; ignored", path, number, err))
		}
	}
	return problems
}

func (c *Config) set(key, value string) (err error) {
	defaults := DefaultConfig()
	switch key {
	case "Storage":
		switch value {
		case "auto", "persistent", "volatile", "none":
			c.Storage = value
		case "":
			c.Storage = defaults.Storage
		default:
			return fmt.Errorf("Storage=%q: expected auto, persistent, volatile or none", value)
		}
	case "SystemMaxUse", "SystemKeepFree", "SystemMaxFileSize", "SystemMaxFiles":
		err = setBound(&c.System, strings.TrimPrefix(key, "System"), value)
	case "RuntimeMaxUse", "RuntimeKeepFree", "RuntimeMaxFileSize", "RuntimeMaxFiles":
		err = setBound(&c.Runtime, strings.TrimPrefix(key, "Runtime"), value)
	case "RateLimitIntervalSec", "RateLimitInterval":
		c.RateLimitInterval, err = parseSpan(value, defaults.RateLimitInterval)
	case "RateLimitBurst":
		c.RateLimitBurst, err = parseCount(value, defaults.RateLimitBurst)
	case "SyncIntervalSec":
		c.SyncInterval, err = parseSpan(value, defaults.SyncInterval)
	case "MaxRetentionSec":
		c.MaxRetention, err = parseSpan(value, 0)
	case "MaxFileSec":
		c.MaxFile, err = parseSpan(value, defaults.MaxFile)
	case "MaxLevelStore":
		c.MaxLevelStore, err = parseLevel(value, defaults.MaxLevelStore)
	case "MaxLevelConsole":
		c.MaxLevelConsole, err = parseLevel(value, defaults.MaxLevelConsole)
	case "ForwardToConsole":
		c.ForwardToConsole, err = parseBool(value, defaults.ForwardToConsole)
	case "ReadKMsg":
		c.ReadKMsg, err = parseBool(value, defaults.ReadKMsg)
	case "LineMax":
		c.LineMax, err = parseLine(value, defaults.LineMax)
	case "ForwardToRemote":
		if value == "" {
			c.Forward = nil
		}
		for word := range strings.FieldsSeq(value) {
			err = errors.Join(err, c.addTarget(word))
		}
	default:
		return fmt.Errorf("%s= is not supported", key)
	}
	if err != nil {
		return fmt.Errorf("%s=%q: %w", key, value, err)
	}
	return nil
}

func setBound(b *store.Bounds, key, value string) (err error) {
	switch key {
	case "MaxUse":
		b.MaxUse, err = parseSize(value)
	case "KeepFree":
		b.KeepFree, err = parseSize(value)
	case "MaxFileSize":
		b.MaxFile, err = parseSize(value)
	case "MaxFiles":
		b.MaxFiles, err = parseCount(value, 0)
	}
	return err
}

func parseCount(s string, fallback int) (int, error) {
	if s == "" {
		return fallback, nil
	}
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return fallback, errors.New("expected a number")
	}
	return int(n), nil
}

func parseLevel(s string, fallback int) (int, error) {
	if s == "" {
		return fallback, nil
	}
	n, err := journal.ParsePriority(s)
	if err != nil {
		return fallback, err
	}
	return n, nil
}

func parseBool(s string, fallback bool) (bool, error) {
	switch strings.ToLower(s) {
	case "":
		return fallback, nil
	case "1", "yes", "y", "true", "t", "on":
		return true, nil
	case "0", "no", "n", "false", "f", "off":
		return false, nil
	}
	return fallback, errors.New("expected yes or no")
}

// parseLine reads LineMax=: as in systemd 79 bytes at least, and here no more
// than a record may have.
func parseLine(s string, fallback int) (int, error) {
	n, err := parseSize(s)
	if s == "" || err != nil {
		return fallback, err
	}
	return int(min(max(n, 79), journal.MaxRecord)), nil
}

// maxAge is when a segment is ended: soon enough that its oldest record can be
// deleted when MaxRetentionSec= is over.
func (c *Config) maxAge() time.Duration {
	if c.MaxRetention > 0 && (c.MaxFile == 0 || c.MaxRetention/4 < c.MaxFile) {
		return max(c.MaxRetention/4, time.Minute)
	}
	return c.MaxFile
}

// addTarget adds a receiver, once.
func (c *Config) addTarget(word string) error {
	target, err := forward.ParseTarget(word)
	if err == nil && !slices.Contains(c.Forward, target) {
		c.Forward = append(c.Forward, target)
	}
	return err
}

// parseCommandLine adds the receivers of coracle.log= on the kernel's command
// line: what a machine logs that gets no further than its initrd's root.
func (c *Config) parseCommandLine(text string) (problems []string) {
	for word := range strings.FieldsSeq(text) {
		if value, ok := strings.CutPrefix(word, "coracle.log="); ok {
			if err := c.addTarget(value); err != nil {
				problems = append(problems, fmt.Sprintf("kernel command line: coracle.log: %v; ignored", err))
			}
		}
	}
	return problems
}

func parseSize(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := timespan.ParseSize(s)
	return int64(min(n, 1<<62)), err
}

// parseSpan reads a time span; infinity is 0, no limit.
func parseSpan(s string, fallback time.Duration) (time.Duration, error) {
	if s == "" {
		return fallback, nil
	}
	d, err := timespan.Parse(s, time.Second)
	if d == timespan.Infinity {
		d = 0
	}
	return d, err
}
