package settings

import (
	"crypto/rand"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/coracle-os/coracle/agents/kv/pki"
)

// authorityFile is the variable that names the cluster's authority: a file with
// its certificate and private key. It turns TLS on for clients and peers.
const authorityFile = "ETCD_TLS_CA_FILE"

// secure makes the flags those of a member with certificates of the cluster's
// authority; both sides show one. It comes before the URLs, which follow it.
func (s *Settings) secure(env map[string]string) {
	dir := filepath.Join(s.Flags["data-dir"], "pki")
	variable := authorityFile
	s.Authority = env[authorityFile]
	if s.Authority == "" && s.Forming.TLSAuto {
		s.Authority, s.Obtain, variable = filepath.Join(dir, "authority.pem"), true, "ETCD_TLS"
	}
	if s.Authority == "" {
		return
	}
	f := pki.In(dir)
	for _, prefix := range []string{"", "peer-"} {
		for name, value := range map[string]string{
			"cert-file": f.Certificate, "key-file": f.Key, "trusted-ca-file": f.Authority, "client-cert-auth": "true",
		} {
			if old := s.Flags[prefix+name]; old != "" && old != value {
				s.warn("%s is set: --%s is %q, not %q", variable, prefix+name, value, old)
			}
			s.Flags[prefix+name] = value
		}
		delete(s.Flags, prefix+"auto-tls")
	}
}

// secureURLs turns http into https in every address, so that documents that
// were written without TLS need no other change. It comes after the URLs.
func (s *Settings) secureURLs() {
	if s.Authority == "" {
		return
	}
	for _, flag := range []string{"listen-client-urls", "advertise-client-urls", "listen-peer-urls", "initial-advertise-peer-urls", "initial-cluster"} {
		if value := s.Flags[flag]; value != "" {
			s.Flags[flag] = strings.ReplaceAll(value, "http://", "https://")
		}
	}
	for i, address := range s.Forming.Join {
		s.Forming.Join[i] = strings.Replace(address, "http://", "https://", 1)
	}
}

// Issue gets the machine's certificate from the authority, for the hosts that
// others reach it by.
func (s *Settings) Issue(m Machine, now time.Time) error {
	if s.Authority == "" {
		return nil
	}
	n := pki.Names{Common: s.Flags["name"], Hosts: []string{"localhost", "127.0.0.1", "::1", m.Hostname, s.Flags["name"]}}
	for _, flag := range []string{"advertise-client-urls", "initial-advertise-peer-urls"} {
		for text := range strings.SplitSeq(s.Flags[flag], ",") {
			u, err := url.Parse(text)
			if err != nil {
				return fmt.Errorf("issue a certificate: --%s: %q is not a URL: %w", flag, text, err)
			}
			if !slices.Contains(n.Hosts, u.Hostname()) {
				n.Hosts = append(n.Hosts, u.Hostname())
			}
		}
	}
	_, err := pki.Ensure(s.Authority, filepath.Join(s.Flags["data-dir"], "pki"), n, now, rand.Reader)
	return err
}
