package kv

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"sort"
	"strings"

	"github.com/coracle-os/coracle/agents/kv/pki"
	"github.com/coracle-os/coracle/agents/kv/proxy"
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
	Forming   Forming
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

// ownAddress finds what to advertise where the owner or provisioning gave
// nothing: this machine alone will do for a cluster of one, and not for a
// machine whose address is about to be told to others.
func (s *Settings) ownAddress(env map[string]string, m Machine) error {
	s.unknown = "127.0.0.1"
	f := s.Forming
	if f.Discovery == "" && len(f.Join) == 0 && s.Flags["discovery-srv"] == "" || f.Proxy != proxy.Off {
		return nil
	}
	if m.Address != "" {
		s.unknown = m.Address
	}
	given := env["ETCD_PEER_ADDR"] + env["ETCD_INITIAL_ADVERTISE_PEER_URLS"]
	if given == "" && m.Address != "" {
		env["ETCD_PEER_ADDR"] = net.JoinHostPort(m.Address, "2380")
		s.warn("neither ETCD_INITIAL_ADVERTISE_PEER_URLS nor ETCD_PEER_ADDR is set: %s is advertised", env["ETCD_PEER_ADDR"])
	}
	if env["ETCD_ADDR"]+env["ETCD_ADVERTISE_CLIENT_URLS"] == "" && m.Address != "" {
		env["ETCD_ADDR"] = net.JoinHostPort(m.Address, "2379")
	}
	if m.Address == "" && (given == "" || strings.Contains(given, "$") || strings.Contains(given, "//:") || strings.HasPrefix(given, ":")) {
		return fmt.Errorf("read the settings: the peer address %q has no host and this machine has no address yet, which others could reach its member at; "+
			"set ETCD_INITIAL_ADVERTISE_PEER_URLS, or wait for the network", given)
	}
	return nil
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

// clientURLs completes the client side's URLs: on 2379 and 4001, only for this
// machine unless an address to advertise or to bind to was given.
func (s *Settings) clientURLs(env map[string]string) error {
	a := addresses{
		name: "ETCD_ADDR", advertised: env["ETCD_ADDR"], bound: env["ETCD_BIND_ADDR"], boundName: "ETCD_BIND_ADDR",
		listenFlag: "listen-client-urls", advertiseFlag: "advertise-client-urls",
		ports: []string{"2379", "4001"}, tls: s.Flags["cert-file"] != "" || s.Flags["auto-tls"] == "true",
	}
	return s.urls(a)
}

// peerURLs does the same for the peers, on 2380 and on the port of an older
// address when that is given.
func (s *Settings) peerURLs(env map[string]string) error {
	a := addresses{
		name: "ETCD_PEER_ADDR", advertised: env["ETCD_PEER_ADDR"], bound: env["ETCD_PEER_BIND_ADDR"], boundName: "ETCD_PEER_BIND_ADDR",
		listenFlag: "listen-peer-urls", advertiseFlag: "initial-advertise-peer-urls",
		ports: []string{"2380"}, tls: s.Flags["peer-cert-file"] != "" || s.Flags["peer-auto-tls"] == "true",
	}
	return s.urls(a)
}

// addresses is one side, clients or peers, of the older address settings.
type addresses struct {
	name, advertised          string // "host:port" that others use
	boundName, bound          string // "host" or "host:port" to listen on
	listenFlag, advertiseFlag string
	ports                     []string // always listened on
	tls                       bool
}

func (s *Settings) urls(a addresses) error {
	scheme := "http"
	if a.tls {
		scheme = "https"
	}
	host, port, err := splitAddress(a.name, a.advertised)
	if err != nil {
		return err
	}
	bindHost, bindPort, err := splitAddress(a.boundName, a.bound)
	if err != nil {
		return err
	}
	if a.advertised != "" && unknownHost(host) {
		s.warn("%s=%q has no host, this machine's address was not known: %s is advertised", a.name, a.advertised, s.unknown)
		host = s.unknown
	}
	if port == "" {
		port = a.ports[0]
	}
	listening := s.listen(a, scheme, bindHost, bindPort, port)
	if a.advertised != "" {
		s.setDefault(a.advertiseFlag, scheme+"://"+net.JoinHostPort(host, port))
	}
	return s.advertise(a, scheme, listening)
}

// listen completes the listening flag and reports whether a list of the
// newer kind was given.
func (s *Settings) listen(a addresses, scheme, bindHost, bindPort, port string) (given bool) {
	if s.Flags[a.listenFlag] != "" {
		return true
	}
	if bindHost == "" {
		bindHost = "127.0.0.1"
		if a.advertised != "" || a.bound != "" || s.Flags[a.advertiseFlag] != "" {
			bindHost = "0.0.0.0"
		}
	}
	ports := slices.Clone(a.ports)
	for _, p := range []string{port, bindPort} {
		if p != "" && !slices.Contains(ports, p) {
			ports = append(ports, p)
		}
	}
	hosts := []string{bindHost}
	if ip := net.ParseIP(bindHost); ip != nil && !ip.IsUnspecified() && !ip.IsLoopback() {
		hosts = append(hosts, "127.0.0.1") // the machine's own tools look there
	}
	var list []string
	for _, h := range hosts {
		for _, p := range ports {
			list = append(list, scheme+"://"+net.JoinHostPort(h, p))
		}
	}
	s.Flags[a.listenFlag] = strings.Join(list, ",")
	return false
}

// advertise completes the advertised URLs, and gives a host to those that have
// none because the machine's address was not known when they were written.
func (s *Settings) advertise(a addresses, scheme string, listening bool) error {
	if s.Flags[a.advertiseFlag] == "" {
		if listening {
			s.warn("--%s is set without --%s: %s is advertised", a.listenFlag, a.advertiseFlag, scheme+"://127.0.0.1:"+a.ports[0])
		}
		s.Flags[a.advertiseFlag] = scheme + "://127.0.0.1:" + a.ports[0]
	}
	for _, flag := range []string{a.listenFlag, a.advertiseFlag} {
		substitute := s.unknown
		if flag == a.listenFlag {
			substitute = "0.0.0.0"
		}
		fixed, err := s.completeHosts(flag, s.Flags[flag], substitute)
		if err != nil {
			return err
		}
		s.Flags[flag] = fixed
	}
	return nil
}

func (s *Settings) completeHosts(flag, list, substitute string) (string, error) {
	var out []string
	for _, text := range strings.Split(list, ",") {
		text = strings.TrimSpace(text)
		if i := strings.Index(text, "$"); i >= 0 { // a variable that was never substituted
			text = strings.NewReplacer("$private_ipv4", "", "$public_ipv4", "").Replace(text)
		}
		u, err := url.Parse(text)
		if err != nil {
			return "", fmt.Errorf("read --%s: %q is not a URL: %w", flag, text, err)
		}
		if u.Hostname() == "" && (u.Scheme == "http" || u.Scheme == "https") {
			s.warn("--%s: %q has no host, this machine's address was not known: %s is used", flag, text, substitute)
			u.Host = net.JoinHostPort(substitute, u.Port())
		}
		if !slices.Contains(out, u.String()) {
			out = append(out, u.String())
		}
	}
	return strings.Join(out, ","), nil
}

// splitAddress takes "host:port", "host", ":port" or "" apart.
func splitAddress(name, text string) (host, port string, err error) {
	if text == "" {
		return "", "", nil
	}
	if u, err := url.Parse(text); err == nil && u.Host != "" { // some wrote a URL
		text = u.Host
	}
	if !strings.Contains(text, ":") || net.ParseIP(text) != nil {
		return text, "", nil
	}
	host, port, err = net.SplitHostPort(text)
	if err != nil {
		return "", "", fmt.Errorf("read %s=%q: %w; write it as host:port", name, text, err)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return "", "", fmt.Errorf("read %s=%q: the port is not a number from 1 to 65535", name, text)
	}
	return host, port, nil
}

// unknownHost says whether a host is missing or is a variable that
// provisioning could not substitute.
func unknownHost(host string) bool { return host == "" || strings.HasPrefix(host, "$") }

func (s *Settings) setDefault(flag, value string) {
	if _, ok := s.Flags[flag]; !ok {
		s.Flags[flag] = value
	}
}

func (s *Settings) warn(format string, args ...any) {
	s.Warnings = append(s.Warnings, fmt.Sprintf(format, args...))
}
