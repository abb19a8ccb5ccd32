package fleetd

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/coracle-os/coracle/agents/fleet/config"
	"github.com/coracle-os/coracle/agents/kv/pki"
)

// Times of the connection to the KV: one that is dead must be noticed well
// before the machine's lease ends.
const (
	dialTimeout   = 5 * time.Second
	keepAliveTime = 5 * time.Second
	keepAliveWait = 3 * time.Second
	// ownEvery is how often the own etcd's authority is looked at.
	ownEvery = 5 * time.Second
)

// usesOwn tells whether the KV is the machine's own etcd, by its certificates if
// it has some.
func usesOwn(cfg config.Config) bool { return !cfg.EtcdServersGiven && cfg.EtcdCAFile == "" }

// connect makes a client of the KV. It does not wait for it: calls do.
func connect(cfg config.Config, own pki.Files) (*clientv3.Client, error) {
	if usesOwn(cfg) && own.Readable() {
		for i, s := range cfg.EtcdServers {
			cfg.EtcdServers[i] = strings.Replace(s, "http:", "https:", 1)
		}
		cfg.EtcdCAFile, cfg.EtcdCertFile, cfg.EtcdKeyFile = own.Authority, own.Certificate, own.Key
	}
	var secure *tls.Config
	if cfg.EtcdCAFile != "" || cfg.EtcdCertFile != "" {
		var err error
		secure, err = transport.TLSInfo{CertFile: cfg.EtcdCertFile, KeyFile: cfg.EtcdKeyFile, TrustedCAFile: cfg.EtcdCAFile}.ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("connect to the KV (etcd_cafile, etcd_certfile, etcd_keyfile): %w", err)
		}
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: cfg.EtcdServers, TLS: secure, Username: cfg.EtcdUsername, Password: cfg.EtcdPassword,
		DialTimeout: dialTimeout, DialKeepAliveTime: keepAliveTime, DialKeepAliveTimeout: keepAliveWait, Logger: zap.NewNop()})
	if err != nil {
		return nil, fmt.Errorf("connect to the KV at %q: %w", cfg.EtcdServers, err)
	}
	return client, nil
}

// authorityOf is the text of the machine's own authority, "" if it has none.
func authorityOf(own pki.Files) string {
	if !own.Readable() {
		return ""
	}
	text, err := os.ReadFile(own.Authority)
	if err != nil {
		return ""
	}
	return string(text)
}

// followOwn calls changed once when the machine's own etcd has got another
// authority than known, or its first one. Certificates of the same authority
// need no care: each connection reads them anew.
func followOwn(ctx context.Context, own pki.Files, known string, every time.Duration, changed func()) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now := authorityOf(own); now != "" && now != known {
			changed()
			return
		}
	}
}
