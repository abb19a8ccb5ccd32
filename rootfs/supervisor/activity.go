package supervisor

import "github.com/coracle-os/coracle/rootfs/transaction"

// activity is the state of a unit that has no process of its own: a socket, a
// timer, a path or an automount point. It is what their drivers have in common.
type activity struct {
	sub     string // "dead", "failed", or a word that means that it is active or on the way
	outcome string // the Result property
}

func (a *activity) state() (transaction.State, string) {
	switch a.sub {
	case "dead":
		return transaction.Inactive, a.sub
	case "failed":
		return transaction.Failed, a.sub
	case "start-pre", "start-post":
		return transaction.Activating, a.sub
	case "stop-pre", "stop-post":
		return transaction.Deactivating, a.sub
	default:
		return transaction.Active, a.sub
	}
}

func (a *activity) result() string       { return a.outcome }
func (a *activity) kill(string, int) int { return 0 }
func (a *activity) canReload() bool      { return false }
