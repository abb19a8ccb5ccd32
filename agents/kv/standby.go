package kv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/coracle-os/coracle/agents/kv/admission"
	"github.com/coracle-os/coracle/agents/kv/datadir"
	"github.com/coracle-os/coracle/agents/kv/peers"
	"github.com/coracle-os/coracle/agents/kv/proxy"
	"github.com/coracle-os/coracle/agents/kv/role"
	"github.com/coreos/go-systemd/v22/daemon"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
)

// askEvery is the pause between two requests for admission.
const askEvery = 2 * time.Second

// stand is a machine without a member: its client ports lead to the members,
// and a candidate asks to become one. It returns when it was one and is not
// any more, or when ctx ends.
func (m *machine) stand(ctx context.Context, p role.Plan) error {
	s := &standby{machine: m, peers: p.Peers, clients: p.Clients}
	if p.Role == role.Proxy {
		if len(p.Peers) == 0 {
			return errors.New("be a proxy: no member is known; set ETCD_INITIAL_CLUSTER, ETCD_DISCOVERY or ETCD_DISCOVERY_SRV")
		}
		return s.forward(ctx)
	}
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	admitted, err := s.ask(asking)
	cancel()
	s.forwarding.Wait()
	if err != nil {
		return err
	}
	known := s.state()
	known.Size = admitted.Size
	if err := m.dir.Save(datadir.State{Cluster: &known}); err != nil {
		return err
	}
	m.tell("forming: this machine is admitted to the cluster "+admitted.InitialCluster, false)
	cfg := *m.cfg
	cfg.InitialCluster, cfg.ClusterState, cfg.DNSCluster = admitted.InitialCluster, embed.ClusterStateFlagExisting, ""
	return m.member(ctx, cfg)
}

// standby is one stay as a candidate or proxy.
type standby struct {
	*machine
	forwarding sync.WaitGroup
	failed     chan error

	mu             sync.Mutex
	peers, clients []string
}

// ask asks for admission until it is given, and forwards meanwhile.
func (s *standby) ask(ctx context.Context) (admission.Answer, error) {
	s.failed = make(chan error, 1)
	started := false
	said := ""
	for turn := 0; ; turn++ {
		answer, err := s.turn(ctx)
		text := fmt.Sprintf("forming: %s: %s", answer.State, answer.Reason)
		switch {
		case ctx.Err() != nil:
			return answer, ctx.Err()
		case err != nil:
			text = fmt.Sprintf("forming: %v", err)
		case answer.State == admission.Admitted:
			return answer, nil
		}
		if text != said {
			said = text
			s.tell(text, err != nil || answer.State == admission.Refused)
		}
		s.mu.Lock()
		known := len(s.peers) > 0
		s.mu.Unlock()
		if !started && known && (turn > 0 || s.token() == "") {
			started = true
			s.forwarding.Go(func() { s.failed <- s.forward(ctx) })
		}
		select {
		case <-ctx.Done():
			return answer, ctx.Err()
		case err := <-s.failed:
			if ctx.Err() == nil {
				return answer, err
			}
		case <-time.After(askEvery):
		}
	}
}

// turn asks the members that are known, and the leader that one names.
func (s *standby) turn(ctx context.Context) (admission.Answer, error) {
	if s.token() == "" {
		return admission.Answer{}, errors.New("this machine stays a proxy: no ETCD_JOIN_TOKEN is set to ask the members with")
	}
	stays := s.stays()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r := admission.Request{Name: s.cfg.Name, PeerURLs: urlStrings(s.cfg.AdvertisePeerUrls), Nonce: rand.Text(), OnlyAdded: stays != ""}
	contacts := s.contacts(ctx)
	var problems []error
	for i := 0; i < len(contacts) && i < 20; i++ {
		one, cancel := context.WithTimeout(ctx, 3*time.Second)
		a, err := admission.Send(one, s.machine.clients, contacts[i], s.token(), r)
		cancel()
		if err != nil {
			problems = append(problems, err)
			continue
		}
		s.learn(a.Peers)
		if a.State == admission.Waiting && stays != "" {
			a.Reason = stays + ": " + a.Reason
		}
		if a.State != admission.Ask {
			return a, nil
		}
		problems = append(problems, fmt.Errorf("%s says: %s", contacts[i], a.Reason))
		contacts = slices.Insert(contacts, i+1, a.Clients...)
	}
	if len(contacts) == 0 {
		problems = append(problems, errors.New("no member's client URL is known yet"))
	}
	return admission.Answer{}, fmt.Errorf("ask to join: %w", errors.Join(problems...))
}

// stays is the reason for which this machine does not ask to join by itself: it
// comes back only when the owner adds it, also after a restart.
func (s *standby) stays() string {
	switch state := s.state(); {
	case state.Dismissed:
		return "this machine stays a proxy: its member was removed while it lived, which only the owner does"
	case state.Removed && !s.forming.Heal:
		return "this machine stays a proxy: its member was removed and ETCD_HEAL is off"
	}
	return ""
}

// contacts are the client URLs to ask, read anew from the members because all
// that were known may be gone.
func (s *standby) contacts(ctx context.Context) []string {
	s.mu.Lock()
	known, clients := slices.Clone(s.peers), slices.Clone(s.clients)
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	for _, c := range peers.AskAll(ctx, s.machine.peers, known) {
		clients = append(c.ClientURLs(), clients...)
	}
	slices.Sort(clients)
	return slices.Compact(clients)
}

func (s *standby) learn(urls []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(urls) > 0 {
		s.peers = urls
	}
}

func (s *standby) state() datadir.Cluster {
	st, err := s.dir.Load()
	if err != nil || st.Cluster == nil {
		return datadir.Cluster{}
	}
	return *st.Cluster
}

// forward is the proxy.
func (s *standby) forward(ctx context.Context) error {
	mode := s.forming.Proxy
	if mode != proxy.Readonly {
		mode = proxy.On
	}
	listeners, err := s.listen(mode)
	if err != nil {
		return err
	}
	t, err := transport.NewTransport(s.cfg.ClientTLSInfo, s.forming.Times.Dial)
	if err != nil {
		return fmt.Errorf("read the clients' TLS settings: %w", err)
	}
	if s.cfg.ClientTLSInfo.Empty() {
		t.TLSClientConfig = nil
	}
	s.mu.Lock()
	known := slices.Clone(s.peers)
	s.mu.Unlock()
	s.sayReady(fmt.Sprintf("STATUS=%s forwards to the members", mode))
	return proxy.Run(ctx, proxy.Config{
		Mode: mode, Times: s.forming.Times, Listeners: listeners, Peers: known,
		PeerHTTP: &http.Client{Transport: s.machine.peers.Transport, Timeout: 3 * time.Second}, Members: t,
		Found: s.found, Tell: s.tell,
	})
}

// listen opens the client ports, with this machine's certificate when requests
// are read here.
func (s *standby) listen(mode proxy.Mode) ([]net.Listener, error) {
	var out []net.Listener
	for _, u := range s.cfg.ListenClientUrls {
		l, err := net.Listen("tcp", u.Host)
		if err == nil && mode == proxy.Readonly && u.Scheme == "https" {
			info := s.cfg.ClientTLSInfo
			l, err = transport.NewTLSListener(l, &info)
		}
		if err != nil {
			for _, l := range out {
				l.Close()
			}
			return nil, fmt.Errorf("listen for clients on %s: %w", u.Host, err)
		}
		out = append(out, l)
	}
	return out, nil
}

// found remembers the members over a restart.
func (s *standby) found(c peers.Cluster) {
	s.mu.Lock()
	s.peers, s.clients = c.PeerURLs(), c.ClientURLs()
	s.mu.Unlock()
	known := s.state()
	known.ID, known.Peers, known.Clients = fmt.Sprintf("%x", c.ID), c.PeerURLs(), c.ClientURLs()
	if err := s.dir.Save(datadir.State{Cluster: &known}); err != nil {
		s.tell(fmt.Sprintf("proxy: the members cannot be remembered: %v", err), true)
	}
}

// sayReady tells the service manager once, and the status each time.
func (m *machine) sayReady(status string) {
	if !m.ready {
		m.ready = true
		notify(m.log, daemon.SdNotifyReady)
	}
	notify(m.log, status)
}
