// Package config reads what fleetd is told: /etc/fleet/fleet.conf (INI without
// sections), variables FLEET_KEY, which win, and flags --KEY, which win over
// both. Keys, values and defaults are those of fleet 0.10 to 1.0
// (Documentation/deployment-and-configuration.md); old files and cloud-configs
// work unchanged. It is pure: text in, values out.
//
// Keys that mean nothing here (signatures of units, systemd's user instance,
// gRPC between fleetds, polling instead of watches) are taken and named in a
// warning. What is new: tls_cafile, tls_certfile and tls_keyfile for the API
// over TCP. fleet's library for such files is left out because it cannot say
// in which line a mistake is.
package config

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DefaultFile is read when no file is named; it need not be there.
const DefaultFile = "/etc/fleet/fleet.conf"

// Config is what fleetd is told.
type Config struct {
	Verbosity int // 0 is the usual log, more is for finding faults

	EtcdServers                               []string      // URLs
	EtcdServersGiven                          bool          // and not the default
	EtcdRequestTimeout                        time.Duration // of one request to the KV
	EtcdCAFile, EtcdCertFile, EtcdKeyFile     string
	EtcdUsername, EtcdPassword, EtcdKeyPrefix string

	PublicIP      string            // "" is found on the machine
	Metadata      map[string]string // of this machine
	AgentTTL      time.Duration     // a machine that is not heard of for so long is gone
	UnitsDir      string            // where the units' files are
	DisableEngine bool              // this machine never decides

	EngineReconcileInterval time.Duration
	TokenLimit              int // items of one page of the API

	TLSCAFile, TLSCertFile, TLSKeyFile string // of the API over TCP

	Warnings []string // what was taken but has no effect, in order
}

// Defaults is what holds without any setting.
func Defaults() Config {
	return Config{
		EtcdServers:             []string{"http://127.0.0.1:2379", "http://127.0.0.1:4001"},
		EtcdRequestTimeout:      time.Second,
		EtcdKeyPrefix:           "/_coreos.com/fleet/",
		Metadata:                map[string]string{},
		AgentTTL:                30 * time.Second,
		UnitsDir:                "/run/fleet/units/",
		EngineReconcileInterval: 2 * time.Second,
		TokenLimit:              100,
	}
}

// key is how a setting's text is taken.
type key func(c *Config, value string) error

// keys are all that fleetd knows, and ignored those that mean nothing here,
// with the reason.
func keys() map[string]key {
	return map[string]key{
		"verbosity":                 integer(func(c *Config) *int { return &c.Verbosity }, 0, 10),
		"etcd_servers":              setServers,
		"etcd_request_timeout":      seconds(func(c *Config) *time.Duration { return &c.EtcdRequestTimeout }, 10*time.Millisecond),
		"etcd_cafile":               text(func(c *Config) *string { return &c.EtcdCAFile }),
		"etcd_certfile":             text(func(c *Config) *string { return &c.EtcdCertFile }),
		"etcd_keyfile":              text(func(c *Config) *string { return &c.EtcdKeyFile }),
		"etcd_username":             text(func(c *Config) *string { return &c.EtcdUsername }),
		"etcd_password":             text(func(c *Config) *string { return &c.EtcdPassword }),
		"etcd_key_prefix":           setPrefix,
		"public_ip":                 setPublicIP,
		"metadata":                  setMetadata,
		"agent_ttl":                 seconds(func(c *Config) *time.Duration { return &c.AgentTTL }, 2*time.Second),
		"engine_reconcile_interval": seconds(func(c *Config) *time.Duration { return &c.EngineReconcileInterval }, 10*time.Millisecond),
		"token_limit":               integer(func(c *Config) *int { return &c.TokenLimit }, 1, 65535),
		"disable_engine":            boolean(func(c *Config) *bool { return &c.DisableEngine }),
		"units_directory":           setUnitsDir,
		"tls_cafile":                text(func(c *Config) *string { return &c.TLSCAFile }),
		"tls_certfile":              text(func(c *Config) *string { return &c.TLSCertFile }),
		"tls_keyfile":               text(func(c *Config) *string { return &c.TLSKeyFile }),
	}
}

func ignored() map[string]string {
	return map[string]string{
		"verify_units":         "units are not signed any more",
		"authorized_keys_file": "units are not signed any more",
		"enable_grpc":          "machines find changes by watching the key-value store",
		"disable_watches":      "the watch is what keeps the load small; there is no other way",
		"systemd_user":         "units always belong to the machine's own init",
	}
}

// Keys are the names of all settings, sorted; each can be a flag.
func Keys() []string {
	all := slices.Collect(maps.Keys(keys()))
	return slices.Sorted(slices.Values(slices.AppendSeq(all, maps.Keys(ignored()))))
}

// Source is the settings that one place gives.
type Source []Setting

// Setting is one of them.
type Setting struct{ Key, Value, Where string } // Where is for messages: file and line, variable, flag

// Read applies sources to the defaults, later ones win. It tells all that is
// wrong in one error.
func Read(sources ...Source) (Config, error) {
	c, known, meaningless := Defaults(), keys(), ignored()
	last := map[string]Setting{}
	var order []string
	for _, s := range slices.Concat(sources...) {
		if _, ok := last[s.Key]; !ok {
			order = append(order, s.Key)
		}
		last[s.Key] = s
	}
	var wrong []error
	for _, name := range order {
		s := last[name]
		if why, ok := meaningless[name]; ok {
			c.warn("%s: %s has no effect: %s", s.Where, name, why)
			continue
		}
		set, ok := known[name]
		if !ok {
			c.warn("%s: nobody knows the setting %q; it has no effect", s.Where, name)
			continue
		}
		if err := set(&c, s.Value); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %s: %w", s.Where, name, err))
		}
	}
	if err := c.whole(); err != nil {
		wrong = append(wrong, err)
	}
	if len(wrong) > 0 {
		return Config{}, fmt.Errorf("read settings: %w", errors.Join(wrong...))
	}
	return c, nil
}

func (c *Config) warn(format string, args ...any) {
	c.Warnings = append(c.Warnings, fmt.Sprintf(format, args...))
}

// whole checks what belongs together.
func (c *Config) whole() error {
	if (c.EtcdCertFile == "") != (c.EtcdKeyFile == "") {
		return errors.New("etcd_certfile and etcd_keyfile: give both or none")
	}
	if given := c.TLSCAFile != "" || c.TLSCertFile != "" || c.TLSKeyFile != ""; given && (c.TLSCAFile == "" || c.TLSCertFile == "" || c.TLSKeyFile == "") {
		return errors.New("tls_cafile, tls_certfile and tls_keyfile: give all three or none: clients of the API over TCP must show a certificate of that authority")
	}
	return nil
}

func text(field func(*Config) *string) key {
	return func(c *Config, value string) error {
		*field(c) = value
		return nil
	}
}

func integer(field func(*Config) *int, least, most int) key {
	return func(c *Config, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > most {
			return fmt.Errorf("%q is not a number from %d to %d", value, least, most)
		}
		*field(c) = n
		return nil
	}
}

func boolean(field func(*Config) *bool) key {
	return func(c *Config, value string) error {
		b, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", value)
		}
		*field(c) = b
		return nil
	}
}

// seconds takes a number of seconds ("2", "0.5") or a duration ("30s"): fleet
// wanted the one for some keys and the other for others.
func seconds(field func(*Config) *time.Duration, least time.Duration) key {
	return func(c *Config, value string) error {
		d, err := time.ParseDuration(value)
		if f, ferr := strconv.ParseFloat(value, 64); ferr == nil && f < 1e9 {
			d, err = time.Duration(f*float64(time.Second)), nil
		}
		if err != nil || d < least || d > 24*time.Hour {
			return fmt.Errorf("%q is not a time like \"30s\" from %s to 24h", value, least)
		}
		*field(c) = d
		return nil
	}
}

// setServers takes a list as JSON or separated by commas.
func setServers(c *Config, value string) error {
	var servers []string
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.Trim(item, " \t[]\"'"); item == "" {
			continue
		}
		if !strings.HasPrefix(item, "http://") && !strings.HasPrefix(item, "https://") {
			return fmt.Errorf("%q is not a URL like http://127.0.0.1:2379", item)
		}
		servers = append(servers, strings.TrimRight(item, "/"))
	}
	if servers == nil {
		return fmt.Errorf("no server in %q", value)
	}
	c.EtcdServers, c.EtcdServersGiven = servers, true
	return nil
}

// setPrefix makes one form of the prefix: with a slash at both ends.
func setPrefix(c *Config, value string) error {
	if strings.Trim(value, "/ ") == "" {
		return fmt.Errorf("%q would mix the scheduler's keys with all others; give a path like /_coreos.com/fleet/", value)
	}
	c.EtcdKeyPrefix = strings.TrimSuffix(path.Clean("/"+value), "/") + "/"
	return nil
}

func setPublicIP(c *Config, value string) error {
	c.PublicIP = value
	if _, err := netip.ParseAddr(value); value != "" && err != nil {
		c.warn("public_ip: %q is not an address; it is told to others as it is", value)
	}
	return nil
}

// setMetadata takes "key=value,key2=value2"; the last one of a key wins.
func setMetadata(c *Config, value string) error {
	for pair := range strings.SplitSeq(value, ",") {
		k, v, ok := strings.Cut(strings.Trim(pair, " \t\"'"), "=")
		k, v = strings.TrimSpace(k), strings.TrimSpace(v)
		switch {
		case ok && k != "":
			c.Metadata[k] = v
		case strings.TrimSpace(pair) != "":
			c.warn("metadata: %q is not key=value; it is left out", pair)
		}
	}
	return nil
}

func setUnitsDir(c *Config, value string) error {
	if !path.IsAbs(value) || path.Clean(value) == "/" {
		return fmt.Errorf("%q is not the path of a directory of its own", value)
	}
	c.UnitsDir = path.Clean(value) + "/"
	return nil
}
