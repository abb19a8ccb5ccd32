package fleetd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coracle-os/coracle/agents/fleet/agent"
	"github.com/coracle-os/coracle/agents/fleet/agent/memory"
	"github.com/coracle-os/coracle/agents/fleet/agent/store"
	"github.com/coracle-os/coracle/agents/fleet/agent/units"
	"github.com/coracle-os/coracle/agents/fleet/api"
	"github.com/coracle-os/coracle/agents/fleet/config"
	"github.com/coracle-os/coracle/agents/fleet/engine"
	"github.com/coracle-os/coracle/agents/fleet/fleetd/listen"
	"github.com/coracle-os/coracle/agents/fleet/registry"
	"github.com/coracle-os/coracle/agents/fleet/registry/mirror"
	"github.com/coracle-os/coracle/agents/kv/pki"
)

const (
	// mirrorIdle is how long a machine keeps what it has read of the cluster
	// after the last request.
	mirrorIdle = 5 * time.Minute
	// hangUp is how long requests and the engine may take to end.
	hangUp = 2 * time.Second
	// engineTTL is the leader's lease in engine_reconcile_interval, as in fleet.
	engineTTL = 5
)

// daemon is what one start of fleetd is made of.
type daemon struct {
	cfg     config.Config
	log     *slog.Logger
	paths   paths
	init    units.Init
	out     io.Writer // for SIGUSR1
	signals chan os.Signal
	check   func() error // tells what is wrong with the settings as they are now

	facts     *facts
	sockets   *listen.Sockets
	authority string // of the machine's own etcd, as it was before connecting
	client    *clientv3.Client
	registry  *registry.Registry
	mirror    *mirror.Mirror
	agent     *agent.Agent
	engine    *engine.Options // nil if this machine never decides
	server    *http.Server
}

// run takes part in the cluster until ctx ends.
func (d *daemon) run(ctx context.Context) error {
	var err error
	if d.facts, err = learn(d.cfg, d.paths, d.log); err != nil {
		return err
	}
	if err := d.listen(); err != nil {
		return err
	}
	defer d.sockets.Close()
	memory, err := memory.Open(d.paths.memory)
	if err != nil {
		return err
	}
	defer memory.Close()
	if memory.Notice != "" {
		d.log.Warn(memory.Notice)
	}
	own := pki.In(d.paths.pki)
	d.authority = authorityOf(own)
	if d.client, err = connect(d.cfg, own); err != nil {
		return err
	}
	defer d.client.Close()
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	d.assemble(memory, metrics)
	defer d.mirror.Close()
	return d.serve(ctx)
}

// listen takes the sockets that were passed.
func (d *daemon) listen() error {
	var err error
	if d.sockets, err = listen.Passed(activation.Files(false)); err != nil {
		return err
	}
	warnings, err := d.sockets.Secure(listen.Files{CA: d.cfg.TLSCAFile, Certificate: d.cfg.TLSCertFile, Key: d.cfg.TLSKeyFile})
	if err != nil {
		d.sockets.Close()
		return err
	}
	for _, w := range warnings {
		d.log.Warn(w)
	}
	if len(d.sockets.Listeners) == 0 {
		d.log.Warn("no socket was passed, so there is no API here; systemctl start fleet.socket and then fleet.service")
	}
	return nil
}

// assemble makes the parts; nothing runs yet.
func (d *daemon) assemble(m *memory.Memory, metrics *prometheus.Registry) {
	d.registry = registry.New(d.client, d.cfg.EtcdKeyPrefix, d.cfg.EtcdRequestTimeout)
	d.mirror = mirror.New(d.client, mirror.Options{Prefix: d.cfg.EtcdKeyPrefix, Idle: mirrorIdle, Log: d.log})
	id := d.facts.machine.ID
	d.agent = agent.New(agent.Config{Machine: d.facts.current, TTL: d.cfg.AgentTTL, Init: d.init, Memory: m, Log: d.log, Metrics: metrics,
		Store: store.Store{Registry: d.registry, ID: id}})
	if !d.cfg.DisableEngine {
		d.engine = &engine.Options{Registry: d.registry, MachineID: id, TTL: engineTTL * d.cfg.EngineReconcileInterval, Log: d.log, Metrics: engine.NewMetrics(metrics)}
	}
	handler := api.New(api.Options{Mirror: d.mirror, Registry: d.registry, Ready: d.agent.Registered, TokenLimit: d.cfg.TokenLimit,
		Timeout: 2 * d.cfg.EtcdRequestTimeout, Metrics: promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}), Log: d.log})
	d.server = &http.Server{Handler: count(handler, metrics), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelDebug)}
}

// count adds requests and their times to the metrics.
func count(h http.Handler, metrics *prometheus.Registry) http.Handler {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fleet_api_requests_total", Help: "Requests to the API, by method and status."}, []string{"method", "code"})
	times := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "fleet_api_request_duration_seconds", Help: "Times of requests to the API."}, []string{"method"})
	metrics.MustRegister(requests, times)
	return promhttp.InstrumentHandlerCounter(requests, promhttp.InstrumentHandlerDuration(times, h))
}

// serve runs the parts and listens to signals.
func (d *daemon) serve(ctx context.Context) error {
	working, stop := context.WithCancel(context.Background())
	deciding, abdicate := context.WithCancel(working)
	defer abdicate()
	var background, deciders sync.WaitGroup
	defer background.Wait()
	defer stop()
	failed := make(chan error, len(d.sockets.Listeners)+1)
	for _, l := range d.sockets.Listeners {
		background.Go(func() {
			if err := d.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve the API on %s: %w", l.Addr(), err)
			}
		})
	}
	leave := make(chan struct{})
	agentDone := d.runAgent(leave)
	background.Go(func() { d.facts.follow(working, d.agent.Update) })
	if usesOwn(d.cfg) {
		background.Go(func() {
			followOwn(working, pki.In(d.paths.pki), d.authority, ownEvery, func() { d.signals <- syscall.SIGHUP })
		})
	}
	background.Go(func() { watchdog(working, d.log, func() { _ = d.agent.Registered() }) })
	if d.engine != nil {
		deciders.Go(func() { engine.Run(deciding, *d.engine) })
	}
	defer d.hangUp()
	tell(d.log, sd.SdNotifyReady)
	d.log.Info("fleetd takes part in the cluster", "machine", d.facts.machine.ID, "etcd_servers", d.cfg.EtcdServers)
	for {
		select {
		case err := <-failed:
			return err
		case err := <-agentDone:
			return errors.Join(errors.New("the agent ended"), err)
		case s := <-d.signals:
			if s == syscall.SIGUSR1 {
				d.dump(ctx)
			} else if err := d.reload(func() { abdicate(); within(&deciders) }); err != nil {
				return err
			}
		case <-ctx.Done():
			tell(d.log, sd.SdNotifyStopping)
			d.log.Info("fleetd stops the cluster's units that run here, and leaves the cluster")
			abdicate()
			within(&deciders) // another machine decides where the units go
			close(leave)
			return <-agentDone
		}
	}
}

// runAgent runs the agent until leave is closed. It then stops units, which
// nothing else that goes wrong here is a reason for: without leave it ends with
// the process, as if that was killed.
func (d *daemon) runAgent(leave <-chan struct{}) <-chan error {
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() { <-leave; cancel() }()
		done <- d.agent.Run(ctx)
	}()
	return done
}

// within waits for a group, but not for ever.
func within(g *sync.WaitGroup) {
	done := make(chan struct{})
	go func() { g.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(hangUp):
	}
}

// hangUp ends the API.
func (d *daemon) hangUp() {
	ctx, cancel := context.WithTimeout(context.Background(), hangUp)
	defer cancel()
	if err := d.server.Shutdown(ctx); err != nil {
		d.server.Close()
	}
}

// reload executes the program again, if the settings are good. It only returns
// if it did not: with nil when all goes on as before.
func (d *daemon) reload(abdicate func()) error {
	if err := d.check(); err != nil {
		d.log.Error("The configuration is not reloaded; fleetd goes on with what it has", "err", err)
		return nil
	}
	d.log.Info("Reloading configuration")
	abdicate()
	d.hangUp()
	if err := d.sockets.Keep(); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	return fmt.Errorf("reload: execute fleetd again: %w", syscall.Exec("/proc/self/exe", os.Args, os.Environ()))
}
