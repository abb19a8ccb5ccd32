package locksmith

import (
	"errors"
	"fmt"
)

// Member is a member of the key-value store as the quorum guard sees it.
type Member struct {
	Name    string
	Own     bool // it runs on this machine
	Voter   bool // it is not a learner
	Healthy bool // it answers and knows the leader
}

// ErrQuorum says that the key-value store would lose its quorum.
var ErrQuorum = errors.New("the key-value store would lose its quorum")

// GuardQuorum fails when the store would lose its quorum if this machine went
// down now. A store of one member is no cluster: its machine may reboot. A
// machine that is not a voter may always.
func GuardQuorum(members []Member) error {
	voters, remaining, own := 0, 0, false
	var down []string
	for _, m := range members {
		if !m.Voter {
			continue
		}
		voters++
		switch {
		case m.Own:
			own = true
		case m.Healthy:
			remaining++
		default:
			down = append(down, m.Name)
		}
	}
	quorum := voters/2 + 1
	switch {
	case !own, voters == 1, remaining >= quorum:
		return nil
	case len(down) > 0:
		return fmt.Errorf("%w: without this machine %d of %d members remain, %d are needed; not healthy: %q: repair or remove them", ErrQuorum, remaining, voters, quorum, down)
	}
	return fmt.Errorf("%w: a store of %d members cannot do without one: add a member, or set REBOOT_STRATEGY=reboot", ErrQuorum, voters)
}
