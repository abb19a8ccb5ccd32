// Package semaphore is the counting lock of locksmith in the key-value store:
// how many machines of a cluster may reboot at the same time, and which hold a
// place. It is for locksmithd and locksmithctl.
//
// Key and value are CoreOS locksmith's, so that its users' scripts find them:
//
//	/coreos.com/updateengine/rebootlock/semaphore
//	{"semaphore":1,"max":1,"holders":null}
//
// A group G has /coreos.com/updateengine/rebootlock/groups/<query-escaped
// G>/semaphore. Every change is a compare-and-swap on the key's revision,
// through the v3 API. Value is pure; Store is the edge. Left out on purpose:
// leases. A machine that dies while it reboots keeps its place, so that no other
// machine follows it; a person gives it back with "locksmithctl unlock ID".
package semaphore

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
)

const root = "/coreos.com/updateengine/rebootlock"

// Key is the semaphore's key of a group; "" is the whole cluster.
func Key(group string) string {
	if group == "" {
		return root + "/semaphore"
	}
	return root + "/groups/" + url.QueryEscape(group) + "/semaphore"
}

// Value is a semaphore. Its fields are in the order of the stored JSON.
type Value struct {
	// Semaphore is the number of free places. It is negative when Max was
	// lowered below the number of holders.
	Semaphore int `json:"semaphore"`
	Max       int `json:"max"`
	// Holders are machine ids, sorted; nil as long as nobody ever held it.
	Holders []string `json:"holders"`
}

// New is the semaphore of a cluster that has none yet: one machine at a time.
func New() Value { return Value{Semaphore: 1, Max: 1} }

// Parse reads a stored value.
func Parse(data []byte) (Value, error) {
	var v Value
	if err := json.Unmarshal(data, &v); err != nil {
		return v, fmt.Errorf("parse reboot lock %q: %w: delete the key to begin anew", data, err)
	}
	return v, nil
}

// Errors of the operations.
var (
	ErrFull      = errors.New("the reboot lock is taken")
	ErrHolds     = errors.New("this machine already holds the reboot lock")
	ErrNotHolder = errors.New("this machine does not hold the reboot lock")
)

// Lock takes a place for a machine. ErrFull comes before ErrHolds, as in
// locksmith.
func (v Value) Lock(id string) (Value, error) {
	if v.Semaphore <= 0 {
		return v, fmt.Errorf("%w: %d of %d places are free; held by %q", ErrFull, max(0, v.Semaphore), v.Max, v.Holders)
	}
	if v.Holds(id) {
		return v, fmt.Errorf("%w: %q", ErrHolds, id)
	}
	v.Holders = slices.Sorted(slices.Values(append(slices.Clone(v.Holders), id)))
	v.Semaphore--
	return v, nil
}

// Unlock gives a machine's place back.
func (v Value) Unlock(id string) (Value, error) {
	at := slices.Index(v.Holders, id)
	if at < 0 {
		return v, fmt.Errorf("%w: %q", ErrNotHolder, id)
	}
	v.Holders = slices.Delete(slices.Clone(v.Holders), at, at+1)
	v.Semaphore++
	return v, nil
}

// SetMax changes the number of places. With 0 no machine may reboot.
func (v Value) SetMax(n int) (Value, error) {
	if n < 0 {
		return v, fmt.Errorf("set the maximum of the reboot lock to %d: use 0 or more", n)
	}
	v.Semaphore += n - v.Max
	v.Max = n
	return v, nil
}

// Holds tells if a machine holds a place.
func (v Value) Holds(id string) bool { return slices.Contains(v.Holders, id) }
