// Package timesync keeps the clock right by NTP (RFC 5905, as a simple client)
// and never lets it be earlier than it is known to be.
//
// It is for the network daemon. Asking and checking an answer is beevik/ntp's;
// here is what to do about it. A clock that is far off is set, one that is a
// little off is slewed, so that time does not jump under programs. Left out on
// purpose: disciplining the frequency, and serving time.
package timesync

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// StepLimit is the largest error that is slewed rather than set, as
// systemd-timesyncd has it.
const StepLimit = 400 * time.Millisecond

// Correction is how to mend the clock.
type Correction string

// Corrections.
const (
	Step   Correction = "step"
	Slew   Correction = "slew"
	Reject Correction = "reject" // the server is wrong
)

// Decide says what to do when a server says that the clock is off by offset.
// floor is the time that it is at least.
func Decide(now time.Time, offset time.Duration, floor time.Time) Correction {
	switch {
	case now.Add(offset).Before(floor):
		return Reject
	case offset > StepLimit || offset < -StepLimit:
		return Step
	}
	return Slew
}

// Poll is the time until the next question.
type Poll struct {
	Min, Max time.Duration
	current  time.Duration
	failures int
}

// Good takes note of an answer: the smaller the error, the longer the pause.
func (p *Poll) Good(offset time.Duration) time.Duration {
	p.failures = 0
	switch {
	case offset > StepLimit || offset < -StepLimit || p.current == 0:
		p.current = p.Min
	case offset > StepLimit/4 || offset < -StepLimit/4:
		p.current = max(p.current/2, p.Min)
	default:
		p.current = min(p.current*2, p.Max)
	}
	return p.current
}

// Bad takes note that no server gave a usable answer.
func (p *Poll) Bad() time.Duration {
	p.failures++
	return min(p.Min<<min(p.failures-1, 10), p.Max)
}

// Failures is how many times in a row there was no answer.
func (p *Poll) Failures() int { return p.failures }

// Floor is the time that it is at least: the newest of the files' times of
// change. Files that are not there do not count.
func Floor(files ...string) time.Time {
	var floor time.Time
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && info.ModTime().After(floor) {
			floor = info.ModTime()
		}
	}
	return floor
}

// Remember makes now the file's time of change, so that the next boot starts
// from there even without a clock that runs on.
func Remember(file string, now time.Time) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("remember the time: %w", err)
	}
	handle, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("remember the time: %w", err)
	}
	handle.Close()
	if err := os.Chtimes(file, now, now); err != nil {
		return fmt.Errorf("remember the time: %w", err)
	}
	return nil
}
