package kv

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/coracle-os/coracle/agents/kv/care"
	"github.com/coracle-os/coracle/agents/kv/datadir"
	"github.com/coracle-os/coracle/agents/kv/discovery"
	"github.com/coracle-os/coracle/agents/kv/peers"
	"github.com/coracle-os/coracle/agents/kv/proxy"
	"github.com/coracle-os/coracle/agents/kv/role"
	"github.com/coracle-os/coracle/agents/kv/settings"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.uber.org/zap"
)

// machine is this machine's part in a cluster: a member, a proxy, or on the
// way from one to the other.
type machine struct {
	cfg     *embed.Config
	forming settings.Forming
	backup  care.Config
	log     *zap.Logger
	dir     datadir.Dir
	peers   *http.Client // for the members' peer ports
	clients *http.Client // for their client ports
	ready   bool         // the service manager has been told
}

// errRemoved says that the member is no longer one and that its data has been
// moved aside.
var errRemoved = errors.New("the member was removed from the cluster")

func newMachine(cfg *embed.Config, f settings.Forming, backup care.Config, log *zap.Logger) (*machine, error) {
	peerTLS, clientTLS := cfg.PeerTLSInfo, cfg.ClientTLSInfo
	// Certificates that members make for themselves only hide the traffic.
	peerTLS.InsecureSkipVerify = peerTLS.InsecureSkipVerify || cfg.PeerAutoTLS
	clientTLS.InsecureSkipVerify = clientTLS.InsecureSkipVerify || cfg.ClientAutoTLS
	peerTransport, err := transport.NewTransport(peerTLS, 2*time.Second)
	if err != nil {
		return nil, fmt.Errorf("read the peers' TLS settings: %w", err)
	}
	clientTransport, err := transport.NewTransport(clientTLS, 2*time.Second)
	if err != nil {
		return nil, fmt.Errorf("read the clients' TLS settings: %w", err)
	}
	return &machine{
		cfg: cfg, forming: f, backup: backup, log: log, dir: datadir.Dir{Path: cfg.Dir},
		peers: &http.Client{Transport: peerTransport}, clients: &http.Client{Transport: clientTransport},
	}, nil
}

// run is the machine's whole life in its cluster: each turn decides what it is
// next from what is on the disk and what the network says.
func (m *machine) run(ctx context.Context) error {
	if err := os.MkdirAll(m.cfg.Dir, 0o700); err != nil {
		return explain(m.cfg.Dir, fmt.Errorf("make the data directory: %w", err))
	}
	m.dir.Clean()
	for ctx.Err() == nil {
		f, err := m.facts(ctx)
		if err != nil {
			return explain(m.cfg.Dir, err)
		}
		p := role.Decide(f)
		m.log.Info(fmt.Sprintf("forming: this machine is a %s: %s", p.Role, p.Reason))
		switch p.Role {
		case role.Member:
			err = m.member(ctx, *m.cfg)
		case role.Discovery:
			err = m.discover(ctx)
		default:
			err = m.stand(ctx, p)
		}
		if err != nil && !errors.Is(err, errRemoved) {
			if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				return nil
			}
			return explain(m.cfg.Dir, err)
		}
	}
	return nil
}

// facts reads the disk, and asks the members of a static cluster when it is
// open whether that runs already.
func (m *machine) facts(ctx context.Context) (role.Facts, error) {
	state, err := m.dir.Load()
	if err != nil {
		return role.Facts{}, err
	}
	f := role.Facts{
		Forming: m.forming, State: state, HasMember: hasMember(m.cfg.Dir, m.cfg.WalDir), Own: urlStrings(m.cfg.AdvertisePeerUrls),
		Existing: m.cfg.ClusterState == embed.ClusterStateFlagExisting, ForceNew: m.cfg.ForceNewCluster,
	}
	list := m.cfg.InitialCluster
	if m.cfg.DNSCluster != "" && !f.HasMember {
		list = m.resolve()
	}
	if list != "" {
		urls, err := types.NewURLsMap(list)
		if err != nil {
			return f, fmt.Errorf("read the initial cluster %q: %w", list, err)
		}
		f.Initial = urls.URLs()
		f.Own = append(f.Own, urls[m.cfg.Name].StringSlice()...) // may have names in place of addresses
	}
	if role.Decide(f).Role == role.Member && !f.HasMember && !f.Existing && !f.ForceNew {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		f.Answers = peers.AskAll(ctx, m.peers, slices.DeleteFunc(slices.Clone(f.Initial), func(u string) bool { return slices.Contains(f.Own, u) }))
	}
	return f, nil
}

// resolve gives the initial cluster of DNS SRV records; etcd reads them again
// by itself and tells what is wrong with them.
func (m *machine) resolve() string {
	names, err := m.cfg.GetDNSClusterNames()
	if len(names) == 0 && err != nil {
		m.log.Warn("forming: the DNS SRV records cannot be read", zap.String("domain", m.cfg.DNSCluster), zap.Error(err))
	}
	return strings.Join(names, ",")
}

// discover forms the cluster of the token and runs this machine's member, or
// remembers the cluster that is complete without it.
func (m *machine) discover(ctx context.Context) error {
	observing := m.forming.Proxy == proxy.On || m.forming.Proxy == proxy.Readonly
	r, err := m.useToken(ctx, observing)
	if err != nil {
		return err
	}
	urls, err := types.NewURLsMap(r.InitialCluster)
	if err != nil {
		return fmt.Errorf("read the cluster %q of the discovery token: %w; use a new token", r.InitialCluster, err)
	}
	if r.Full {
		if m.forming.FallbackExit && !observing {
			return fmt.Errorf("use the discovery token: %s, and ETCD_DISCOVERY_FALLBACK is exit", r.Reason)
		}
		return m.dir.Save(datadir.State{Cluster: &datadir.Cluster{ID: "of " + m.forming.Discovery, Peers: urls.URLs(), Size: r.Size}})
	}
	cfg := *m.cfg
	cfg.InitialCluster, cfg.InitialClusterToken, cfg.ClusterState = r.InitialCluster, m.forming.Discovery, embed.ClusterStateFlagNew
	return m.member(ctx, cfg)
}

func (m *machine) useToken(ctx context.Context, observing bool) (discovery.Result, error) {
	state, err := m.dir.Load()
	if err != nil {
		return discovery.Result{}, err
	}
	id := membership.NewMember(m.cfg.Name, m.cfg.AdvertisePeerUrls, m.forming.Discovery, nil).ID.String()
	var value []string
	for _, u := range urlStrings(m.cfg.AdvertisePeerUrls) {
		value = append(value, m.cfg.Name+"="+u)
	}
	noted := state.Discovery != nil && *state.Discovery == datadir.Registration{URL: m.forming.Discovery, ID: id}
	t := http.DefaultTransport.(*http.Transport).Clone()
	if via, err := url.Parse(m.forming.DiscoveryProxy); err == nil && via.Host != "" {
		t.Proxy = http.ProxyURL(via)
	}
	self := discovery.Self{ID: id, Value: strings.Join(value, ","), Noted: noted}
	if observing {
		self = discovery.Self{}
	}
	return discovery.Run(ctx, discovery.Config{
		URL:      m.forming.Discovery,
		HTTP:     &http.Client{Transport: t},
		Self:     self,
		Observe:  observing,
		Note:     func(registered bool) error { return m.note(id, registered) },
		Tell:     m.tell,
		MaxPause: time.Minute,
	})
}

func (m *machine) note(id string, registered bool) error {
	s, err := m.dir.Load()
	if err != nil {
		return err
	}
	s.Discovery = nil
	if registered {
		s.Discovery = &datadir.Registration{URL: m.forming.Discovery, ID: id}
	}
	return m.dir.Save(s)
}

// tell logs a step, and shows it in the unit's status.
func (m *machine) tell(text string, failure bool) { teller(m.log)(text, failure) }

// token is what machines that ask to join must know: the owner's word for it,
// or the discovery token that all of them have in common.
func (m *machine) token() string {
	if m.forming.JoinToken != "" {
		return m.forming.JoinToken
	}
	return m.forming.Discovery
}

func urlStrings(urls []url.URL) []string {
	var out []string
	for _, u := range urls {
		out = append(out, u.String())
	}
	return out
}
