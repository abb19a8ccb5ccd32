package mirror

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestTable compares a table with a map in random changes, and looks that views
// that were given out stay as they were.
func TestTable(t *testing.T) {
	type row struct {
		k key
		n int
	}
	random := rand.New(rand.NewPCG(1, 2))
	table := newTable(func(r *row) key { return r.k }, nil)
	model := map[key]row{}
	var given, copies [][]row
	for i := range 3000 {
		k := key{fmt.Sprint(random.IntN(20)), fmt.Sprint(random.IntN(5))}
		switch random.IntN(5) {
		case 0, 1:
			table.put(row{k, i})
			model[k] = row{k, i}
		case 2, 3:
			table.remove(k)
			delete(model, k)
		case 4:
			want := slices.SortedFunc(maps.Values(model), func(a, b row) int { return compare(a.k, b.k) })
			got := table.view()
			if !slices.Equal(got, want) {
				t.Fatalf("step %d: %v, want %v", i, got, want)
			}
			given, copies = append(given, got), append(copies, slices.Clone(got))
		}
		got := table.get(k)
		if want, there := model[k]; (got != nil) != there || there && *got != want {
			t.Fatalf("step %d: get %v is %v, want %v", i, k, got, want)
		}
	}
	for i := range given {
		if !slices.Equal(given[i], copies[i]) {
			t.Errorf("view %d has changed since", i)
		}
	}
}
