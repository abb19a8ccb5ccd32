package v2_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
)

// TestMadeMeanwhile makes a directory that ends while a key is written into it.
// A write that comes later, though it began when there was no directory, leaves
// it its end.
func TestMadeMeanwhile(t *testing.T) {
	s := ours(t)
	first := 0
	for n := range 150 {
		dir := fmt.Sprintf("/d%d", n)
		made := 0
		var wg sync.WaitGroup
		wg.Go(func() { made, _, _ = s.request("PUT", dir, "dir=true&ttl=100") })
		for i := range 4 {
			wg.Go(func() { s.must("PUT", fmt.Sprintf("%s/key%d", dir, i), "value=x") })
		}
		wg.Wait()
		if made != http.StatusCreated {
			continue // a key was there before
		}
		first++
		if e := s.must("GET", dir, ""); e.Node.TTL == 0 {
			t.Fatalf("%s has lost its end: %s", dir, e.Line())
		}
	}
	t.Logf("%d of 150 directories were made first", first)
}
