package settings

import (
	"flag"
	"fmt"
	"math"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/agents/kv/proxy"
)

// Forming says how this machine comes into a cluster and stays in it: what
// etcd 2's flags of these names said, with the additions of Coracle.
type Forming struct {
	Discovery      string // the token's URL
	DiscoveryProxy string // an HTTP proxy on the way to it
	FallbackExit   bool   // end when the token's cluster is full, else be a proxy
	Proxy          proxy.Mode
	Times          proxy.Times
	Join           []string // client URLs of a member to ask for admission
	JoinToken      string   // what machines that ask for admission must know
	Heal           bool
	RemoveDelay    time.Duration // from death to removal
	Size           int           // wanted number of members, 0 for as many as formed it
	TLSAuto        bool          // the cluster makes its authority and hands it on
}

// formingFlags are the variables that Forming is read from, as flags.
func formingFlags() map[string]string {
	return map[string]string{
		"discovery":              "URL of a discovery token: the machines with the same one form a cluster.",
		"discovery-fallback":     "What to do when the token's cluster is full: 'proxy' or 'exit'.",
		"discovery-proxy":        "HTTP proxy for requests to the discovery service.",
		"proxy":                  "Forward the client ports to the members: 'off', 'on' or 'readonly'.",
		"proxy-dial-timeout":     "Milliseconds until connecting to a member fails.",
		"proxy-failure-wait":     "Milliseconds until a member that failed is tried again.",
		"proxy-read-timeout":     "Milliseconds until reading from a member fails; 0 is never.",
		"proxy-refresh-interval": "Milliseconds between two readings of the list of members.",
		"proxy-write-timeout":    "Milliseconds until writing to a member fails.",
		"join":                   "Address of a member of the cluster to join.",
		"join-token":             "Secret that machines must know to join.",
		"tls":                    "TLS for clients and peers: 'auto' makes an authority and hands it on to machines that join; 'off'.",
		"heal":                   "Replace members that are dead: 'on' or 'off'.",
		"remove-delay":           "How long a member is dead until it is replaced, as in 30m; a plain number is seconds.",
		"cluster-active-size":    "Wanted number of members; 0 is the number that formed the cluster.",
		"cluster-remove-delay":   "Older word for --remove-delay, in seconds.",
		"cluster-sync-interval":  "Older word for --proxy-refresh-interval, in seconds.",
	}
}

// AddFlags declares the flags that etcd 3.7 does not have, so that the command
// line takes them too.
func AddFlags(fs *flag.FlagSet) {
	for name, usage := range formingFlags() {
		fs.String(name, "", usage)
	}
}

// formingVariable says whether forming reads the variable.
func formingVariable(name string) bool {
	_, ok := formingFlags()[flagOf(name)]
	return ok
}

// forming reads the variables about forming, staying and healing.
func (s *Settings) forming(env map[string]string) error {
	f := Forming{
		Discovery: env["ETCD_DISCOVERY"], DiscoveryProxy: env["ETCD_DISCOVERY_PROXY"],
		JoinToken: env["ETCD_JOIN_TOKEN"], Heal: true, RemoveDelay: 30 * time.Minute,
	}
	r := reader{env: env}
	f.FallbackExit = r.word("ETCD_DISCOVERY_FALLBACK", "proxy", "exit") == "exit"
	f.Proxy = proxy.Mode(r.word("ETCD_PROXY", "off", "on", "readonly"))
	f.Heal = r.word("ETCD_HEAL", "on", "off") == "on"
	f.Times = proxy.Times{
		Dial:    r.time("ETCD_PROXY_DIAL_TIMEOUT", time.Millisecond, time.Second),
		Failure: r.time("ETCD_PROXY_FAILURE_WAIT", time.Millisecond, 5*time.Second),
		Read:    r.time("ETCD_PROXY_READ_TIMEOUT", time.Millisecond, 0),
		Write:   r.time("ETCD_PROXY_WRITE_TIMEOUT", time.Millisecond, 5*time.Second),
		Refresh: r.time("ETCD_PROXY_REFRESH_INTERVAL", time.Millisecond, r.time("ETCD_CLUSTER_SYNC_INTERVAL", time.Second, 30*time.Second)),
	}
	f.RemoveDelay = r.time("ETCD_REMOVE_DELAY", time.Second, r.time("ETCD_CLUSTER_REMOVE_DELAY", time.Second, f.RemoveDelay))
	f.Size = r.count("ETCD_CLUSTER_ACTIVE_SIZE")
	f.TLSAuto = r.word("ETCD_TLS", "off", "auto") == "auto"
	f.Join = r.join()
	if r.err != nil {
		return r.err
	}
	if err := checkDiscovery(f); err != nil {
		return err
	}
	s.ways(env, &f)
	s.Forming = f
	return checkTLS(env, f)
}

// ways leaves one way of forming: etcd 2 refused two, but what an owner needs
// is a member, so that the most explicit one wins and the other is named.
func (s *Settings) ways(env map[string]string, f *Forming) {
	given := slices.DeleteFunc([]string{"ETCD_INITIAL_CLUSTER", "ETCD_JOIN", "ETCD_DISCOVERY", "ETCD_DISCOVERY_SRV"},
		func(name string) bool { return env[name] == "" })
	for _, name := range given[min(1, len(given)):] {
		s.warn("%s=%q has no effect: %s is set too and comes first", name, env[name], given[0])
		switch name {
		case "ETCD_JOIN":
			f.Join = nil
		case "ETCD_DISCOVERY":
			f.Discovery = ""
		case "ETCD_DISCOVERY_SRV":
			delete(s.Flags, "discovery-srv")
		}
	}
	if len(f.Join) > 0 && f.JoinToken == "" {
		s.warn("ETCD_JOIN=%q is set without ETCD_JOIN_TOKEN: members admit machines only that know their token", env["ETCD_JOIN"])
	}
}

// leastToken is the length of a join token that nobody guesses who has heard an
// exchange and has a computer: 64 bits of hexadecimal digits.
const leastToken = 16

// checkTLS refuses what could not get an authority, or could not keep it.
func checkTLS(env map[string]string, f Forming) error {
	if !f.TLSAuto {
		return nil
	}
	way := ""
	switch {
	case env[authorityFile] != "": // given, and handed on
	case strings.Contains(env["ETCD_INITIAL_CLUSTER"], ","):
		way = "ETCD_INITIAL_CLUSTER"
	case f.Discovery != "":
		way = "ETCD_DISCOVERY"
	case env["ETCD_DISCOVERY_SRV"] != "" && len(f.Join) == 0:
		way = "ETCD_DISCOVERY_SRV"
	}
	switch {
	case way != "":
		return fmt.Errorf("read ETCD_TLS=%q: with %s no machine is the first, which would make the authority; "+
			"let one machine begin and the others join it with ETCD_JOIN, or give all of them one authority with ETCD_TLS_CA_FILE", env["ETCD_TLS"], way)
	case len(f.Join) > 0 && f.JoinToken == "":
		return fmt.Errorf("read ETCD_TLS=%q: set ETCD_JOIN_TOKEN too, with which machines prove that they may have the authority", env["ETCD_TLS"])
	case f.JoinToken != "" && len(f.JoinToken) < leastToken:
		return fmt.Errorf("read ETCD_JOIN_TOKEN: with ETCD_TLS=%q it must have at least %d characters, because whoever guesses it gets the authority; take one from `openssl rand -hex 16`", env["ETCD_TLS"], leastToken)
	}
	return nil
}

func checkDiscovery(f Forming) error {
	for name, text := range map[string]string{"ETCD_DISCOVERY": f.Discovery, "ETCD_DISCOVERY_PROXY": f.DiscoveryProxy} {
		u, err := url.Parse(text)
		if text != "" && (err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
			return fmt.Errorf("read %s=%q: it is not a URL; write it as https://HOST/TOKEN (a proxy as http://HOST:PORT)", name, text)
		}
	}
	return nil
}

// reader reads typed values and keeps the first problem.
type reader struct {
	env map[string]string
	err error
}

func (r *reader) fail(name, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("read %s=%q: %w", name, r.env[name], fmt.Errorf(format, args...))
	}
}

// word takes one of the words; the first stands for no value.
func (r *reader) word(name string, words ...string) string {
	text := strings.ToLower(r.env[name])
	switch {
	case text == "":
		return words[0]
	case !slices.Contains(words, text):
		r.fail(name, "it is none of %s", strings.Join(words, ", "))
	}
	return text
}

// time takes a number of units, or a duration with its own.
func (r *reader) time(name string, unit, otherwise time.Duration) time.Duration {
	text := r.env[name]
	if text == "" {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	if n, nerr := strconv.ParseFloat(text, 64); nerr == nil {
		d, err = time.Duration(n*float64(unit)), nil
		if math.IsNaN(n) || n*float64(unit) > math.MaxInt64/2 {
			d = -1
		}
	}
	if err != nil || d < 0 {
		r.fail(name, "it is not a time; write a number of %v or one like 30m", unit)
	}
	return d
}

func (r *reader) count(name string) int {
	text := r.env[name]
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		r.fail(name, "it is not a number of members")
	}
	return n
}

// join takes addresses of members, with commas: a host, host:port, or a URL.
func (r *reader) join() []string {
	var out []string
	for text := range strings.SplitSeq(r.env["ETCD_JOIN"], ",") {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		if !strings.Contains(text, "://") {
			host, port, err := splitAddress("ETCD_JOIN", text)
			if err != nil {
				r.fail("ETCD_JOIN", "%v", err)
			}
			if port == "" {
				port = "2379"
			}
			text = "http://" + net.JoinHostPort(host, port)
			if r.env["ETCD_CERT_FILE"] != "" || r.env["ETCD_TRUSTED_CA_FILE"] != "" {
				text = "https" + strings.TrimPrefix(text, "http")
			}
		}
		if u, err := url.Parse(text); err != nil || u.Hostname() == "" {
			r.fail("ETCD_JOIN", "it has no host; write host or host:port of a member")
		}
		out = append(out, text)
	}
	return out
}
