package step

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func newStore(t *testing.T) (*Store, *[]Event) {
	t.Helper()
	var mu sync.Mutex
	events := &[]Event{}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return &Store{
		Dir: t.TempDir(),
		Now: func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			now = now.Add(time.Second)
			return now
		},
		Report: func(e Event) {
			mu.Lock()
			defer mu.Unlock()
			*events = append(*events, e)
		},
	}, events
}

func write(text string, calls *int) func(context.Context, string) error {
	return func(_ context.Context, dir string) error {
		*calls++
		return os.WriteFile(filepath.Join(dir, "out"), []byte(text), 0o644)
	}
}

func TestUnchangedInputsAreNotBuiltAgain(t *testing.T) {
	store, events := newStore(t)
	calls := 0
	first, err := store.Run(t.Context(), "tree", NewKey("a"), write("1", &calls))
	if err != nil {
		t.Fatal(err)
	}
	second, err := store.Run(t.Context(), "tree", NewKey("a"), write("1", &calls))
	if err != nil {
		t.Fatal(err)
	}
	if first != second || calls != 1 {
		t.Errorf("got %q then %q in %d calls, want one call", first, second, calls)
	}
	var states []State
	for _, e := range *events {
		states = append(states, e.State)
	}
	if want := []State{Started, Done, Cached}; len(states) != 3 || states[0] != want[0] || states[1] != want[1] || states[2] != want[2] {
		t.Errorf("states = %v, want %v", states, want)
	}
	if _, err := store.Run(t.Context(), "tree", NewKey("b"), write("2", &calls)); err != nil || calls != 2 {
		t.Errorf("a changed input: %d calls, %v; want 2 calls", calls, err)
	}
}

func TestAnotherStoreServes(t *testing.T) {
	like, _ := newStore(t)
	calls := 0
	first, err := like.Run(t.Context(), "tree", NewKey("a"), write("1", &calls))
	if err != nil {
		t.Fatal(err)
	}
	store, events := newStore(t)
	store.Like = like.Dir
	second, err := store.Run(t.Context(), "tree", NewKey("a"), write("1", &calls))
	if err != nil {
		t.Fatal(err)
	}
	if second != first || calls != 1 || (*events)[0].State != Cached {
		t.Errorf("got %q in %d calls, want %q of the other store", second, calls, first)
	}
	third, err := store.Run(t.Context(), "tree", NewKey("b"), write("2", &calls))
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Dir(filepath.Dir(third)) != store.Dir {
		t.Errorf("a new result is in %q, want it in the store's own %q", third, store.Dir)
	}
}

func TestAFailedStepLeavesNothing(t *testing.T) {
	store, _ := newStore(t)
	broken := errors.New("disk full")
	_, err := store.Run(t.Context(), "tree", NewKey("a"), func(_ context.Context, dir string) error {
		if err := os.WriteFile(filepath.Join(dir, "half"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Fatalf("error = %v, want %v", err, broken)
	}
	entries, err := os.ReadDir(filepath.Join(store.Dir, "tree"))
	if err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestTwoBuildsAtOnceGetOneResult(t *testing.T) {
	store, _ := newStore(t)
	var wg sync.WaitGroup
	both := make(chan struct{})
	arrived := make(chan struct{}, 2)
	go func() { <-arrived; <-arrived; close(both) }()
	results := make([]string, 2)
	for i := range results {
		wg.Go(func() {
			dir, err := store.Run(t.Context(), "tree", NewKey("a"), func(context.Context, string) error {
				arrived <- struct{}{}
				<-both
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			results[i] = dir
		})
	}
	wg.Wait()
	if results[0] != results[1] {
		t.Errorf("results differ: %v", results)
	}
}

func TestOldResultsAreRemoved(t *testing.T) {
	store, _ := newStore(t)
	calls := 0
	var last string
	for _, input := range []string{"a", "b", "c", "d"} {
		dir, err := store.Run(t.Context(), "tree", NewKey(input), write(input, &calls))
		if err != nil {
			t.Fatal(err)
		}
		last = dir
	}
	entries, err := os.ReadDir(filepath.Join(store.Dir, "tree"))
	if err != nil || len(entries) != Keep {
		t.Errorf("kept %d results, want %d (%v)", len(entries), Keep, err)
	}
	if _, err := os.Stat(last); err != nil {
		t.Errorf("the newest result is gone: %v", err)
	}
}

func TestKeyKeepsPartsApart(t *testing.T) {
	if NewKey("ab", "c").Sum() == NewKey("a", "bc").Sum() {
		t.Error("two different inputs have the same digest")
	}
}
