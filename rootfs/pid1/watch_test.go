package pid1

import (
	"testing"
	"time"
)

func TestAlive(t *testing.T) {
	var a alive
	a.expect(time.Minute, turnLimit)
	for now, want := range map[time.Duration]bool{time.Minute: false, time.Minute + turnLimit: false, 2*time.Minute + turnLimit: true} {
		if got := a.hangs(now); got != want {
			t.Errorf("expected at 1m, at %s: %t, want %t", now, got, want)
		}
	}
	a.expect(2*time.Minute+turnLimit, endLimit)
	if a.hangs(3*time.Minute + turnLimit) {
		t.Error("hangs after it was heard of again")
	}
}
