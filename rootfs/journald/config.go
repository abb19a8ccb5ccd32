package journald

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

// Config is the part of journald.conf(5) that has an effect.
type Config struct {
	Storage           string        // auto, persistent, volatile or none
	SystemMaxUse      int64         // bytes, 0 = 10 % of the file system
	RuntimeMaxUse     int64         // the same for /run
	RateLimitInterval time.Duration // 0 = no limit
	RateLimitBurst    int           // records of a unit in an interval
	SyncInterval      time.Duration
	MaxRetention      time.Duration // 0 = for ever
	MaxLevelStore     int
	ForwardToConsole  bool
}

// DefaultConfig is systemd's, except that the disk is synced after 10 seconds
// instead of 5 minutes: a machine whose power is cut should know why.
func DefaultConfig() Config {
	return Config{Storage: "auto", RateLimitInterval: 30 * time.Second, RateLimitBurst: 10000,
		SyncInterval: 10 * time.Second, MaxLevelStore: 7}
}

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
	case "SystemMaxUse":
		c.SystemMaxUse, err = parseSize(value)
	case "RuntimeMaxUse":
		c.RuntimeMaxUse, err = parseSize(value)
	case "RateLimitIntervalSec", "RateLimitInterval":
		c.RateLimitInterval, err = parseSpan(value, defaults.RateLimitInterval)
	case "RateLimitBurst":
		c.RateLimitBurst, err = strconv.Atoi(value)
	case "SyncIntervalSec":
		c.SyncInterval, err = parseSpan(value, defaults.SyncInterval)
	case "MaxRetentionSec":
		c.MaxRetention, err = parseSpan(value, 0)
	case "MaxLevelStore":
		c.MaxLevelStore, err = journal.ParsePriority(value)
	case "ForwardToConsole":
		c.ForwardToConsole = value == "yes" || value == "true" || value == "1" || value == "on"
	default:
		return fmt.Errorf("%s= is not supported", key)
	}
	if err != nil {
		return fmt.Errorf("%s=%q: %w", key, value, err)
	}
	return nil
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
