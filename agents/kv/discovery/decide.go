// Package discovery forms a new etcd cluster through a discovery token, for
// machines whose user-data is the same: each writes its name and address below
// one URL, waits until as many as the token was made for have done so, and
// takes the first of them as the initial cluster. It is for the etcd of this
// machine, which no longer speaks this protocol itself.
//
// The protocol is that of etcd 2.3 (Documentation/dev-internal/
// discovery_protocol.md), so that members of that time and of this can share a
// service. Left out on purpose: etcd 0.4's heartbeat of peers below the token
// and etcd 3's discovery over its own API.
package discovery

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Entry is one machine that registered with the token.
type Entry struct {
	ID      string // the member's id, hexadecimal
	Value   string // "name=peerURL", more with commas
	Created uint64 // the service's index: the order of registration
}

// Registry is what the service knows about a token.
type Registry struct {
	Size    int
	Entries []Entry
	Index   uint64 // of the service when it was read
}

// Self is this machine as it registers.
type Self struct {
	ID, Value string
	// Noted says that this data directory's note tells of the registration:
	// the entry is this machine's own and its member has never run.
	Noted bool
}

// Do is what comes next.
type Do string

// What Decide can answer.
const (
	Register Do = "register" // write the own entry
	Wait     Do = "wait"     // for more machines
	Form     Do = "form"     // start a member of Step.InitialCluster
	Full     Do = "full"     // the cluster Step.InitialCluster exists without this machine
	Withdraw Do = "withdraw" // delete the own entry, then refuse
	Refuse   Do = "refuse"   // nothing to be done without the owner
)

// Step is what comes next and why.
type Step struct {
	Do             Do
	Reason         string
	InitialCluster string // with Form and Full
}

// Decide says what comes next for self after reading r.
func Decide(r Registry, self Self) Step {
	if r.Size < 1 {
		return Step{Do: Refuse, Reason: fmt.Sprintf("the token is for a cluster of %d machines; make a new one with /new?size=N", r.Size)}
	}
	entries := slices.SortedFunc(slices.Values(r.Entries), func(a, b Entry) int { return cmp.Compare(a.Created, b.Created) })
	place := slices.IndexFunc(entries, func(e Entry) bool { return e.ID == self.ID })
	complete := len(entries) >= r.Size
	chosen := entries[:min(len(entries), r.Size)]
	if complete && (place < 0 || place >= r.Size) {
		return settled(chosen, Full, fmt.Sprintf("the token's cluster of %d is complete without this machine", r.Size))
	}
	if other, ok := namesake(entries, self); ok && (place < 0 || other.Created < entries[place].Created) {
		do := Refuse
		if place >= 0 && self.Noted {
			do = Withdraw
		}
		return Step{Do: do, Reason: fmt.Sprintf("two machines have the name %q: %s registered as %q before; give each machine a name of its own",
			name(self.Value), other.ID, other.Value)}
	}
	if place < 0 {
		return Step{Do: Register, Reason: fmt.Sprintf("%d of %d machines have registered", len(entries), r.Size)}
	}
	return registered(r, self, entries[place], chosen, complete)
}

// registered decides when the token has an entry with this machine's id.
func registered(r Registry, self Self, own Entry, chosen []Entry, complete bool) Step {
	switch {
	case own.Value != self.Value:
		return Step{Do: Refuse, Reason: fmt.Sprintf("another machine registered this machine's peer URLs: %s is %q, this machine is %q; two machines cannot share an address", own.ID, own.Value, self.Value)}
	case !self.Noted && complete:
		// Starting its member again without its data could undo a vote.
		return settled(chosen, Full, fmt.Sprintf("this machine is %s of the token's cluster but has lost its data, it can only join anew", own.ID))
	case !self.Noted:
		return Step{Do: Refuse, Reason: fmt.Sprintf("the token was used before by a machine of this name and address (%s, %q) whose data is not here; "+
			"use a new token, or delete that entry from the token if the machine was never part of a cluster", own.ID, own.Value)}
	case !complete:
		return Step{Do: Wait, Reason: fmt.Sprintf("%d of %d machines have registered", len(chosen), r.Size)}
	}
	return settled(chosen, Form, fmt.Sprintf("%d of %d machines have registered", len(chosen), r.Size))
}

// settled gives the initial cluster once it cannot change any more.
func settled(chosen []Entry, do Do, reason string) Step {
	var values []string
	seen := map[string]string{}
	for _, e := range chosen {
		n, urls, ok := strings.Cut(e.Value, "=")
		if !ok || n == "" || !strings.Contains(urls, "://") {
			return Step{Do: Refuse, Reason: fmt.Sprintf("the token's entry %s is %q and not name=URL; use a new token", e.ID, e.Value)}
		}
		if other := seen[n]; other != "" {
			return Step{Do: Refuse, Reason: fmt.Sprintf("two machines have the name %q: %s and %s; give each machine a name of its own and use a new token", n, other, e.ID)}
		}
		seen[n] = e.ID
		values = append(values, e.Value)
	}
	return Step{Do: do, Reason: reason, InitialCluster: strings.Join(values, ",")}
}

// namesake finds the first entry of another machine with self's name.
func namesake(entries []Entry, self Self) (Entry, bool) {
	for _, e := range entries {
		if e.ID != self.ID && name(e.Value) == name(self.Value) {
			return e, true
		}
	}
	return Entry{}, false
}

func name(value string) string {
	n, _, _ := strings.Cut(value, "=")
	return n
}
