package fleetd

import (
	"crypto/tls"
	"fmt"
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
)

// connect makes a client of the KV. It does not wait for it: calls do.
func connect(cfg config.Config, own pki.Files) (*clientv3.Client, error) {
	if !cfg.EtcdServersGiven && cfg.EtcdCAFile == "" && own.Readable() {
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
