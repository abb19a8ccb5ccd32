package ra

import (
	"net/netip"
	"slices"
	"time"
)

// Known is what the advertisements of a link said together. Times are since
// boot. The zero Known has heard none.
type Known struct {
	Managed, Other bool
	routers        []entry[netip.Addr]
	servers        []entry[netip.Addr]
	domains        []entry[string]
}

type entry[T comparable] struct {
	value T
	until time.Duration
}

// infinite is the protocol's number of seconds for it.
const infinite = 0xffffffff * time.Second

// Take takes note of an advertisement. It reports whether something changed
// beside the times.
func (k *Known) Take(a Advertisement, now time.Duration) (changed bool) {
	changed = k.Managed != a.Managed || k.Other != a.Other
	k.Managed, k.Other = a.Managed, a.Other
	changed = note(&k.routers, a.Router, a.Lifetime, now) || changed
	for _, server := range a.DNS {
		changed = note(&k.servers, server.Address, server.Lifetime, now) || changed
	}
	for _, domain := range a.Domains {
		changed = note(&k.domains, domain.Name, domain.Lifetime, now) || changed
	}
	return changed
}

// maxEntries bounds what is kept, whatever is sent.
const maxEntries = 16

// note enters a value, or takes it out if its life is 0.
func note[T comparable](list *[]entry[T], value T, life, now time.Duration) (changed bool) {
	i := slices.IndexFunc(*list, func(e entry[T]) bool { return e.value == value })
	until := now + life
	if life >= infinite {
		until = 1<<63 - 1
	}
	switch {
	case life == 0 && i < 0:
		return false
	case life == 0:
		*list = slices.Delete(*list, i, i+1)
		return true
	case i >= 0:
		(*list)[i].until = until
		return false
	case len(*list) >= maxEntries:
		return false
	}
	*list = append(*list, entry[T]{value, until})
	return true
}

// Expire forgets what is over and says when the next is; 0 if nothing is known.
func (k *Known) Expire(now time.Duration) (next time.Duration) {
	for _, until := range []time.Duration{expire(&k.routers, now), expire(&k.servers, now), expire(&k.domains, now)} {
		if until != 0 && (next == 0 || until < next) {
			next = until
		}
	}
	return next
}

func expire[T comparable](list *[]entry[T], now time.Duration) (next time.Duration) {
	*list = slices.DeleteFunc(*list, func(e entry[T]) bool { return e.until <= now })
	for _, e := range *list {
		if next == 0 || e.until < next {
			next = e.until
		}
	}
	return next
}

// Router is the first router that is one by default; not valid if none.
func (k *Known) Router() netip.Addr {
	if len(k.routers) == 0 {
		return netip.Addr{}
	}
	return k.routers[0].value
}

// DNS are the name servers.
func (k *Known) DNS() []netip.Addr { return values(k.servers) }

// Domains are the search domains.
func (k *Known) Domains() []string { return values(k.domains) }

func values[T comparable](list []entry[T]) (all []T) {
	for _, e := range list {
		all = append(all, e.value)
	}
	return all
}
