package registry

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/registry/layout"
)

// Release asks machines to give units up, for a rebalancing that people want:
// of each placement, as it was seen, the state becomes Inactive. One that is
// another by now is left alone. The engine then places the units anew. It is
// the only change of placements that is not the engine's; it can only take,
// never give, so that no unit comes to be twice by it.
func (r *Registry) Release(ctx context.Context, seen []fleet.Placement) (revision int64, err error) {
	var ops []clientv3.Op
	for _, p := range seen {
		key, released := r.Keys.Placement(p.Machine, p.Unit), p
		released.State = fleet.Inactive
		ops = append(ops, when([]clientv3.Op{clientv3.OpPut(key, layout.EncodePlacement(released))},
			clientv3.Compare(clientv3.Value(key), "=", layout.EncodePlacement(p))))
	}
	return r.batches(ctx, "release placements", ops)
}
