// Package settings reads what etcd.service is told by variables: those of etcd
// 3.7, of etcd 2 and 0.4, and Coracle's own, for package options, which sets
// etcd's flags from them. It follows etcd's documentation of its configuration
// flags, versions 0.4 to 3.7. Pure: it takes the environment and what is known
// of the machine, and opens no file but those of a certificate that it issues.
package settings

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/coracle-os/coracle/agents/kv/pki"
)

// Machine is what the settings take from the machine that etcd runs on.
type Machine struct {
	ID       string // the content of /etc/machine-id, may be empty
	Hostname string // may be empty
	Address  string // an IP address that other machines reach it at, may be empty
}

// Settings are the values of etcd's flags, by the flag's name.
type Settings struct {
	Flags map[string]string
	// Warnings name each variable that no longer has an effect or that had to
	// be understood differently, with what happens in its place.
	Warnings []string
	// Authority is the file with the cluster's own authority; "" for none.
	Authority string
	// Obtain says that nobody gives the authority's file: it is made here or
	// comes from another machine.
	Obtain  bool
	Forming Forming
	// stand-in for a host of an advertised URL that was not known
	unknown string
}

// obsolete are variables of etcd 0.4 and 2 without a counterpart in etcd 3.7,
// with what the owner should know.
var obsolete = map[string]string{
	"ETCD_GRAPHITE_HOST":      "figures are at /metrics on the client port",
	"ETCD_HTTP_READ_TIMEOUT":  "requests have their own deadlines",
	"ETCD_HTTP_WRITE_TIMEOUT": "requests have their own deadlines",
	"ETCD_LOG_PACKAGE_LEVELS": "set ETCD_LOG_LEVEL",
	"ETCD_MAX_RESULT_BUFFER":  "watches read the history from the store",
	"ETCD_MAX_RETRY_ATTEMPTS": "members are retried without end",
	"ETCD_PEERS":              "a list of peers does not say whether a cluster exists: set ETCD_INITIAL_CLUSTER for a new one, or ETCD_JOIN and ETCD_JOIN_TOKEN",
	"ETCD_PEERS_FILE":         "a list of peers does not say whether a cluster exists: set ETCD_INITIAL_CLUSTER for a new one, or ETCD_JOIN and ETCD_JOIN_TOKEN",
	"ETCD_RETRY_INTERVAL":     "members are retried without end",
	"ETCD_SNAPSHOT":           "snapshots are always on; see ETCD_SNAPSHOT_COUNT",
	"ETCD_TRACE":              "set ETCD_LOG_LEVEL=debug",
	"ETCD_VERY_VERY_VERBOSE":  "set ETCD_LOG_LEVEL=debug",
}

// renamed are variables whose value is still right under another flag.
var renamed = map[string]string{
	"ETCD_CA_FILE":                 "trusted-ca-file",
	"ETCD_PEER_CA_FILE":            "peer-trusted-ca-file",
	"ETCD_PEER_ELECTION_TIMEOUT":   "election-timeout",
	"ETCD_PEER_HEARTBEAT_INTERVAL": "heartbeat-interval",
	"ETCD_SNAPSHOTCOUNT":           "snapshot-count",
}

// FromEnvironment computes etcd's settings from the variables ETCD_*, of etcd
// 3, 2 and 0.4 alike, given as "NAME=value"; known tells whether etcd 3.7 has
// a flag of a name. A newer variable wins over an older one that means the
// same. A value that cannot be understood is an error that quotes it.
func FromEnvironment(environ []string, m Machine, known func(flag string) bool) (Settings, error) {
	s := Settings{Flags: map[string]string{}}
	env := map[string]string{}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "ETCD_") && value != "" {
			env[name] = value
		}
	}
	s.current(env, known)
	s.older(env)
	if err := s.forming(env); err != nil {
		return s, err
	}
	s.defaults(m)
	s.secure(env)
	if err := s.ownAddress(env, m); err != nil {
		return s, err
	}
	if err := s.clientURLs(env); err != nil {
		return s, err
	}
	if err := s.peerURLs(env); err != nil {
		return s, err
	}
	s.secureURLs()
	s.begins(m)
	s.nameFromCluster(m)
	sort.Strings(s.Warnings)
	return s, nil
}

// current takes the variables that etcd 3.7 itself knows, and names those that
// nobody knows.
func (s *Settings) current(env map[string]string, known func(string) bool) {
	for name, value := range env {
		flag := flagOf(name)
		switch {
		case formingVariable(name):
		case obsolete[name] != "":
			s.warn("%s=%q has no effect: %s", name, value, obsolete[name])
		case known(flag):
			s.Flags[flag] = value
		case renamed[name] == "" && !slices.Contains(translated, name):
			s.warn("%s=%q is not a setting of etcd 3.7 and has no effect", name, value)
		}
	}
}

// flagOf gives the flag that a variable stands for.
func flagOf(name string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, "ETCD_")), "_", "-")
}

// translated are the variables that clientURLs, peerURLs, older, secure and backups read.
var translated = []string{
	"ETCD_ADDR", "ETCD_BIND_ADDR", "ETCD_PEER_ADDR", "ETCD_PEER_BIND_ADDR",
	"ETCD_DEBUG", "ETCD_VERBOSE", "ETCD_VERY_VERBOSE",
	backupInterval, backupKeep, backupDir, authorityFile,
}

// older maps the variables of etcd 0.4 and 2 that mean one flag.
func (s *Settings) older(env map[string]string) {
	for name, flag := range renamed {
		value := env[name]
		if value == "" {
			continue
		}
		if old, ok := s.Flags[flag]; ok {
			if old != value {
				s.warn("%s=%q has no effect: --%s is already %q", name, value, flag, old)
			}
			continue
		}
		s.Flags[flag] = value
		switch flag { // a CA alone meant that clients must show a certificate
		case "trusted-ca-file":
			s.setDefault("client-cert-auth", "true")
		case "peer-trusted-ca-file":
			s.setDefault("peer-client-cert-auth", "true")
		}
	}
	for _, name := range []string{"ETCD_DEBUG", "ETCD_VERBOSE", "ETCD_VERY_VERBOSE"} {
		if v := env[name]; v == "true" || v == "1" {
			s.setDefault("log-level", "debug")
		}
	}
}

func (s *Settings) defaults(m Machine) {
	name := m.ID
	if name == "" {
		name = m.Hostname
	}
	if name != "" {
		s.setDefault("name", name)
	}
	s.setDefault("data-dir", pki.DataDir)
	s.setDefault("log-format", "console")
}

// nameFromCluster takes the name from the entry of the initial cluster that
// has this machine's peer URLs, when no name was given: so the same user-data
// serves all machines of the cluster.
func (s *Settings) nameFromCluster(m Machine) {
	if name := s.Flags["name"]; name != m.ID && name != m.Hostname {
		return
	}
	own := strings.Split(s.Flags["initial-advertise-peer-urls"], ",")
	for entry := range strings.SplitSeq(s.Flags["initial-cluster"], ",") {
		name, peer, ok := strings.Cut(strings.TrimSpace(entry), "=")
		if ok && slices.Contains(own, strings.TrimRight(peer, "/")) {
			s.Flags["name"] = name
			return
		}
	}
}

func (s *Settings) setDefault(flag, value string) {
	if _, ok := s.Flags[flag]; !ok {
		s.Flags[flag] = value
	}
}

func (s *Settings) warn(format string, args ...any) {
	s.Warnings = append(s.Warnings, fmt.Sprintf(format, args...))
}
