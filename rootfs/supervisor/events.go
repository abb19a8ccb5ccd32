package supervisor

import "sync"

// events is what the loop has to do, in order. Whoever may wait does so while
// much is queued (post); the loop itself and the reaper, whose lock the loop may
// be waiting for, must not (push).
type events struct {
	mu    *sync.Mutex
	list  *[]func()
	wake  chan struct{} // holds a token when the list is not empty
	slots chan struct{} // bounds what was posted
}

// maxPosted is how much may be queued through post.
const maxPosted = 256

func newEvents() events {
	return events{mu: new(sync.Mutex), list: new([]func()), wake: make(chan struct{}, 1), slots: make(chan struct{}, maxPosted)}
}

func (e events) push(f func()) {
	e.mu.Lock()
	*e.list = append(*e.list, f)
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// post queues f when there is room, and reports false when one of the channels
// ended before.
func (e events) post(f func(), ended ...<-chan struct{}) bool {
	var second <-chan struct{}
	if len(ended) > 1 {
		second = ended[1]
	}
	select {
	case <-ended[0]:
		return false
	default:
	}
	select {
	case e.slots <- struct{}{}:
		e.push(func() { <-e.slots; f() })
		return true
	case <-ended[0]:
	case <-second:
	}
	return false
}

// next returns the oldest; it waits for one.
func (e events) next() func() {
	for {
		e.mu.Lock()
		if l := *e.list; len(l) > 0 {
			f := l[0]
			l[0] = nil
			*e.list = l[1:]
			e.mu.Unlock()
			return f
		}
		*e.list = nil // let go of what a burst needed
		e.mu.Unlock()
		<-e.wake
	}
}

// empty reports whether nothing is queued.
func (e events) empty() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(*e.list) == 0
}
