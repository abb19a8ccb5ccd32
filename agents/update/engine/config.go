package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/agents/update/fetch"
)

// Files with settings below the root; later ones win.
var confFiles = []string{"usr/share/coracle/update.conf", "usr/share/coreos/update.conf", "etc/coreos/update.conf"}

// rootFiles are where trust starts, below the root; the first that is there.
var rootFiles = []string{"etc/coracle/tuf/root.json", "usr/share/coracle/tuf/root.json"}

// Config is what the engine is told.
type Config struct {
	Channel  string        // GROUP
	Servers  []string      // SERVER: addresses of mirrors, with commas between
	Interval time.Duration // CHECK_INTERVAL between checks; 1 h
	Rate     int           // DOWNLOAD_RATE in bytes a second, with K or M; 0 is no limit
	Root     []byte        // trusted root metadata; nil when there is none
}

// ReadConfig reads the files below root, and then variables of the environment
// with UPDATE_ENGINE_ before the same names.
func ReadConfig(root string, environ []string) (Config, error) {
	values := map[string]string{"GROUP": "stable", "CHECK_INTERVAL": "1h"}
	for _, name := range confFiles {
		text, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Config{}, fmt.Errorf("read update settings: %w", err)
		}
		for line := range strings.Lines(string(text)) {
			name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
			if ok && !strings.HasPrefix(name, "#") {
				values[strings.TrimSpace(name)] = strings.Trim(strings.TrimSpace(value), `"'`)
			}
		}
	}
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		if name, ok := strings.CutPrefix(name, "UPDATE_ENGINE_"); ok {
			values[name] = value
		}
	}
	c := Config{Channel: values["GROUP"]}
	for s := range strings.FieldsFuncSeq(values["SERVER"], func(r rune) bool { return r == ',' || r == ' ' }) {
		c.Servers = append(c.Servers, s)
	}
	var err error
	if c.Interval, err = time.ParseDuration(values["CHECK_INTERVAL"]); err != nil || c.Interval < time.Second {
		return Config{}, fmt.Errorf("update settings: CHECK_INTERVAL=%q is not a time of at least 1s, such as 1h; mend /etc/coreos/update.conf", values["CHECK_INTERVAL"])
	}
	if c.Rate, err = parseRate(values["DOWNLOAD_RATE"]); err != nil {
		return Config{}, fmt.Errorf("update settings: DOWNLOAD_RATE: %w; mend /etc/coreos/update.conf", err)
	}
	for _, name := range rootFiles {
		if c.Root, err = os.ReadFile(filepath.Join(root, name)); err == nil {
			return c, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return Config{}, fmt.Errorf("read trusted root metadata: %w", err)
		}
	}
	return c, nil
}

func parseRate(s string) (int, error) {
	if s == "" {
		return 0, nil
	}
	factor := 1
	if n, ok := strings.CutSuffix(s, "K"); ok {
		s, factor = n, 1<<10
	} else if n, ok := strings.CutSuffix(s, "M"); ok {
		s, factor = n, 1<<20
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > 1<<20 && factor > 1 {
		return 0, fmt.Errorf("%q is not a number of bytes a second, such as 500K or 2M", s)
	}
	return n * factor, nil
}

// Why says why the engine does nothing, or "".
func (c Config) Why() string {
	switch {
	case len(c.Servers) == 0:
		return "no update server is configured; set SERVER= in /etc/coreos/update.conf, or coreos.update.server in the cloud-config"
	case c.Root == nil:
		return "there is no trusted root metadata; put the publisher's root.json at /etc/coracle/tuf/root.json"
	}
	return ""
}

// Mirrors are the servers.
func (c Config) Mirrors() ([]fetch.Mirror, error) {
	client := fetch.NewClient()
	var mirrors []fetch.Mirror
	for _, s := range c.Servers {
		u, err := url.Parse(s)
		switch {
		case err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
			mirrors = append(mirrors, fetch.HTTP{Base: u, Client: client})
		case err == nil && u.Scheme == "file" && u.Host == "" && u.Path != "":
			mirrors = append(mirrors, fetch.FS{FS: os.DirFS(u.Path), Label: s})
		default:
			return nil, fmt.Errorf("update settings: SERVER=%q is not an address such as https://updates.example.com/coracle", s)
		}
	}
	return mirrors, nil
}

// SetChannel writes GROUP into etc/coreos/update.conf below root.
func SetChannel(root, channel string) error {
	file := filepath.Join(root, confFiles[2])
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set channel: %w", err)
	}
	var out strings.Builder
	set := false
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(strings.TrimSpace(line), "GROUP=") {
			if set {
				continue
			}
			line, set = "GROUP="+channel+"\n", true
		}
		out.WriteString(strings.TrimSuffix(line, "\n") + "\n")
	}
	if !set {
		out.WriteString("GROUP=" + channel + "\n")
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("set channel: %w", err)
	}
	if err := os.WriteFile(file+".new", []byte(out.String()), 0o644); err != nil {
		return fmt.Errorf("set channel: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return fmt.Errorf("set channel: %w", err)
	}
	return nil
}
