package mirror

import (
	"cmp"
	"maps"
	"slices"
)

// key orders a table: by unit, then machine (or only one of them).
type key struct{ first, second string }

func compare(a, b key) int {
	return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.second, b.second))
}

// table is a sorted slice that others hold, with changes that are not in it
// yet. A slice that was given out is never written again.
type table[V any] struct {
	key     func(*V) key
	sorted  []V
	changed map[key]*V // nil is removed
}

func newTable[V any](key func(*V) key, all []V) *table[V] {
	slices.SortFunc(all, func(a, b V) int { return compare(key(&a), key(&b)) })
	return &table[V]{key: key, sorted: all}
}

func (t *table[V]) put(v V) { t.set(t.key(&v), &v) }

func (t *table[V]) remove(k key) {
	if t.get(k) != nil {
		t.set(k, nil)
	}
}

func (t *table[V]) set(k key, v *V) {
	if t.changed == nil {
		t.changed = map[key]*V{}
	}
	t.changed[k] = v
}

// get finds one; nil if it is not there. What it points to is not to be changed.
func (t *table[V]) get(k key) *V {
	if v, ok := t.changed[k]; ok {
		return v
	}
	i, ok := slices.BinarySearchFunc(t.sorted, k, func(v V, k key) int { return compare(t.key(&v), k) })
	if !ok {
		return nil
	}
	return &t.sorted[i]
}

// view is everything, sorted: the same slice as before if nothing changed.
func (t *table[V]) view() []V {
	if len(t.changed) == 0 {
		return t.sorted
	}
	keys := slices.SortedFunc(maps.Keys(t.changed), compare)
	merged := make([]V, 0, len(t.sorted)+len(keys))
	from := 0
	for _, k := range keys {
		at, found := slices.BinarySearchFunc(t.sorted[from:], k, func(v V, k key) int { return compare(t.key(&v), k) })
		merged = append(merged, t.sorted[from:from+at]...)
		from += at
		if found {
			from++
		}
		if v := t.changed[k]; v != nil {
			merged = append(merged, *v)
		}
	}
	t.sorted, t.changed = append(merged, t.sorted[from:]...), nil
	return t.sorted
}
