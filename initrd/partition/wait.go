package partition

import (
	"errors"
	"time"
)

// Waiting bounds how long Wait waits.
type Waiting struct {
	Most time.Duration // for the pair
	Half time.Duration // for the second partition after the first was found
	Poll time.Duration // look again after this time even if nothing was heard
}

// Wait scans until the pair is found. next waits for news of devices at most
// for the given time and reports whether there was any (it returns early only
// then); now is the clock. Errors that no waiting can mend are returned at
// once, the last reason after the time is over.
func Wait(w Waiting, pair Pair, now func() time.Time, scan func() ([]Disk, error), next func(time.Duration)) (Found, error) {
	start := now()
	deadline := start.Add(w.Most)
	halved := false
	for {
		disks, err := scan()
		if err != nil {
			return Found{}, err
		}
		found, half, err := Select(disks, pair)
		if err == nil {
			return found, nil
		}
		if !errors.Is(err, ErrNotYet) {
			return Found{}, err
		}
		if half && !halved {
			halved = true
			if sooner := now().Add(w.Half); sooner.Before(deadline) {
				deadline = sooner
			}
		}
		left := deadline.Sub(now())
		if left <= 0 {
			return Found{}, err
		}
		next(min(left, w.Poll))
	}
}
