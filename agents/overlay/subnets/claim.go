package subnets

import (
	"context"
	"fmt"
	"path"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// claimSeconds is how long a claim outlives its machine.
const claimSeconds = 30

// Claim holds the machine's public address in the KV until ctx ends; lost is
// closed when it is held no more. A second machine with the same address gets
// an error that names the first: the two would share one subnet, and packets
// would go to either. After a reboot the machine's own claim is taken over.
func (m *Manager) Claim(ctx context.Context, address, machineID string) (lost <-chan struct{}, err error) {
	key := path.Join(m.Prefix, "claims", address)
	granted, err := m.KV.Grant(ctx, claimSeconds)
	if err != nil {
		return nil, fmt.Errorf("claim the address %s: %w", address, err)
	}
	put := clientv3.OpPut(key, machineID, clientv3.WithLease(granted.ID))
	free, mine := clientv3.Compare(clientv3.CreateRevision(key), "=", 0), clientv3.Compare(clientv3.Value(key), "=", machineID)
	answer, err := m.KV.Txn(ctx).If(free).Then(put).Else(clientv3.OpTxn([]clientv3.Cmp{mine}, []clientv3.Op{put}, []clientv3.Op{clientv3.OpGet(key)})).Commit()
	if err != nil {
		return nil, fmt.Errorf("claim the address %s: %w", address, err)
	}
	if answer.Succeeded {
		return m.hold(ctx, granted.ID)
	}
	second := answer.Responses[0].GetResponseTxn()
	if second.Succeeded {
		return m.hold(ctx, granted.ID)
	}
	m.KV.Revoke(ctx, granted.ID)
	return nil, ErrHeld{Address: address, Machine: string(second.Responses[0].GetResponseRange().Kvs[0].Value)}
}

// ErrHeld says that another machine that is alive has the address.
type ErrHeld struct{ Address, Machine string }

func (e ErrHeld) Error() string {
	return fmt.Sprintf("claim the address %s: machine %s has it; give each machine its own with --public-ip or --iface", e.Address, e.Machine)
}

func (m *Manager) hold(ctx context.Context, id clientv3.LeaseID) (<-chan struct{}, error) {
	alive, err := m.KV.KeepAlive(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("hold the claim on the address: %w", err)
	}
	lost := make(chan struct{})
	go func() {
		defer close(lost)
		for range alive {
		}
	}()
	return lost, nil
}
