package hub

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/kv/v2/wire"
)

func set(key string, index int64) *wire.Event {
	return &wire.Event{Action: wire.Set, Node: &wire.Node{Key: key, ModifiedIndex: index}}
}

func remove(key string, index int64, below ...string) *wire.Event {
	return &wire.Event{Action: wire.Delete, Node: &wire.Node{Key: key, Dir: true, ModifiedIndex: index},
		PrevNode: &wire.Node{Key: key, Dir: true}, Removed: below}
}

func refresh(key string, index int64) *wire.Event {
	e := set(key, index)
	e.Refresh = true
	return e
}

// given returns the indexes of what a watcher was given.
func given(w *Watcher) (out []int64) {
	for {
		select {
		case e, ok := <-w.C:
			if !ok {
				return append(out, -1)
			}
			out = append(out, e.Index())
		default:
			return out
		}
	}
}

// TestWatch adds events to a hub and says which of them a stream sees that
// began before them, and which one event a watch of the past.
func TestWatch(t *testing.T) {
	for _, c := range []struct {
		name      string
		key       string
		recursive bool
		events    []*wire.Event
		live      []int64
		past      []int64
	}{
		{"the key", "/a", false, []*wire.Event{set("/b", 1), set("/a", 2), set("/a", 3)}, []int64{2, 3}, []int64{2}},
		{"below without recursive", "/a", false, []*wire.Event{set("/a/b", 1)}, nil, nil},
		{"below", "/a", true, []*wire.Event{set("/a/b", 1), set("/ab", 2)}, []int64{1}, []int64{1}},
		{"everything", "/", true, []*wire.Event{set("/a/b", 1), set("/c", 2)}, []int64{1, 2}, []int64{1}},
		{"hidden below", "/a", true, []*wire.Event{set("/a/_b", 1), set("/a/_b/c", 2), set("/a/b", 3)}, []int64{3}, []int64{1}},
		{"below hidden", "/_a", true, []*wire.Event{set("/_a/b", 1)}, []int64{1}, []int64{1}},
		{"the hidden key", "/_a", false, []*wire.Event{set("/_a", 1)}, []int64{1}, []int64{1}},
		{"refresh", "/a", true, []*wire.Event{refresh("/a/b", 1), set("/a/b", 2)}, []int64{2}, []int64{2}},
		{"with its directory", "/a/b", false, []*wire.Event{remove("/a", 1, "/a/b")}, []int64{1}, []int64{1}},
		{"nothing was there", "/a/c", false, []*wire.Event{remove("/a", 1, "/a/b")}, nil, []int64{1}},
		{"hidden with its directory", "/a/_b", false, []*wire.Event{remove("/a", 1, "/a/_b")}, []int64{1}, []int64{1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := New(0)
			stream, err := h.Watch(c.key, c.recursive, true, 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range c.events {
				h.Add(e)
			}
			if got := given(stream); !slices.Equal(got, c.live) {
				t.Errorf("a stream sees %v, want %v", got, c.live)
			}
			past, err := h.Watch(c.key, c.recursive, false, 1, h.last)
			if err != nil {
				t.Fatal(err)
			}
			if got := given(past); !slices.Equal(got, c.past) {
				t.Errorf("a watch of the past sees %v, want %v", got, c.past)
			}
		})
	}
}

func TestWatchFuture(t *testing.T) {
	h := New(0)
	w, _ := h.Watch("/a", false, false, 3, 0)
	for i := range int64(5) {
		h.Add(set("/a", i+1))
	}
	if got := given(w); !slices.Equal(got, []int64{3}) {
		t.Errorf("%v, want the event with index 3 alone", got)
	}
	if n := h.Watchers(); n != 0 {
		t.Errorf("%d watchers wait after the only one was told", n)
	}
	w.Close()
	w.Close()
}

// A stream that begins in the past is told of one event and no more.
func TestStreamOfThePast(t *testing.T) {
	h := New(0)
	h.Add(set("/a", 1))
	w, _ := h.Watch("/a", false, true, 1, 1)
	h.Add(set("/a", 2))
	if got := given(w); !slices.Equal(got, []int64{1}) {
		t.Errorf("%v, want 1 alone", got)
	}
}

func TestHistory(t *testing.T) {
	h := New(0)
	for i := range int64(Capacity + 500) {
		h.Add(set("/a", i+1))
	}
	for _, c := range []struct{ since, want int64 }{{501, 501}, {502, 502}, {1000, 1000}, {1500, 1500}} {
		w, err := h.Watch("/a", false, false, c.since, h.last)
		if err != nil || !slices.Equal(given(w), []int64{c.want}) {
			t.Errorf("since %d: %v, want %d", c.since, err, c.want)
		}
	}
	for _, since := range []int64{1, 500} {
		_, err := h.Watch("/a", false, false, since, h.last)
		if err == nil || err.Code != wire.IndexCleared || err.Index != 1500 {
			t.Errorf("since %d: %v, want code 401", since, err)
		}
	}
	_, err := h.Watch("/a", false, false, 7, h.last)
	if want := "the requested history has been cleared [501/7]"; err == nil || err.Cause != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestRestart(t *testing.T) {
	h := New(0)
	w, _ := h.Watch("/a", true, true, 0, 0)
	h.Restart(40)
	if got := given(w); !slices.Equal(got, []int64{-1}) {
		t.Errorf("%v, want the end of the stream", got)
	}
	w.Close()
	if _, err := h.Watch("/a", false, false, 40, 41); err == nil || err.Code != wire.IndexCleared {
		t.Errorf("%v, want code 401", err)
	}
	if w, err := h.Watch("/a", false, false, 41, 41); err != nil || h.Watchers() != 1 {
		t.Errorf("%v, %v", w, err)
	}
}

// A stream that nobody reads holds up no writer, costs its buffer and ends.
func TestSlowWatcher(t *testing.T) {
	h := New(0)
	slow, _ := h.Watch("/", true, true, 0, 0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range int64(10 * streamBuffer) {
			h.Add(set("/a", i+1))
		}
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("a watcher that does not read holds up a writer")
	}
	got := given(slow)
	if len(got) != streamBuffer+1 || got[streamBuffer] != -1 || got[streamBuffer-1] != streamBuffer {
		t.Errorf("the watcher got %d events, want the first %d and the end", len(got), streamBuffer)
	}
	if n := h.Watchers(); n != 0 {
		t.Errorf("%d watchers are left", n)
	}
}

// Watches begin and end while events come; the race detector looks on.
func TestConcurrent(t *testing.T) {
	h := New(0)
	var mu sync.RWMutex // as package store has one
	var index int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				mu.RLock()
				w, err := h.Watch("/a", true, true, 0, index)
				mu.RUnlock()
				if err != nil {
					t.Error(err)
					return
				}
				given(w)
				w.Close()
			}
		})
	}
	for i := range int64(2000) {
		mu.Lock()
		index = i + 1
		h.Add(set("/a/b", index))
		mu.Unlock()
	}
	wg.Wait()
	if n := h.Watchers(); n != 0 {
		t.Errorf("%d watchers are left", n)
	}
}
