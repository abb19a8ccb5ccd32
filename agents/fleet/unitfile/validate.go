package unitfile

import (
	"errors"
	"fmt"
	"path"

	"github.com/coracle-os/coracle/agents/fleet"
)

// Validate tells why a unit of this name can never be placed as it asks to be:
// the first reason, for fleet's options in fleet's words. The name itself is
// ValidateName's business.
func (f File) Validate(name string) error {
	req, _, err := f.Requirements(name)
	for _, check := range []func(string, fleet.Requirements) error{checkPeers, checkTogether, checkCopies} {
		if failed := check(name, req); failed != nil {
			return failed
		}
	}
	return err
}

// checkPeers looks for units that are wanted and unwanted on one machine.
func checkPeers(_ string, req fleet.Requirements) error {
	for _, peer := range req.MachineOf {
		for _, glob := range req.Conflicts {
			if ok, _ := path.Match(glob, peer); ok {
				return fmt.Errorf("unresolvable requirements: peer %q matches conflict %q", peer, glob)
			}
		}
	}
	for _, peer := range req.MachineOf {
		for _, glob := range req.Replaces {
			if ok, _ := path.Match(glob, peer); ok {
				return fmt.Errorf("unresolvable requirements: peer %q matches replace %q", peer, glob)
			}
		}
	}
	return nil
}

// checkTogether looks for options that exclude each other. Global with
// Conflicts is allowed, as in fleet 1.0.
func checkTogether(_ string, req fleet.Requirements) error {
	peers, conflicts, replaces := len(req.MachineOf) > 0, len(req.Conflicts) > 0, len(req.Replaces) > 0
	pinned := req.MachineID != ""
	switch {
	case pinned && peers:
		return errors.New("MachineID cannot be used with Peers")
	case pinned && conflicts:
		return errors.New("MachineID cannot be used with Conflicts")
	case pinned && req.Global:
		return errors.New("MachineID cannot be used with Global")
	case pinned && replaces:
		return errors.New("MachineID cannot be used with Replaces")
	case req.Global && peers:
		return errors.New("Global cannot be used with Peers")
	case req.Global && replaces:
		return errors.New("Global cannot be used with Replaces")
	case conflicts && replaces:
		return errors.New("Conflicts cannot be used with Replaces")
	}
	return nil
}

// checkCopies looks at what fleet did not have. Copies of a plain unit have
// one name, so there is one on a machine at most.
func checkCopies(name string, req fleet.Requirements) error {
	_, _, _, templated := fleet.SplitName(name)
	switch {
	case req.Global && req.Replicas > 0:
		return errors.New("Global cannot be used with Replicas: it already is one copy on every machine")
	case req.Global && req.SpreadOver != "":
		return errors.New("Global cannot be used with SpreadOver: it already is one copy on every machine")
	case !templated && req.Replicas > 1 && req.MachineID != "":
		return errors.New("MachineID cannot be used with Replicas: name.service has one copy on a machine; use a template name@.service for more")
	}
	return nil
}
