package ctl

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/api"
	"github.com/coracle-os/coracle/agents/fleet/engine"
	"github.com/coracle-os/coracle/agents/fleet/registry"
	"github.com/coracle-os/coracle/agents/fleet/registry/mirror"
	"github.com/coracle-os/coracle/rootfs/program"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// store is a real etcd of one member, which all tests share, each with a
// prefix of its own.
type store struct {
	etcd   *embed.Etcd
	client *clientv3.Client
}

func startStore(dir string) (*store, error) {
	c := embed.NewConfig()
	c.Dir, c.UnsafeNoFsync = filepath.Join(dir, "etcd"), true
	c.LogLevel, c.LogOutputs = "panic", []string{filepath.Join(dir, "log")}
	free := func() []url.URL {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil
		}
		defer l.Close()
		return []url.URL{{Scheme: "http", Host: l.Addr().String()}}
	}
	c.ListenPeerUrls, c.ListenClientUrls = free(), free()
	c.AdvertisePeerUrls, c.AdvertiseClientUrls = c.ListenPeerUrls, c.ListenClientUrls
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	e, err := embed.StartEtcd(c)
	if err != nil {
		return nil, err
	}
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(time.Minute):
		return nil, fmt.Errorf("etcd is not ready after a minute")
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{c.ListenClientUrls[0].String()}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	return &store{e, client}, err
}

var (
	shared *store // set once, by TestMain
	number atomic.Int32
)

// TestMain lets the test's own binary be fleetctl, for tunnels.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "fleetctl" {
		os.Exit(Main(context.Background(), os.Args, program.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
	}
	dir, err := os.MkdirTemp("", "ctl")
	if err == nil {
		shared, err = startStore(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	shared.client.Close()
	shared.etcd.Server.HardStop()
	shared.etcd.Close()
	os.RemoveAll(dir)
	os.Exit(code)
}

// world is a cluster: the real API, registry and engine over a real etcd, and
// machines whose agents and inits are simulated.
type world struct {
	t        testing.TB
	ctx      context.Context
	dir      string // the person's working directory
	registry *registry.Registry
	handler  http.Handler
	socket   string // of the API
	env      map[string]string
	own      string // path of the file with the machine's own id
	patience time.Duration
	in       string
}

func newWorld(t testing.TB) *world {
	ctx, cancel := context.WithCancel(context.Background())
	dir, err := os.MkdirTemp("", "ctl-") // short, for socket names
	must(t, err)
	prefix := fmt.Sprintf("/ctl-%d/", number.Add(1))
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	m := mirror.New(shared.client, mirror.Options{Prefix: prefix, Log: log})
	w := &world{t: t, ctx: ctx, dir: dir, registry: registry.New(shared.client, prefix, 5*time.Second), socket: filepath.Join(dir, "fleet.sock"),
		env: map[string]string{}, own: filepath.Join(dir, "machine-id"), patience: 30 * time.Second}
	w.handler = api.New(api.Options{Mirror: m, Registry: w.registry, Timeout: 10 * time.Second, Log: log})
	l, err := net.Listen("unix", w.socket)
	must(t, err)
	server := &http.Server{Handler: w.handler}
	var background sync.WaitGroup
	background.Go(func() { server.Serve(l) })
	background.Go(func() { engine.Run(ctx, engine.Options{Registry: w.registry, MachineID: "engine", Log: log}) })
	t.Cleanup(func() {
		server.Close()
		cancel()
		background.Wait()
		m.Close()
		os.RemoveAll(dir)
	})
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// machine lets a machine take part. Its init finds that /bin/false fails.
func (w *world) machine(m fleet.Machine) {
	w.t.Helper()
	lease, err := w.registry.Client.Grant(w.ctx, 600)
	must(w.t, err)
	_, err = w.registry.Register(w.ctx, m, lease.ID)
	must(w.t, err)
	go func() {
		w.registry.WatchSchedule(w.ctx, m.ID, slog.New(slog.NewTextHandler(io.Discard, nil)), func(s registry.Schedule) {
			for _, u := range s.Units {
				w.act(m, lease.ID, u)
			}
		}, nil)
	}()
}

// act does what an agent and an init do with a unit.
func (w *world) act(m fleet.Machine, lease clientv3.LeaseID, u registry.Scheduled) {
	if u.State == fleet.Inactive {
		w.registry.RemoveToken(w.ctx, u) // if it fails the schedule comes again
		return
	}
	state := fleet.UnitState{Unit: u.Unit, Machine: m.ID, Hash: u.Hash, Load: "loaded", Active: "inactive", Sub: "dead", Since: time.Unix(1700000000, 0)}
	if u.State == fleet.Launched {
		state.Active, state.Sub = "active", "running"
		contents, err := w.registry.Contents(w.ctx, []string{u.Hash})
		if err == nil && strings.Contains(contents[u.Hash], "/bin/false") {
			state.Active, state.Sub = "failed", "failed"
		}
	}
	w.registry.PublishStates(w.ctx, lease, []fleet.UnitState{state})
}

// three are machines as the tests want them.
func (w *world) three() *world {
	for i, kind := range []string{"web", "web", "db"} {
		id := strings.Repeat(fmt.Sprint(i+1), 32)
		w.machine(fleet.Machine{ID: id, BootID: "b" + id, PublicIP: fmt.Sprintf("10.0.0.%d", i+1), Version: fleet.Version,
			Metadata: map[string]string{"compute": kind, "rack": fmt.Sprintf("rack%d", i+1)}, CPU: 4000, Memory: 8 << 30})
	}
	return w
}

func (w *world) file(name, content string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	must(w.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(w.t, os.WriteFile(path, []byte(content), 0o644))
	return path
}

// fleetctl runs one call.
func (w *world) fleetctl(args ...string) (stdout, stderr string, code int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	var out, errOut bytes.Buffer
	code = w.call(ctx, program.Stdio{In: strings.NewReader(w.in), Out: &out, Err: &errOut}, args...)
	if ctx.Err() != nil {
		w.t.Fatalf("fleetctl %q does not end; output %q, errors %q", args, out.String(), errOut.String())
	}
	return out.String(), errOut.String(), code
}

func (w *world) call(ctx context.Context, stdio program.Stdio, args ...string) int {
	env := map[string]string{"FLEETCTL_ENDPOINT": "unix://" + w.socket, "FLEETCTL_REQUEST_TIMEOUT": "20"}
	for k, v := range w.env {
		env[k] = v
	}
	t := &tool{Stdio: stdio, getenv: func(name string) string { return env[name] }, home: w.dir, machineID: w.own,
		tick: 20 * time.Millisecond, patience: w.patience}
	return t.main(ctx, args)
}
