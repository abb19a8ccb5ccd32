package supervisor

import (
	"testing"
	"time"
)

// TestLaterNeverWaits: the reaper hands exits over with its lock held, and the
// loop takes that lock to start processes; so a queue that is full must not hold
// the reaper up.
func TestLaterNeverWaits(t *testing.T) {
	s, _ := start(t, nil)
	held, free := make(chan struct{}), make(chan struct{})
	s.Post(func() { close(held); <-free })
	<-held
	for range maxPosted {
		s.Post(func() {})
	}
	exits := make(chan int, 3*maxPosted)
	pushed := make(chan struct{})
	go func() {
		for n := range cap(exits) {
			s.later(func() { exits <- n })
		}
		close(pushed)
	}()
	select {
	case <-pushed:
	case <-time.After(20 * time.Second):
		t.Error("later waits for the loop")
	}
	close(free)
	for want := range cap(exits) {
		if n := <-exits; n != want {
			t.Fatalf("event %d came in place of %d", n, want)
		}
	}
}
