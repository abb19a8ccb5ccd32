// Package containers tells which Docker containers run on the machine and by
// which addresses they are reached: two requests of the Docker Engine API
// (v1.41 and later), the list of containers and the stream of events.
//
// Docker's own client library would bring tracing and registries along for
// these two; net/http does. dockerd is started by its socket, so nobody must
// call Watch while docker.service does not run.
package containers

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Socket is where Docker listens.
const Socket = "/run/docker.sock"

// UnitLabel is the label by which a container says whose unit's it is.
const UnitLabel = "coracle.unit"

// Container is a running container.
type Container struct {
	Name      string
	Unit      string       // UnitLabel's value; "" without
	Addresses []netip.Addr // none: it is on the machine's own network
	Ports     []Port
}

// Port is one that the image or the command line names.
type Port struct {
	Number uint16
	Proto  string // "tcp" or "udp"
}

// listed is what is read of /containers/json.
type listed struct {
	Names  []string
	Labels map[string]string
	Ports  []struct {
		PrivatePort uint16
		Type        string
	}
	NetworkSettings struct {
		Networks map[string]struct{ IPAddress, GlobalIPv6Address string }
	}
}

// maxList bounds an answer, in bytes.
const maxList = 16 << 20

// patience is how long Docker may take for an answer. One that hangs is asked
// again, and nobody waits for it.
const patience = 10 * time.Second

// Docker talks to one dockerd.
type Docker struct {
	client   *http.Client
	patience time.Duration
}

// New makes a client of the dockerd at socket.
func New(socket string) *Docker {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", socket)
	}
	return &Docker{client: &http.Client{Transport: &http.Transport{DialContext: dial, ResponseHeaderTimeout: patience}}, patience: patience}
}

func (d *Docker) get(ctx context.Context, path string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/v1.41"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask Docker: %w", err)
	}
	answer, err := d.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask Docker: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
		answer.Body.Close()
		return nil, fmt.Errorf("ask Docker for %s: %s: %s", path, answer.Status, strings.TrimSpace(string(text)))
	}
	return answer.Body, nil
}

// List lists the running containers by name.
func (d *Docker) List(ctx context.Context) ([]Container, error) {
	ctx, done := context.WithTimeout(ctx, d.patience)
	defer done()
	body, err := d.get(ctx, "/containers/json")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return parse(io.LimitReader(body, maxList))
}

func parse(r io.Reader) ([]Container, error) {
	var all []listed
	if err := json.NewDecoder(r).Decode(&all); err != nil {
		return nil, fmt.Errorf("read Docker's list of containers: %w", err)
	}
	var containers []Container
	for _, l := range all {
		if len(l.Names) == 0 {
			continue
		}
		c := Container{Name: strings.TrimPrefix(l.Names[0], "/"), Unit: l.Labels[UnitLabel]}
		for _, network := range l.NetworkSettings.Networks {
			for _, text := range []string{network.IPAddress, network.GlobalIPv6Address} {
				if a, err := netip.ParseAddr(text); err == nil && !slices.Contains(c.Addresses, a) {
					c.Addresses = append(c.Addresses, a)
				}
			}
		}
		slices.SortFunc(c.Addresses, netip.Addr.Compare)
		for _, p := range l.Ports {
			if port := (Port{Number: p.PrivatePort, Proto: p.Type}); !slices.Contains(c.Ports, port) {
				c.Ports = append(c.Ports, port)
			}
		}
		slices.SortFunc(c.Ports, func(a, b Port) int { return int(a.Number) - int(b.Number) })
		containers = append(containers, c)
	}
	slices.SortFunc(containers, func(a, b Container) int { return strings.Compare(a.Name, b.Name) })
	return containers, nil
}

// Watch calls changed with the running containers now and whenever one starts,
// ends, or is connected, until ctx ends or Docker does.
func (d *Docker) Watch(ctx context.Context, changed func([]Container)) error {
	filters := `{"type":["container","network"],"event":["start","die","rename","connect","disconnect"]}`
	body, err := d.get(ctx, "/events?filters="+strings.NewReplacer(`"`, "%22", "{", "%7B", "}", "%7D", "[", "%5B", "]", "%5D").Replace(filters))
	if err != nil {
		return err
	}
	defer body.Close()
	events := json.NewDecoder(body)
	for {
		list, err := d.List(ctx)
		if err != nil {
			return err
		}
		changed(list)
		var event struct{ Action string }
		if err := events.Decode(&event); err != nil {
			return fmt.Errorf("read Docker's events: %w", err)
		}
	}
}
