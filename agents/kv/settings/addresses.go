package settings

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/agents/kv/proxy"
)

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

// begins takes this machine's own addresses out of those to join: so the same
// user-data serves all machines, and the one that it names begins the cluster.
func (s *Settings) begins(m Machine) {
	hosts, ports := []string{m.Address, m.Hostname}, []string{}
	for text := range strings.SplitSeq(s.Flags["advertise-client-urls"], ",") {
		if u, err := url.Parse(text); err == nil {
			hosts = append(hosts, u.Hostname())
		}
	}
	for text := range strings.SplitSeq(s.Flags["listen-client-urls"], ",") {
		if u, err := url.Parse(text); err == nil {
			ports = append(ports, u.Port())
		}
	}
	s.Forming.Join = slices.DeleteFunc(s.Forming.Join, func(text string) bool {
		u, err := url.Parse(text)
		return err == nil && slices.Contains(hosts, u.Hostname()) && slices.Contains(ports, u.Port())
	})
	if len(s.Forming.Join) == 0 {
		s.Forming.Join = nil
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
