package locksmith

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/coracle-os/coracle/agents/kv/pki"
	"github.com/coracle-os/coracle/agents/locksmith/window"
	"github.com/coracle-os/coracle/rootfs/unit/envfile"
)

// Strategy is when a machine may reboot into a new release.
type Strategy string

// The strategies. BestEffort is EtcdLock on a machine with a key-value store
// and Reboot on one without.
const (
	BestEffort Strategy = "best-effort"
	EtcdLock   Strategy = "etcd-lock"
	Reboot     Strategy = "reboot"
	Off        Strategy = "off"
)

// strategies lists them for messages.
var strategies = []Strategy{Reboot, EtcdLock, BestEffort, Off}

// confFiles are the files with settings below the root, later ones win.
var confFiles = []string{"usr/share/coracle/update.conf", "usr/share/coreos/update.conf", "etc/coreos/update.conf"}

// Config is what the two programs are told.
type Config struct {
	Strategy Strategy
	Window   window.Window
	Store    StoreConfig
	Drain    time.Duration // how long units may take to leave before a reboot; 0 is not to drain
}

// StoreConfig says where the semaphore is and how to get there.
type StoreConfig struct {
	Endpoints                 []string
	CAFile, CertFile, KeyFile string
	Username, Password        string
	Group                     string
}

// defaultEndpoint is the machine's own member.
const defaultEndpoint = "http://127.0.0.1:2379"

// ReadConfig reads the files below root and then the environment, which wins.
// Variables of the store are LOCKSMITHD_*, or LOCKSMITHCTL_* for the tool;
// prefix says which. A machine that says nothing has best-effort: a store that
// is there is not broken by updates, and none is needed.
func ReadConfig(root string, environ []string, prefix string) (Config, error) {
	values := map[string]string{}
	for _, name := range confFiles {
		if err := readInto(values, filepath.Join(root, name)); err != nil {
			return Config{}, err
		}
	}
	for _, e := range environ {
		if name, value, ok := strings.Cut(e, "="); ok && value != "" {
			values[name] = value
		}
	}
	first := func(names ...string) string {
		for _, n := range names {
			if values[n] != "" {
				return values[n]
			}
		}
		return ""
	}
	c := Config{Strategy: Strategy(first("LOCKSMITHD_REBOOT_STRATEGY", "REBOOT_STRATEGY")), Store: StoreConfig{
		CAFile: first(prefix + "ETCD_CAFILE"), CertFile: first(prefix + "ETCD_CERTFILE"), KeyFile: first(prefix + "ETCD_KEYFILE"),
		Username: first(prefix + "ETCD_USERNAME"), Password: first(prefix + "ETCD_PASSWORD"), Group: first(prefix + "GROUP"),
	}}
	c.Store.SetEndpoints(first(prefix + "ENDPOINT"))
	if c.Strategy == "" {
		c.Strategy = BestEffort
	}
	if !slices.Contains(strategies, c.Strategy) {
		return c, fmt.Errorf("read settings: REBOOT_STRATEGY=%s: use one of %q", c.Strategy, strategies)
	}
	var err error
	c.Window, err = window.Parse(first("LOCKSMITHD_REBOOT_WINDOW_START", "REBOOT_WINDOW_START"), first("LOCKSMITHD_REBOOT_WINDOW_LENGTH", "REBOOT_WINDOW_LENGTH"))
	if err != nil {
		return c, fmt.Errorf("read settings: %w", err)
	}
	c.Drain = drainFor
	if value := first("LOCKSMITHD_DRAIN_TIMEOUT", "DRAIN_TIMEOUT"); value != "" {
		if c.Drain, err = time.ParseDuration(value); err != nil || c.Drain < 0 {
			return c, fmt.Errorf("read settings: DRAIN_TIMEOUT=%s: give a time like 2m, or 0s to reboot without draining", value)
		}
	}
	return c, nil
}

func readInto(values map[string]string, path string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	maps.Copy(values, envfile.Map(data))
	return nil
}

// SetEndpoints takes addresses separated by commas; "" is the machine's own
// member.
func (c *StoreConfig) SetEndpoints(list string) {
	c.Endpoints = nil
	for e := range strings.SplitSeq(list, ",") {
		if e = strings.TrimSpace(e); e != "" {
			c.Endpoints = append(c.Endpoints, e)
		}
	}
	if c.Endpoints == nil {
		c.Endpoints = []string{defaultEndpoint}
		if c.CAFile == "" {
			var own pki.Files
			c.Endpoints, own = pki.Own(c.Endpoints, pki.In(pki.Local))
			c.CAFile, c.CertFile, c.KeyFile = own.Authority, own.Certificate, own.Key
		}
	}
}

// dial makes a client. It does not wait for the store: calls do.
func (c StoreConfig) dial(endpoints []string) (*clientv3.Client, error) {
	var tlsConfig *tls.Config
	if c.CAFile != "" || c.CertFile != "" || c.KeyFile != "" {
		info := transport.TLSInfo{CertFile: c.CertFile, KeyFile: c.KeyFile, TrustedCAFile: c.CAFile}
		var err error
		if tlsConfig, err = info.ClientConfig(); err != nil {
			return nil, fmt.Errorf("connect to the key-value store: %w", err)
		}
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, TLS: tlsConfig, Username: c.Username, Password: c.Password,
		DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return nil, fmt.Errorf("connect to the key-value store at %q: %w", endpoints, err)
	}
	return client, nil
}
