package fleetd

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/coracle-os/coracle/agents/fleet"
)

// known is what this machine knows, for people who look for a fault.
type known struct {
	Machine    fleet.Machine
	Problem    string `json:",omitempty"` // why it does not take part
	Leader     string `json:",omitempty"` // machine id
	Revision   int64
	Units      int // in the cluster
	Machines   int
	Placements []fleet.Placement // here
	States     []fleet.UnitState // here
	Error      string            `json:",omitempty"` // why the cluster is not known
}

// dump writes it to the standard output.
func (d *daemon) dump(ctx context.Context) {
	k := known{Machine: d.facts.current()}
	if err := d.agent.Registered(); err != nil {
		k.Problem = err.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	v, err := d.mirror.At(ctx, 0)
	if err != nil {
		k.Error = err.Error()
	} else {
		k.Revision, k.Units, k.Machines = v.Revision, len(v.Units), len(v.Machines)
		if e, ok := v.Leader(); ok {
			k.Leader = e.MachineID
		}
		for _, p := range v.Placements {
			if p.Machine == k.Machine.ID {
				k.Placements = append(k.Placements, p)
			}
		}
		for _, s := range v.States {
			if s.Machine == k.Machine.ID {
				k.States = append(k.States, s)
			}
		}
	}
	data, err := json.Marshal(k)
	if err != nil {
		d.log.Error("The state cannot be written", "err", err)
		return
	}
	fmt.Fprintf(d.out, "%s\n", data)
}
