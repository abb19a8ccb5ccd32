package semaphore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// retries bounds how often a change is tried against others' changes.
const retries = 50

// Store is a semaphore in the key-value store.
type Store struct {
	KV    clientv3.KV
	Group string
}

// Get returns the semaphore; one that is not there yet is made.
func (s Store) Get(ctx context.Context) (Value, error) {
	v, _, err := s.get(ctx)
	return v, err
}

// Lock takes a place for the machine id.
func (s Store) Lock(ctx context.Context, id string) error {
	_, err := s.change(ctx, func(v Value) (Value, error) { return v.Lock(id) })
	return err
}

// Unlock gives the machine's place back.
func (s Store) Unlock(ctx context.Context, id string) error {
	_, err := s.change(ctx, func(v Value) (Value, error) { return v.Unlock(id) })
	return err
}

// SetMax changes the number of places and returns the old one.
func (s Store) SetMax(ctx context.Context, n int) (old int, err error) {
	before, err := s.change(ctx, func(v Value) (Value, error) { return v.SetMax(n) })
	return before.Max, err
}

// change stores f of the value, whoever else changes it meanwhile. It returns
// the value before.
func (s Store) change(ctx context.Context, f func(Value) (Value, error)) (before Value, err error) {
	for range retries {
		v, revision, err := s.get(ctx)
		if err != nil {
			return v, err
		}
		next, err := f(v)
		if err != nil {
			return v, err
		}
		done, err := s.swap(ctx, revision, next)
		if err != nil || done {
			return v, err
		}
	}
	return Value{}, fmt.Errorf("change reboot lock: others changed it %d times meanwhile; try again", retries)
}

func (s Store) get(ctx context.Context) (Value, int64, error) {
	for range retries {
		resp, err := s.KV.Get(ctx, Key(s.Group))
		if err != nil {
			return Value{}, 0, fmt.Errorf("read reboot lock: %w", unanswered(err))
		}
		if len(resp.Kvs) > 0 {
			v, err := Parse(resp.Kvs[0].Value)
			return v, resp.Kvs[0].ModRevision, err
		}
		if _, err := s.swap(ctx, 0, New()); err != nil {
			return Value{}, 0, err
		}
	}
	return Value{}, 0, errors.New("read reboot lock: the key vanishes again and again; see who deletes it")
}

// swap stores v if the key is still at that revision; 0 means not there.
func (s Store) swap(ctx context.Context, revision int64, v Value) (bool, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return false, fmt.Errorf("write reboot lock: %w", err)
	}
	key := Key(s.Group)
	resp, err := s.KV.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
		Then(clientv3.OpPut(key, string(data))).Commit()
	if err != nil {
		return false, fmt.Errorf("write reboot lock: %w", unanswered(err))
	}
	return resp.Succeeded, nil
}

// unanswered says what a deadline means here.
func unanswered(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer from the key-value store: %w: is it running, and has it a leader? See etcdctl endpoint health", err)
	}
	return err
}
