// Package hub keeps the last events of etcd 2's history and gives new ones to
// those who watch. What is watched, and what a watch sees of hidden keys and of
// directories that go with what lies in them, follows etcd 2.3.8 and 3.4, not
// their documentation: a watch of the past sees hidden keys, a live one does
// not; a stream that began in the past ends after one event; who watches a key
// in a directory that is removed is told of the directory. Not followed is that
// they tell a stream twice of the removal of the very key that it watches.
//
// A watcher that does not keep up costs a bounded buffer and is then dropped;
// it never holds up those who write.
package hub

import (
	"fmt"
	"path"
	"strings"
	"sync"

	"github.com/coracle-os/coracle/agents/kv/v2/wire"
)

const (
	// Capacity is the number of events that are remembered.
	Capacity = 1000
	// streamBuffer is the number of events that a stream may be behind.
	streamBuffer = 100
)

// Hub is safe for concurrent use.
type Hub struct {
	mu       sync.Mutex
	events   []*wire.Event // a ring once it is full
	first    int           // the oldest in events
	cleared  int64         // everything up to this index is forgotten
	last     int64
	watchers map[string]map[*Watcher]struct{}
	count    int
}

// New returns a hub whose history begins after an index; 0 means that nothing
// was before.
func New(after int64) *Hub {
	return &Hub{cleared: after, watchers: map[string]map[*Watcher]struct{}{}}
}

// Watcher receives events.
type Watcher struct {
	// C gives the events. It is closed when the watcher was too slow or the
	// hub starts over. A watcher that is no stream gets one event.
	C chan *wire.Event

	hub               *Hub
	key               string
	recursive, stream bool
	since             int64
	closed            bool
	slow              bool
	whenSlow          func()
}

// WhenSlow has f called, once and by itself, when the watcher is dropped
// because it did not keep up: who waits for its reader can end that then.
func (w *Watcher) WhenSlow(f func()) {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	if w.whenSlow = f; w.slow {
		go f()
	}
}

// Watch begins to watch a key for events from the index since on; 0 means new
// ones. The error is IndexCleared if it may have been missed; its index is the
// store's, now.
func (h *Hub) Watch(key string, recursive, stream bool, since, now int64) (*Watcher, *wire.Error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if since == 0 {
		since = now + 1
	}
	w := &Watcher{hub: h, key: key, recursive: recursive, stream: stream, since: since}
	past, err := h.scan(w, now)
	if err != nil {
		return nil, err
	}
	w.C = make(chan *wire.Event, 1)
	if past != nil {
		w.C <- past
		return w, nil
	}
	if stream {
		w.C = make(chan *wire.Event, streamBuffer)
	}
	if h.watchers[key] == nil {
		h.watchers[key] = map[*Watcher]struct{}{}
	}
	h.watchers[key][w] = struct{}{}
	h.count++
	return w, nil
}

// scan looks for the first event of the past that a watcher wants.
func (h *Hub) scan(w *Watcher, now int64) (*wire.Event, *wire.Error) {
	if w.since <= h.cleared {
		oldest := h.cleared + 1
		if len(h.events) > 0 {
			oldest = h.events[h.first].Index()
		}
		return nil, wire.NewError(wire.IndexCleared,
			fmt.Sprintf("the requested history has been cleared [%d/%d]", oldest, w.since), now)
	}
	if w.since > h.last {
		return nil, nil
	}
	below := strings.TrimSuffix(w.key, "/") + "/"
	for i := range h.events {
		e := h.events[(h.first+i)%len(h.events)]
		if e.Index() < w.since || e.Refresh {
			continue
		}
		switch {
		case e.Node.Key == w.key, w.recursive && strings.HasPrefix(e.Node.Key, below):
			return e, nil
		case (e.Action == wire.Delete || e.Action == wire.Expire) && e.PrevNode.Dir && strings.HasPrefix(w.key, e.PrevNode.Key):
			return e, nil
		}
	}
	return nil, nil
}

// Close ends a watch.
func (w *Watcher) Close() {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	w.hub.drop(w)
}

func (h *Hub) drop(w *Watcher) {
	if w.closed {
		return
	}
	w.closed = true
	close(w.C)
	if set := h.watchers[w.key]; set != nil {
		if _, ok := set[w]; ok {
			delete(set, w)
			h.count--
		}
		if len(set) == 0 {
			delete(h.watchers, w.key)
		}
	}
}

// Watchers is how many wait for an event.
func (h *Hub) Watchers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count
}

// Add remembers an event and gives it to those who watch for it.
func (h *Hub) Add(e *wire.Event) {
	e.Share()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.remember(e)
	if e.Refresh || h.count == 0 {
		return
	}
	for _, p := range e.Removed {
		h.notify(e, p, true)
	}
	for p := e.Node.Key; ; p = path.Dir(p) {
		h.notify(e, p, false)
		if p == "/" {
			return
		}
	}
}

func (h *Hub) remember(e *wire.Event) {
	h.last = e.Index()
	if len(h.events) < Capacity {
		h.events = append(h.events, e)
		return
	}
	h.cleared = h.events[h.first].Index()
	h.events[h.first] = e
	h.first = (h.first + 1) % Capacity
}

// notify gives an event to the watchers at a path. Removed says that the path
// went with the event's key.
func (h *Hub) notify(e *wire.Event, at string, removed bool) {
	exact := at == e.Node.Key
	if len(h.watchers[at]) == 0 || !exact && !removed && hidden(at, e.Node.Key) {
		return
	}
	for w := range h.watchers[at] {
		if !w.recursive && !exact && !removed || e.Index() < w.since {
			continue
		}
		select {
		case w.C <- e:
			if !w.stream {
				h.forget(w)
			}
		default:
			h.drop(w)
			if w.slow = true; w.whenSlow != nil {
				go w.whenSlow()
			}
		}
	}
}

// forget stops giving a watcher events; it can still read what it was given.
func (h *Hub) forget(w *Watcher) {
	delete(h.watchers[w.key], w)
	h.count--
	if len(h.watchers[w.key]) == 0 {
		delete(h.watchers, w.key)
	}
}

// hidden says whether a key is hidden from one who watches a directory above.
func hidden(watched, key string) bool {
	return strings.Contains("/"+strings.TrimPrefix(key[len(watched):], "/"), "/_")
}

// Restart ends all watches and begins the history anew after an index.
func (h *Hub) Restart(after int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, set := range h.watchers {
		for w := range set {
			h.drop(w)
		}
	}
	h.events, h.first, h.cleared, h.last = nil, 0, after, 0
}
