package names

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coracle-os/coracle/agents/names/containers"
	"github.com/coracle-os/coracle/agents/names/directory"
	"github.com/coracle-os/coracle/agents/names/publish"
	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/network/state"
)

// machine watches what this machine runs.
type machine struct {
	settings settings
	log      *slog.Logger
	changed  chan struct{} // something did

	mu     sync.Mutex
	active map[string]bool // units that run
	list   []containers.Container
}

const (
	again    = time.Second
	lookAnew = 10 * time.Second // at the network's addresses
)

// watch says what the machine runs whenever that changes.
func (m *machine) watch(ctx context.Context, said chan<- map[string]directory.Entry) {
	var running sync.WaitGroup
	defer running.Wait()
	docker := make(chan bool, 1)
	running.Go(func() { m.watchUnits(ctx, docker) })
	running.Go(func() { m.watchContainers(ctx, docker) })
	tick := time.NewTicker(lookAnew)
	defer tick.Stop()
	for {
		select {
		case said <- publish.Entries(m.now()):
		case <-ctx.Done():
			return
		}
		select {
		case <-m.changed:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (m *machine) notify() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// now is what there is at this moment.
func (m *machine) now() publish.Machine {
	s := m.settings
	p := publish.Machine{ID: s.machineID, Hostname: s.hostname, Units: map[string]string{}}
	if p.Hostname == "" {
		p.Hostname, _ = os.Hostname()
	}
	for text := range strings.SplitSeq(s.public, ",") {
		if a, err := netip.ParseAddr(strings.TrimSpace(text)); err == nil {
			p.Addresses = append(p.Addresses, a)
		}
	}
	if len(p.Addresses) == 0 {
		p.Addresses = addresses(s.network)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p.Containers = slices.Clone(m.list)
	for name := range m.active {
		if file, err := os.ReadFile(filepath.Join(s.units, name)); err == nil {
			p.Units[name] = string(file)
		}
	}
	return p
}

// addresses are those by which other machines reach this one: of interfaces
// with a gateway, as the overlay's own have none.
func addresses(path string) (all []netip.Addr) {
	s, err := state.Read(path)
	if err != nil {
		return nil
	}
	for _, i := range s.Interfaces {
		if i.Gateway == "" {
			continue
		}
		for _, text := range i.Addresses {
			if p, err := netip.ParsePrefix(text); err == nil && !p.Addr().IsLinkLocalUnicast() {
				all = append(all, p.Addr())
			}
		}
	}
	return all
}

// watchUnits follows PID 1. docker is told whether docker.service runs.
func (m *machine) watchUnits(ctx context.Context, docker chan bool) {
	for ctx.Err() == nil {
		m.mu.Lock()
		m.active = map[string]bool{}
		m.mu.Unlock()
		err := control.Client{Path: m.settings.pid1}.Do(ctx, control.Request{Verb: control.Watch}, func(r control.Response) error {
			m.units(r.Units, docker)
			return nil
		})
		if ctx.Err() == nil {
			m.log.Debug("PID 1 is asked again", "error", err)
		}
		wait(ctx, again)
	}
}

func (m *machine) units(list []control.Unit, docker chan bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, u := range list {
		if u.Name == "docker.service" {
			select { // the newest counts
			case <-docker:
			default:
			}
			docker <- u.Active == "active"
		}
		if u.Active == "active" || u.Active == "reloading" {
			m.active[u.Name] = true
		} else {
			delete(m.active, u.Name)
		}
	}
	if len(list) > 0 {
		m.notify()
	}
}

// watchContainers follows Docker while docker.service runs; asking it
// otherwise would start it.
func (m *machine) watchContainers(ctx context.Context, docker <-chan bool) {
	for up := false; ; {
		following, stop := context.WithCancel(ctx)
		if up {
			go m.follow(following)
		}
		select {
		case <-ctx.Done():
		case up = <-docker:
		}
		stop()
		if ctx.Err() != nil {
			return
		}
		m.contain(nil)
	}
}

func (m *machine) follow(ctx context.Context) {
	client := containers.New(m.settings.docker)
	for ctx.Err() == nil {
		err := client.Watch(ctx, func(list []containers.Container) {
			if ctx.Err() == nil {
				m.contain(list)
			}
		})
		if ctx.Err() == nil {
			m.log.Info("Docker is asked again", "error", err)
		}
		wait(ctx, again)
	}
}

func (m *machine) contain(list []containers.Container) {
	m.mu.Lock()
	m.list = list
	m.mu.Unlock()
	m.notify()
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
