// Package role decides what a machine is next in its cluster: a member, a
// candidate that asks to become one, or a proxy. It is for the machine's etcd,
// and pure: what the disk and the network say goes in, a role with its reason
// comes out. The order of the ways of forming is etcd 2's, with Coracle's join.
package role

import (
	"fmt"
	"slices"

	"github.com/coracle-os/coracle/agents/kv/datadir"
	"github.com/coracle-os/coracle/agents/kv/peers"
	"github.com/coracle-os/coracle/agents/kv/proxy"
	"github.com/coracle-os/coracle/agents/kv/settings"
)

// Role is what a machine is next in its cluster.
type Role string

const (
	Member    Role = "member"    // run etcd as it is configured
	Discovery Role = "discovery" // form a cluster through the token, then decide anew
	Candidate Role = "candidate" // be a proxy and ask to become a member
	Proxy     Role = "proxy"     // forward and nothing else
)

// Facts are what the role is decided from.
type Facts struct {
	Forming   settings.Forming
	State     datadir.State
	HasMember bool     // etcd's own data is there
	Own       []string // this machine's peer URLs, as advertised and as the initial cluster has them
	Initial   []string // peer URLs of the initial cluster, this machine's with them
	Existing  bool     // the initial cluster's state
	ForceNew  bool     // the owner begins anew from this machine's data
	// answers are the views of the initial cluster's other members, if any
	// answered.
	Answers []peers.Cluster
}

// Plan is a role with its reason and whom to turn to.
type Plan struct {
	Role    Role
	Reason  string
	Peers   []string // peer URLs of members
	Clients []string // client URLs of members
}

// Decide gives the machine's role.
func Decide(f Facts) Plan {
	known := f.State.Cluster
	if known != nil && len(known.Peers) == 0 { // a cluster of one: nobody could be asked
		known = nil
	}
	forwarding := f.Forming.Proxy == proxy.On || f.Forming.Proxy == proxy.Readonly
	switch {
	case f.HasMember:
		return Plan{Role: Member, Reason: "the data directory has a member"}
	case forwarding && known != nil:
		return Plan{Role: Proxy, Reason: "ETCD_PROXY is " + string(f.Forming.Proxy), Peers: known.Peers}
	case forwarding && f.Forming.Discovery == "":
		return Plan{Role: Proxy, Reason: "ETCD_PROXY is " + string(f.Forming.Proxy),
			Peers: slices.DeleteFunc(slices.Clone(f.Initial), func(u string) bool { return slices.Contains(f.Own, u) })}
	case known != nil:
		return Plan{Role: Candidate, Reason: whatItWas(*known), Peers: known.Peers, Clients: slices.Concat(known.Clients, f.Forming.Join)}
	case len(f.Forming.Join) > 0:
		return Plan{Role: Candidate, Reason: "ETCD_JOIN is set and the data directory is empty", Clients: f.Forming.Join}
	case f.Forming.Discovery != "":
		return Plan{Role: Discovery, Reason: "ETCD_DISCOVERY is set and the data directory is empty"}
	case f.Existing, f.ForceNew:
		return Plan{Role: Member, Reason: "the owner's settings say so"}
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
func decideStatic(f Facts) Plan {
	for _, c := range f.Answers {
		i := slices.IndexFunc(c.Members, func(m peers.Member) bool {
			return slices.ContainsFunc(m.PeerURLs, func(u string) bool { return slices.Contains(f.Own, u) })
		})
		runs := len(c.ClientURLs()) > 0
		switch {
		case i < 0 && runs:
			return Plan{Role: Candidate, Peers: c.PeerURLs(), Clients: c.ClientURLs(),
				Reason: fmt.Sprintf("the cluster %x runs and has no member with this machine's address", c.ID)}
		case i >= 0 && len(c.Members[i].ClientURLs) > 0: // it has run
			return Plan{Role: Candidate, Peers: c.PeerURLs(), Clients: c.ClientURLs(),
				Reason: fmt.Sprintf("the cluster %x runs with the member %q at this machine's address, whose data is not here: either it is lost, or two machines have one address", c.ID, c.Members[i].Name)}
		}
	}
	return Plan{Role: Member, Reason: "the data directory is empty and the initial cluster is given"}
}
