// Package authkeys reads OpenSSH's authorized_keys format (sshd(8),
// AUTHORIZED_KEYS FILE FORMAT) and decides whether a key may be used from
// where a client connects. It is for the SSH server.
//
// Options that restrict are obeyed or, when this server does not know them,
// make the key unusable, as in OpenSSH: a restriction is never lost. Left out
// on purpose: certificate authorities (a line that names one gives no key),
// environment= (ignored, as OpenSSH does unless it is told otherwise) and
// host names in from= (only addresses, networks and patterns of addresses).
package authkeys

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// Entry is one usable line.
type Entry struct {
	Key     ssh.PublicKey
	Comment string
	Options Options
}

// Options are what a line says about its key.
type Options struct {
	Command           string // runs in place of what the client asks for
	NoPTY             bool
	NoPortForwarding  bool
	NoAgentForwarding bool
	NoTouchRequired   bool
	PermitOpen        []string // host:port, * allowed; empty allows all
	PermitListen      []string // [host:]port, * allowed; empty allows all
	From              []string // patterns of client addresses; empty allows all
	Expires           time.Time
}

// Parse reads a whole file. Lines that cannot be used are told in problems, by
// line number, and do not hide the others.
func Parse(data []byte) (entries []Entry, problems []error) {
	for i, line := range bytes.Split(data, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		e, err := parseLine(line)
		if err != nil {
			problems = append(problems, fmt.Errorf("line %d: %w", i+1, err))
			continue
		}
		entries = append(entries, e)
	}
	return entries, problems
}

func parseLine(line []byte) (Entry, error) {
	key, comment, options, _, err := ssh.ParseAuthorizedKey(line)
	if err != nil {
		return Entry{}, errors.New("not a public key in the form `[options] type base64 [comment]`")
	}
	if _, ok := key.(*ssh.Certificate); ok {
		return Entry{}, errors.New("a certificate is not a key")
	}
	o, err := parseOptions(options)
	if err != nil {
		return Entry{}, err
	}
	return Entry{Key: key, Comment: comment, Options: o}, nil
}

func parseOptions(list []string) (Options, error) {
	var o Options
	for _, text := range list {
		name, value, _ := strings.Cut(text, "=")
		if err := o.set(strings.ToLower(name), unquote(value)); err != nil {
			return o, err
		}
	}
	return o, nil
}

func (o *Options) set(name, value string) error {
	switch name {
	case "restrict":
		o.NoPTY, o.NoPortForwarding, o.NoAgentForwarding = true, true, true
	case "no-pty", "pty":
		o.NoPTY = name == "no-pty"
	case "no-port-forwarding", "port-forwarding":
		o.NoPortForwarding = name == "no-port-forwarding"
	case "no-agent-forwarding", "agent-forwarding":
		o.NoAgentForwarding = name == "no-agent-forwarding"
	case "no-touch-required":
		o.NoTouchRequired = true
	case "no-x11-forwarding", "x11-forwarding", "no-user-rc", "user-rc", "environment":
		// None of them exists here, allowed or not.
	case "command":
		if value == "" {
			return errors.New("option command= is empty")
		}
		o.Command = value
	case "permitopen":
		o.PermitOpen = append(o.PermitOpen, value)
	case "permitlisten":
		o.PermitListen = append(o.PermitListen, value)
	case "from":
		o.From = append(o.From, strings.Split(value, ",")...)
	case "expiry-time":
		t, err := parseExpiry(value)
		if err != nil {
			return err
		}
		o.Expires = t
	default:
		return fmt.Errorf("option %q is not known, so its key cannot be used", name)
	}
	return nil
}

// unquote takes the quotes off and resolves \" as OpenSSH does.
func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = s[1 : len(s)-1]
	}
	return strings.ReplaceAll(s, `\"`, `"`)
}

func parseExpiry(s string) (time.Time, error) {
	zone := time.Local
	if t, ok := strings.CutSuffix(s, "Z"); ok {
		s, zone = t, time.UTC
	}
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if t, err := time.ParseInLocation(layout, s, zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("option expiry-time=%q is not YYYYMMDD[HHMM[SS]][Z]", s)
}

// Allows returns nil when the key may be used at that time from that address.
func (o Options) Allows(from netip.Addr, now time.Time) error {
	if !o.Expires.IsZero() && now.After(o.Expires) {
		return fmt.Errorf("the key expired at %s", o.Expires.Format(time.RFC3339))
	}
	if len(o.From) == 0 {
		return nil
	}
	allowed := false
	for _, p := range o.From {
		pattern, negated := strings.CutPrefix(strings.TrimSpace(p), "!")
		if !matchAddress(pattern, from.Unmap()) {
			continue
		}
		if negated {
			return fmt.Errorf("from=%q excludes %s", strings.Join(o.From, ","), from)
		}
		allowed = true
	}
	if !allowed {
		return fmt.Errorf("from=%q does not include %s", strings.Join(o.From, ","), from)
	}
	return nil
}

func matchAddress(pattern string, a netip.Addr) bool {
	if prefix, err := netip.ParsePrefix(pattern); err == nil {
		return prefix.Contains(a)
	}
	if addr, err := netip.ParseAddr(pattern); err == nil {
		return addr.Unmap() == a
	}
	ok, err := path.Match(pattern, a.String())
	return err == nil && ok
}

// AllowsOpen says whether a connection to host and port may be forwarded.
func (o Options) AllowsOpen(host string, port uint32) bool {
	return !o.NoPortForwarding && (len(o.PermitOpen) == 0 || matchTarget(o.PermitOpen, host, port))
}

// AllowsListen says whether host and port may be listened on for the client.
func (o Options) AllowsListen(host string, port uint32) bool {
	return !o.NoPortForwarding && (len(o.PermitListen) == 0 || matchTarget(o.PermitListen, host, port))
}

// AllowsSocket says whether Unix sockets may be forwarded. OpenSSH knows no
// finer rule for them, so a key that is held to some ports gets none.
func (o Options) AllowsSocket() bool {
	return !o.NoPortForwarding && len(o.PermitOpen) == 0 && len(o.PermitListen) == 0
}

func matchTarget(rules []string, host string, port uint32) bool {
	for _, rule := range rules {
		h, p := "*", rule
		if i := strings.LastIndex(rule, ":"); i >= 0 {
			h, p = strings.Trim(rule[:i], "[]"), rule[i+1:]
		}
		if (h == "*" || strings.EqualFold(h, host)) && (p == "*" || p == fmt.Sprint(port)) {
			return true
		}
	}
	return false
}
