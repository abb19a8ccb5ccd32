package ctl

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coracle-os/coracle/agents/fleet/api/client"
	"github.com/coracle-os/coracle/agents/fleet/ctl/remote"
)

// options are the flags that every command has.
type options struct {
	endpoint, driver, prefix     string
	timeout                      float64 // seconds
	tunnel, sshUser, knownHosts  string
	sshTimeout                   float64 // seconds
	strict                       bool
	caFile, certFile, keyFile    string
	debug, version, experimental bool
}

// flags makes a set with the flags of every command; their values are kept
// from one set to the next.
func (o *options) flags(name string) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&o.endpoint, "endpoint", cmp.Or(o.endpoint, client.DefaultEndpoint), "where the scheduler's API is: unix:///PATH, http://HOST:PORT or https://HOST:PORT")
	f.StringVar(&o.driver, "driver", cmp.Or(o.driver, "API"), "how to reach the scheduler: API")
	f.StringVar(&o.prefix, "etcd-key-prefix", cmp.Or(o.prefix, "/_coreos.com/fleet/"), "no effect: the scheduler's own configuration says it")
	f.BoolVar(&o.experimental, "experimental-api", o.experimental, "no effect: the API is always used")
	f.Float64Var(&o.timeout, "request-timeout", cmp.Or(o.timeout, 3), "seconds to wait for one answer of the scheduler")
	f.StringVar(&o.tunnel, "tunnel", o.tunnel, "HOST[:PORT] of a machine to go through by SSH")
	f.StringVar(&o.sshUser, "ssh-username", cmp.Or(o.sshUser, "core"), "user to log in as")
	f.Float64Var(&o.sshTimeout, "ssh-timeout", cmp.Or(o.sshTimeout, 10), "seconds to wait for an SSH connection")
	f.BoolVar(&o.strict, "strict-host-key-checking", o.strict || name == "fleetctl", "check the keys of SSH hosts")
	f.StringVar(&o.knownHosts, "known-hosts-file", cmp.Or(o.knownHosts, "~/.fleetctl/known_hosts"), "file with the keys of SSH hosts")
	f.StringVar(&o.caFile, "ca-file", o.caFile, "file with the authorities that may certify the scheduler (https)")
	f.StringVar(&o.certFile, "cert-file", o.certFile, "file with the client's certificate (https)")
	f.StringVar(&o.keyFile, "key-file", o.keyFile, "file with the client's key (https)")
	f.BoolVar(&o.debug, "debug", o.debug, "say what is done")
	f.BoolVar(&o.version, "version", o.version, "print the version")
	return f
}

// environment sets flags from FLEETCTL_<FLAG>; the command line is stronger.
func (o *options) environment(f *flag.FlagSet, getenv func(string) string) error {
	var errs []error
	f.VisitAll(func(one *flag.Flag) {
		name := "FLEETCTL_" + strings.ToUpper(strings.ReplaceAll(one.Name, "-", "_"))
		if value := getenv(name); value != "" {
			if err := f.Set(one.Name, value); err != nil {
				errs = append(errs, fmt.Errorf("variable %s: invalid value %q for --%s: %w", name, value, one.Name, err))
			}
		}
	})
	return errors.Join(errs...)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// connect makes the client of the API. Nothing is sent yet.
func (t *tool) connect(ctx context.Context) error {
	if err := t.options.noEtcd(); err != nil {
		return err
	}
	o := client.Options{Endpoint: t.options.endpoint, Timeout: seconds(t.options.timeout)}
	if o.Timeout <= 0 {
		return usageError{fmt.Errorf("invalid value %v for --request-timeout: give seconds above 0", t.options.timeout)}
	}
	var err error
	if o.TLS, err = t.tls(); err != nil {
		return err
	}
	if t.options.tunnel != "" {
		tunnel, err := t.remote().DialTunnel(ctx)
		if err != nil {
			return fmt.Errorf("open the tunnel: %w", err)
		}
		t.close = append(t.close, func() { tunnel.Close() })
		o.Dial = through(tunnel)
	}
	if t.options.debug {
		o.Dial = t.tell(o.Dial)
	}
	if t.api, err = client.New(o); err != nil {
		return usageError{err}
	}
	t.close = append(t.close, t.api.Close)
	return nil
}

// noEtcd tells people who know the driver "etcd" what there is instead.
func (o *options) noEtcd() error {
	const next = "use the API: --endpoint=unix:///var/run/fleet.sock on a machine (the default), --tunnel=HOST from elsewhere, or http://HOST:49153 if the machine's fleet.socket listens there"
	if strings.EqualFold(o.driver, "etcd") {
		return fmt.Errorf("--driver=etcd is gone: only the scheduler itself reads and writes the KV; %s", next)
	}
	if !strings.EqualFold(o.driver, "api") {
		return fmt.Errorf("unrecognized driver %q: %s", o.driver, next)
	}
	if u, err := url.Parse(o.endpoint); err == nil && (u.Port() == "2379" || u.Port() == "4001") {
		return fmt.Errorf("the endpoint %s is the KV's, and the driver etcd is gone; %s", o.endpoint, next)
	}
	return nil
}

// tls reads the files that https needs, nil when none is named.
func (t *tool) tls() (*tls.Config, error) {
	o := t.options
	if o.caFile == "" && o.certFile == "" && o.keyFile == "" {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.caFile != "" {
		data, err := os.ReadFile(o.caFile)
		if err != nil {
			return nil, fmt.Errorf("read --ca-file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("read --ca-file: %q has no certificate in PEM form", o.caFile)
		}
	}
	if o.certFile != "" || o.keyFile != "" {
		if o.certFile == "" || o.keyFile == "" {
			return nil, usageError{errors.New("--cert-file and --key-file go together: give both or none")}
		}
		pair, err := tls.LoadX509KeyPair(o.certFile, o.keyFile)
		if err != nil {
			return nil, fmt.Errorf("read --cert-file and --key-file: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// remote says how machines are reached by SSH.
func (t *tool) remote() *remote.Config {
	o := t.options
	c := &remote.Config{User: o.sshUser, Timeout: seconds(o.sshTimeout), Strict: o.strict, KnownHosts: t.path(o.knownHosts),
		Tunnel: o.tunnel, Agent: t.getenv("SSH_AUTH_SOCK"), Ask: func(question string) bool { return yes(t.ask(question)) }}
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		c.Keys = append(c.Keys, filepath.Join(t.home, ".ssh", name))
	}
	return c
}

func yes(answer string) bool {
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// through connects by the tunnel's machine: to its sockets with the fleetctl
// that is there, as fleet's fleetctl does.
func through(tunnel *remote.Client) dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if network == "unix" {
			return tunnel.Pipe("fleetctl fd-forward " + quote(address))
		}
		return tunnel.DialContext(ctx, network, address)
	}
}

func (t *tool) tell(dial dialer) dialer {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		start := time.Now()
		c, err := dial(ctx, network, address)
		t.warn("DEBUG connect to %s %s: %s, error %v", network, address, time.Since(start).Round(time.Microsecond), err)
		return c, err
	}
}

// quote makes a word of a shell command.
func quote(word string) string {
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789@%+=:,./-_"
	if word != "" && strings.Trim(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
