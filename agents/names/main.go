// Package names is the program names of names.service: every unit and every
// machine of the cluster has a name, for the machines and for what runs in
// their containers.
//
// Each machine puts what it runs into the KV (directory, publish, containers)
// and answers questions from a mirror of all machines' words (zone, server) on
// an address that only it and its containers have. The resolver's
// configuration gets that address first. Questions for other domains go to the
// servers that the network gave.
//
// Left out: health checks beyond "the unit is active", and names for other
// machines than the cluster's.
package names

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/coracle-os/coracle/agents/kv/pki"
	"github.com/coracle-os/coracle/agents/names/containers"
	"github.com/coracle-os/coracle/agents/names/directory"
	"github.com/coracle-os/coracle/agents/names/server"
	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/network/resolv"
	"github.com/coracle-os/coracle/rootfs/network/split"
	"github.com/coracle-os/coracle/rootfs/network/state"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/vishvananda/netlink"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Main is the program names. Its settings are flags or the variables NAMES_*.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	err := run(ctx, args[1:], os.LookupEnv, stdio)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintf(stdio.Err, "names: %v\n", err)
		return 2
	}
	fmt.Fprintf(stdio.Err, "names: %v\n", err)
	return 1
}

var errUsage = errors.New("see names --help")

// settings are what the program is told.
type settings struct {
	domain, address, device              string
	endpoints, ca, cert, key, user, pass string
	own, machineID, hostname, public     string
	docker, pid1, units, network, local  string
}

func parse(args []string, env func(string) (string, bool), stdio program.Stdio) (s settings, err error) {
	fs := flag.NewFlagSet("names", flag.ContinueOnError)
	fs.SetOutput(stdio.Err)
	fs.StringVar(&s.domain, "domain", "coracle.internal", "domain of the cluster's names")
	fs.StringVar(&s.address, "address", "169.254.53.53", "address to answer on; the machine gets it, and no other machine reaches it")
	fs.StringVar(&s.device, "device", "names0", "interface that gets the address")
	fs.StringVar(&s.endpoints, "etcd-endpoints", "http://127.0.0.1:2379", "URLs of etcd, separated by commas")
	fs.StringVar(&s.ca, "etcd-cafile", "", "file with the authority of etcd's certificate")
	fs.StringVar(&s.cert, "etcd-certfile", "", "file with the certificate to show to etcd")
	fs.StringVar(&s.key, "etcd-keyfile", "", "file with the certificate's key")
	fs.StringVar(&s.user, "etcd-username", "", "etcd's user")
	fs.StringVar(&s.pass, "etcd-password", "", "the user's password")
	fs.StringVar(&s.own, "etcd-own", pki.Local, "directory with the certificates of the machine's own etcd, used when no files are named")
	fs.StringVar(&s.machineID, "machine-id", "", "what this machine is told from others by (default from /etc/machine-id)")
	fs.StringVar(&s.hostname, "hostname", "", "the machine's name (default the host name)")
	fs.StringVar(&s.public, "public-ip", "", "addresses of the machine, separated by commas (default those of its network)")
	fs.StringVar(&s.docker, "docker", containers.Socket, "socket of Docker")
	fs.StringVar(&s.pid1, "control", control.SocketPath, "socket of PID 1")
	fs.StringVar(&s.units, "units", "/run/fleet/units", "directory with the scheduler's units")
	fs.StringVar(&s.network, "network", state.Path, "file that says what the network gave")
	fs.StringVar(&s.local, "resolver", resolv.LocalPath, "file that tells the machine's resolver of this server")
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return s, err
	case err != nil, fs.NArg() > 0:
		return s, errUsage
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	fs.VisitAll(func(f *flag.Flag) {
		name := "NAMES_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if value, ok := env(name); ok && !given[f.Name] {
			f.Value.Set(value)
		}
	})
	s.domain = strings.Trim(s.domain, ".")
	if s.domain == "" || strings.ContainsAny(s.domain, " /@") {
		return s, fmt.Errorf("the domain %q is none: give one such as cluster.internal; %w", s.domain, errUsage)
	}
	if s.machineID == "" {
		id, err := os.ReadFile("/etc/machine-id")
		if err != nil {
			return s, fmt.Errorf("read the machine's id: %w", err)
		}
		s.machineID = strings.TrimSpace(string(id))
	}
	return s, nil
}

func run(ctx context.Context, args []string, env func(string) (string, bool), stdio program.Stdio) error {
	s, err := parse(args, env, stdio)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stdio.Err, nil))
	address, err := netip.ParseAddr(s.address)
	if err != nil {
		return fmt.Errorf("read the address %q: %w; %w", s.address, err, errUsage)
	}
	own := pki.In(s.own)
	secured := own.Readable()
	kv, err := s.connect()
	if err != nil {
		return err
	}
	defer kv.Close()
	ctx, stop := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop(nil)
	running.Go(func() {
		if err := pki.Await(ctx, own, secured, 5*time.Second); errors.Is(err, pki.ErrOther) {
			stop(err) // the service is started anew
		}
	})
	d := &directory.Directory{KV: kv, Prefix: directory.Prefix, Log: log}
	running.Go(func() { d.Watch(ctx) })
	said := make(chan map[string]directory.Entry)
	running.Go(func() { d.Publish(ctx, said) })
	m := &machine{settings: s, log: log, changed: make(chan struct{}, 1)}
	running.Go(func() { m.watch(ctx, said) })
	remove, err := s.install(address)
	if err != nil {
		return err
	}
	defer remove()
	answers := server.Server{Domain: s.domain, Zone: d.Zone, Upstream: func(name string) []netip.AddrPort { return upstream(s.network, name, address) }, Log: log}
	err = answers.Serve(ctx, netip.AddrPortFrom(address, 53).String(), func() {
		log.Info("answering", "domain", s.domain, "address", address)
		daemon.SdNotify(false, daemon.SdNotifyReady)
	})
	if cause := context.Cause(ctx); errors.Is(cause, pki.ErrOther) {
		return cause
	}
	return err
}

func (s settings) connect() (*clientv3.Client, error) {
	endpoints := strings.Split(s.endpoints, ",")
	if s.ca == "" && s.cert == "" {
		var own pki.Files
		endpoints, own = pki.Own(endpoints, pki.In(s.own))
		s.ca, s.cert, s.key = own.Authority, own.Certificate, own.Key
	}
	config := clientv3.Config{
		Endpoints: endpoints, Username: s.user, Password: s.pass, Logger: zap.NewNop(),
		DialTimeout: 5 * time.Second, DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second,
	}
	if s.ca != "" || s.cert != "" {
		tls, err := transport.TLSInfo{TrustedCAFile: s.ca, CertFile: s.cert, KeyFile: s.key}.ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("read the files for TLS with the KV: %w", err)
		}
		config.TLS = tls
	}
	kv, err := clientv3.New(config)
	if err != nil {
		return nil, fmt.Errorf("connect to the KV %q: %w", s.endpoints, err)
	}
	return kv, nil
}

// install gives the machine the address, and its resolver the server; the
// interface comes last, as its coming has the network daemon look.
func (s settings) install(address netip.Addr) (remove func(), err error) {
	data, err := json.Marshal(resolv.Local{Server: address, Domain: s.domain})
	if err != nil {
		return nil, fmt.Errorf("tell the resolver: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(s.local), 0o755); err != nil {
		return nil, fmt.Errorf("tell the resolver: %w", err)
	}
	if err := os.WriteFile(s.local, data, 0o644); err != nil {
		return nil, fmt.Errorf("tell the resolver: %w", err)
	}
	// A bridge without ports: every kernel that runs containers has those.
	link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: s.device}}
	if old, err := netlink.LinkByName(s.device); err == nil {
		netlink.LinkDel(old) // what a predecessor that was killed has left
	}
	remove = func() {
		os.Remove(s.local)
		netlink.LinkDel(link)
	}
	err = netlink.LinkAdd(link)
	if err == nil {
		err = netlink.AddrReplace(link, &netlink.Addr{IPNet: netlink.NewIPNet(address.AsSlice())})
	}
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	if err != nil {
		remove()
		return nil, fmt.Errorf("give the machine the address %v: %w", address, err)
	}
	return remove, nil
}

// upstream are the servers that the network gave for a name, without this one.
func upstream(path, name string, own netip.Addr) (servers []netip.AddrPort) {
	s, err := state.Read(path)
	if err != nil {
		return nil
	}
	for _, scope := range split.Choose(name, split.FromState(s)) {
		for _, a := range scope.Servers {
			if a != own {
				servers = append(servers, netip.AddrPortFrom(a, 53))
			}
		}
	}
	return servers
}
