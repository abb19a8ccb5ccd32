package store

import (
	"sync/atomic"

	"github.com/coracle-os/coracle/agents/kv/v2/request"
	"github.com/coracle-os/coracle/agents/kv/v2/wire"
)

// Stats counts what the store did since it began. Successes of writes are
// those of the whole cluster, the rest are this member's own.
type Stats struct {
	counts [16]atomic.Uint64
}

// actions in the order of counts, two each: success, fail.
var actions = [...]string{wire.Get, wire.Set, wire.Delete, wire.Update, wire.Create, wire.CompareAndSwap, wire.CompareAndDelete, wire.Expire}

func (s *Stats) count(action string, success bool) {
	for i, a := range actions {
		if a != action {
			continue
		}
		if !success {
			s.counts[2*i+1].Add(1)
			return
		}
		s.counts[2*i].Add(1)
		return
	}
}

// Counts is /v2/stats/store.
type Counts struct {
	GetSuccess              uint64 `json:"getsSuccess"`
	GetFail                 uint64 `json:"getsFail"`
	SetSuccess              uint64 `json:"setsSuccess"`
	SetFail                 uint64 `json:"setsFail"`
	DeleteSuccess           uint64 `json:"deleteSuccess"`
	DeleteFail              uint64 `json:"deleteFail"`
	UpdateSuccess           uint64 `json:"updateSuccess"`
	UpdateFail              uint64 `json:"updateFail"`
	CreateSuccess           uint64 `json:"createSuccess"`
	CreateFail              uint64 `json:"createFail"`
	CompareAndSwapSuccess   uint64 `json:"compareAndSwapSuccess"`
	CompareAndSwapFail      uint64 `json:"compareAndSwapFail"`
	CompareAndDeleteSuccess uint64 `json:"compareAndDeleteSuccess"`
	CompareAndDeleteFail    uint64 `json:"compareAndDeleteFail"`
	ExpireCount             uint64 `json:"expireCount"`
	Watchers                uint64 `json:"watchers"`
}

// Counts returns the figures.
func (s *Store) Counts() Counts {
	n := func(i int) uint64 { return s.stats.counts[i].Load() }
	return Counts{n(0), n(1), n(2), n(3), n(4), n(5), n(6), n(7), n(8), n(9), n(10), n(11), n(12), n(13), n(14),
		uint64(s.hub.Watchers())}
}

// refused counts an operation that failed, in the way of etcd 2, which counted
// some of what it refused as successes and some twice.
func (s *Stats) refused(op request.Op, e *wire.Error) {
	a := action(op)
	success := false
	switch e.Code {
	case wire.RootReadOnly:
		success = a != wire.Set && a != wire.Create
	case wire.NotFile:
		success = a == wire.Update || a == wire.CompareAndDelete
	case wire.TestFailed:
		success = a == wire.CompareAndDelete
	case wire.NotDir:
		if a == wire.Create {
			s.count(wire.Set, false)
		}
	}
	s.count(a, success)
}

// action is how an operation is counted when it fails.
func action(op request.Op) string {
	switch op {
	case request.Set:
		return wire.Set
	case request.Create, request.CreateInOrder:
		return wire.Create
	case request.Update:
		return wire.Update
	case request.CompareAndSwap:
		return wire.CompareAndSwap
	case request.CompareAndDelete:
		return wire.CompareAndDelete
	case request.Delete:
		return wire.Delete
	}
	return wire.Get
}
