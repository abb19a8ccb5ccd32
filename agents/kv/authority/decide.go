package authority

import "fmt"

// action is what a machine does about its authority.
type action string

const (
	keep    action = "keep"
	create  action = "create"
	fetch   action = "fetch"   // and wait for it
	compare action = "compare" // with the cluster's, if one answers
	refuse  action = "refuse"
)

// facts are what the action is decided from.
type facts struct {
	there   bool  // the file
	problem error // why the file is no authority
	issued  bool  // a certificate of an authority was made here before
	member  bool  // etcd's data is here
	sources bool  // other machines are known
}

const copyIt = "copy the file from another machine of the cluster, or put a backup there"

// decide gives the action with its reason.
func decide(f facts) (action, string) {
	switch {
	case f.there && f.problem == nil && (f.member || !f.sources):
		return keep, "the authority is here"
	case f.there && f.problem == nil:
		return compare, "this machine has no member yet: its authority is compared with the cluster's"
	case f.there && f.sources:
		return fetch, fmt.Sprintf("the authority here is damaged and comes from another machine: %v", f.problem)
	case f.there:
		return refuse, fmt.Sprintf("%v: the file is damaged; %s", f.problem, copyIt)
	case f.sources:
		return fetch, "the authority comes from another machine of the cluster"
	case f.issued:
		return refuse, "the file is lost, and another authority would shut out everybody who has a certificate; " + copyIt +
			" (to begin a new cluster, remove the whole data directory)"
	}
	return create, "this machine begins the cluster and makes its authority"
}
