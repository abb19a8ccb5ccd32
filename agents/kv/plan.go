package kv

import (
	"fmt"
	"slices"

	"github.com/coracle-os/coracle/agents/kv/datadir"
	"github.com/coracle-os/coracle/agents/kv/peers"
	"github.com/coracle-os/coracle/agents/kv/proxy"
)

// role is what a machine is next in its cluster.
type role string

const (
	asMember    role = "member"    // run etcd as it is configured
	asDiscovery role = "discovery" // form a cluster through the token, then decide anew
	asCandidate role = "candidate" // be a proxy and ask to become a member
	asProxy     role = "proxy"     // forward and nothing else
)

// facts are what the role is decided from.
type facts struct {
	forming   Forming
	state     datadir.State
	hasMember bool     // etcd's own data is there
	own       []string // this machine's peer URLs, as advertised and as the initial cluster has them
	initial   []string // peer URLs of the initial cluster, this machine's with them
	existing  bool     // the initial cluster's state
	forceNew  bool     // the owner begins anew from this machine's data
	// answers are the views of the initial cluster's other members, if any
	// answered.
	answers []peers.Cluster
}

// plan is a role with its reason and whom to turn to.
type plan struct {
	role    role
	reason  string
	peers   []string // peer URLs of members
	clients []string // client URLs of members
}

// decide gives the machine's role.
func decide(f facts) plan {
	known := f.state.Cluster
	if known != nil && len(known.Peers) == 0 { // a cluster of one: nobody could be asked
		known = nil
	}
	forwarding := f.forming.Proxy == proxy.On || f.forming.Proxy == proxy.Readonly
	switch {
	case f.hasMember:
		return plan{role: asMember, reason: "the data directory has a member"}
	case forwarding && known != nil:
		return plan{role: asProxy, reason: "ETCD_PROXY is " + string(f.forming.Proxy), peers: known.Peers}
	case forwarding && f.forming.Discovery == "":
		return plan{role: asProxy, reason: "ETCD_PROXY is " + string(f.forming.Proxy),
			peers: slices.DeleteFunc(slices.Clone(f.initial), func(u string) bool { return slices.Contains(f.own, u) })}
	case known != nil:
		return plan{role: asCandidate, reason: whatItWas(*known), peers: known.Peers, clients: slices.Concat(known.Clients, f.forming.Join)}
	case len(f.forming.Join) > 0:
		return plan{role: asCandidate, reason: "ETCD_JOIN is set and the data directory is empty", clients: f.forming.Join}
	case f.forming.Discovery != "":
		return plan{role: asDiscovery, reason: "ETCD_DISCOVERY is set and the data directory is empty"}
	case f.existing, f.forceNew:
		return plan{role: asMember, reason: "the owner's settings say so"}
	}
	return decideStatic(f)
}

func whatItWas(c datadir.Cluster) string {
	switch {
	case c.Member == "":
		return fmt.Sprintf("this machine stood by the cluster %s before (remove forming.json to begin anew)", c.ID)
	case c.Removed:
		return fmt.Sprintf("this machine's member %s was removed from the cluster %s", c.Member, c.ID)
	}
	return fmt.Sprintf("this machine was the member %s of the cluster %s and its data is gone: it cannot come back as the same one (remove forming.json too to begin a new cluster)", c.Member, c.ID)
}

// decideStatic tells a cluster that is formed now from one that already runs.
func decideStatic(f facts) plan {
	for _, c := range f.answers {
		i := slices.IndexFunc(c.Members, func(m peers.Member) bool {
			return slices.ContainsFunc(m.PeerURLs, func(u string) bool { return slices.Contains(f.own, u) })
		})
		runs := len(c.ClientURLs()) > 0
		switch {
		case i < 0 && runs:
			return plan{role: asCandidate, peers: c.PeerURLs(), clients: c.ClientURLs(),
				reason: fmt.Sprintf("the cluster %x runs and has no member with this machine's address", c.ID)}
		case i >= 0 && len(c.Members[i].ClientURLs) > 0: // it has run
			return plan{role: asCandidate, peers: c.PeerURLs(), clients: c.ClientURLs(),
				reason: fmt.Sprintf("the cluster %x runs with the member %q at this machine's address, whose data is not here: either it is lost, or two machines have one address", c.ID, c.Members[i].Name)}
		}
	}
	return plan{role: asMember, reason: "the data directory is empty and the initial cluster is given"}
}
