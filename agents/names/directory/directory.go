// Package directory keeps the cluster's names in the KV: what each machine says
// of itself, below a lease that ends with the machine, and a mirror of all of
// it as a zone. While the KV is away the mirror answers with what it had.
package directory

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coracle-os/coracle/agents/kv/history"
	"github.com/coracle-os/coracle/agents/names/zone"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Prefix is where the names are in the KV; hidden from the v2 API's listings
// by its underscore, as the scheduler's are.
const Prefix = "/_coreos.com/names/"

// leaseSeconds is how long the names of a machine that is lost stay.
const leaseSeconds = 15

const retry = time.Second

// Entry is the value of a key: PREFIX/machines/ID, or
// PREFIX/services/ID/NAME.
type Entry struct {
	Name      string       `json:",omitempty"` // of the machine
	Container bool         `json:",omitempty"`
	Addresses []netip.Addr `json:",omitempty"`
	Ports     []zone.Port  `json:",omitempty"`
}

// Directory is the mirror of the KV.
type Directory struct {
	KV     *clientv3.Client
	Prefix string // Prefix, or another one's with a slash at its end
	Log    *slog.Logger
	zone   atomic.Pointer[zone.Zone]
}

// Zone is what the names mean now; an empty one before the KV has answered for
// the first time.
func (d *Directory) Zone() *zone.Zone {
	if z := d.zone.Load(); z != nil {
		return z
	}
	return zone.New(nil, nil)
}

// Watch follows the KV until ctx ends.
func (d *Directory) Watch(ctx context.Context) {
	for told := ""; ctx.Err() == nil; {
		err := d.watchOnce(ctx)
		if ctx.Err() == nil && err.Error() != told { // once, however long the KV is away
			d.Log.Warn("names are as old as the KV's last word", "error", err)
			told = err.Error()
		}
		pause(ctx, retry)
	}
}

func (d *Directory) watchOnce(ctx context.Context) error {
	got, err := d.KV.Get(ctx, d.Prefix, clientv3.WithPrefix())
	if err != nil {
		return fmt.Errorf("list the names: %w", err)
	}
	ctx, stop := history.While(clientv3.WithRequireLeader(ctx), d.KV, got.Header)
	defer stop()
	all := map[string]Entry{}
	for _, kv := range got.Kvs {
		d.put(all, string(kv.Key), kv.Value)
	}
	d.zone.Store(d.build(all))
	for answer := range d.KV.Watch(ctx, d.Prefix, clientv3.WithPrefix(), clientv3.WithRev(got.Header.Revision+1)) {
		if err := answer.Err(); err != nil {
			return fmt.Errorf("watch the names: %w", err)
		}
		for _, event := range answer.Events {
			delete(all, strings.TrimPrefix(string(event.Kv.Key), d.Prefix))
			if event.Type == clientv3.EventTypePut {
				d.put(all, string(event.Kv.Key), event.Kv.Value)
			}
		}
		d.zone.Store(d.build(all))
	}
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("watch the names: %w", err)
	}
	return fmt.Errorf("watch the names: the KV ended the watch")
}

func (d *Directory) put(all map[string]Entry, key string, value []byte) {
	var e Entry
	if err := json.Unmarshal(value, &e); err != nil {
		d.Log.Warn("passed over a name that cannot be read", "key", key, "error", err)
		return
	}
	all[strings.TrimPrefix(key, d.Prefix)] = e
}

// build makes the zone. Keys of other forms are somebody else's.
func (d *Directory) build(all map[string]Entry) *zone.Zone {
	var machines []zone.Machine
	var services []zone.Service
	for _, key := range slices.Sorted(maps.Keys(all)) {
		e, parts := all[key], strings.Split(key, "/")
		switch {
		case len(parts) == 2 && parts[0] == "machines":
			machines = append(machines, zone.Machine{ID: parts[1], Name: e.Name, Addresses: e.Addresses})
		case len(parts) == 3 && parts[0] == "services":
			services = append(services, zone.Service{Name: parts[2], Machine: parts[1], Container: e.Container, Addresses: e.Addresses, Ports: e.Ports})
		}
	}
	return zone.New(machines, services)
}

// Publish keeps what machine says in the KV until ctx ends; then it takes it
// back. Every value of said is everything; keys are relative to the prefix.
// After an absence of the KV all is written again.
func (d *Directory) Publish(ctx context.Context, said <-chan map[string]Entry) {
	var current map[string]Entry
	for ctx.Err() == nil {
		var err error
		if current, err = d.publishOnce(ctx, current, said); ctx.Err() == nil {
			d.Log.Warn("the machine's names are not in the KV", "error", err)
		}
		pause(ctx, retry)
	}
}

// publishOnce writes under one lease until that is lost.
func (d *Directory) publishOnce(ctx context.Context, current map[string]Entry, said <-chan map[string]Entry) (map[string]Entry, error) {
	lease, err := d.KV.Grant(ctx, leaseSeconds)
	if err != nil {
		return current, fmt.Errorf("get a lease: %w", err)
	}
	defer func() {
		ending, done := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer done()
		d.KV.Revoke(ending, lease.ID)
	}()
	holding, stop := context.WithCancel(ctx)
	defer stop()
	alive, err := d.KV.KeepAlive(holding, lease.ID)
	if err != nil {
		return current, fmt.Errorf("keep the lease: %w", err)
	}
	written := map[string]Entry{}
	for {
		if err := d.write(ctx, lease.ID, written, current); err != nil {
			return current, err
		}
		select {
		case <-ctx.Done():
			return current, ctx.Err()
		case next := <-said:
			current = next
		case _, ok := <-alive:
			if !ok {
				return current, fmt.Errorf("the lease is lost")
			}
		}
	}
}

// most is how many operations a transaction may have; etcd takes 128.
const most = 100

// write brings the KV from what was written to current.
func (d *Directory) write(ctx context.Context, lease clientv3.LeaseID, written, current map[string]Entry) error {
	var ops []clientv3.Op
	flush := func() error {
		if len(ops) == 0 {
			return nil
		}
		_, err := d.KV.Txn(ctx).Then(ops...).Commit()
		ops = nil
		if err != nil {
			return fmt.Errorf("write names: %w", err)
		}
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(written)) {
		if _, still := current[key]; !still {
			ops = append(ops, clientv3.OpDelete(d.Prefix+key))
			delete(written, key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(current)) {
		if old, there := written[key]; there && equal(old, current[key]) {
			continue
		}
		value, err := json.Marshal(current[key])
		if err != nil {
			return fmt.Errorf("write the name %s: %w", key, err)
		}
		ops = append(ops, clientv3.OpPut(d.Prefix+key, string(value), clientv3.WithLease(lease)))
		written[key] = current[key]
		if len(ops) == most {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

func equal(a, b Entry) bool {
	return a.Name == b.Name && a.Container == b.Container && slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.Ports, b.Ports)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
