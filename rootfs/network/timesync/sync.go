package timesync

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/beevik/ntp"
	"golang.org/x/sys/unix"
)

// Clock is the clock of the machine.
type Clock interface {
	Now() time.Time
	// Step sets the time, Slew moves it slowly by offset. Both tell the kernel
	// that it is right, so that it keeps the hardware clock right too.
	Step(t time.Time) error
	Slew(offset time.Duration) error
}

// Syncer asks servers and mends the clock.
type Syncer struct {
	Clock Clock
	// Ask gives how far the clock is off by a server.
	Ask       func(ctx context.Context, server string) (time.Duration, error)
	ClockFile string // remembers the time
	Floor     time.Time
	Poll      Poll
	Log       *slog.Logger
	Synced    func(server string) // after every good answer
	failing   bool
}

// Ask asks a server once by NTP.
func Ask(ctx context.Context, server string) (time.Duration, error) {
	answer, err := ntp.QueryWithOptions(server, ntp.QueryOptions{Timeout: 5 * time.Second})
	if err != nil {
		return 0, fmt.Errorf("ask time server %q: %w", server, err)
	}
	if err := answer.Validate(); err != nil {
		return 0, fmt.Errorf("ask time server %q: %w", server, err)
	}
	return answer.ClockOffset, nil
}

// Run works until ctx ends. servers gives the list to ask, in order of
// preference, whenever it changed.
func (s *Syncer) Run(ctx context.Context, servers <-chan []string) {
	var list []string
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case list = <-servers:
			s.Poll.failures = 0
		case <-timer.C:
		}
		wait := s.Poll.Max
		if len(list) > 0 {
			wait = s.once(ctx, list)
		}
		timer.Reset(wait)
	}
}

// once asks the servers in order until one gives a usable answer, and returns
// the time until the next question.
func (s *Syncer) once(ctx context.Context, servers []string) time.Duration {
	var problem error
	for _, server := range servers {
		offset, err := s.Ask(ctx, server)
		if ctx.Err() != nil {
			return s.Poll.Max
		}
		if err == nil {
			err = s.correct(server, offset)
		}
		if err != nil {
			problem = err
			continue
		}
		s.failing = false
		if s.Synced != nil {
			s.Synced(server)
		}
		if err := Remember(s.ClockFile, s.Clock.Now()); err != nil {
			s.Log.Warn(err.Error())
		}
		return s.Poll.Good(offset)
	}
	wait := s.Poll.Bad()
	// Once is enough: the network's own messages say the rest.
	if !s.failing && s.Poll.Failures() > 1 {
		s.failing = true
		s.Log.Warn(fmt.Sprintf("the clock is not synchronized: %v; still trying", problem))
	}
	return wait
}

func (s *Syncer) correct(server string, offset time.Duration) error {
	now := s.Clock.Now()
	switch Decide(now, offset, s.Floor) {
	case Reject:
		return fmt.Errorf("time server %q says %v, which is before this system was built or last ran", server, now.Add(offset).UTC())
	case Step:
		if err := s.Clock.Step(now.Add(offset)); err != nil {
			return fmt.Errorf("set the clock: %w", err)
		}
		s.Log.Info(fmt.Sprintf("the clock was off by %v and has been set by %s", offset.Round(time.Millisecond), server))
		return nil
	}
	if err := s.Clock.Slew(offset); err != nil {
		return fmt.Errorf("slew the clock: %w", err)
	}
	s.Log.Debug(fmt.Sprintf("the clock is off by %v by %s", offset.Round(time.Microsecond), server))
	return nil
}

// System is the kernel's clock.
type System struct{}

// Now is the time of day.
func (System) Now() time.Time { return time.Now() }

// Step sets it.
func (System) Step(t time.Time) error {
	spec := unix.NsecToTimespec(t.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &spec); err != nil {
		return err
	}
	return markSynchronized()
}

// Slew moves it by at most half a millisecond per second (adjtime(3)).
func (System) Slew(offset time.Duration) error {
	adjust := unix.Timex{Modes: unix.ADJ_OFFSET_SINGLESHOT, Offset: offset.Microseconds()}
	if _, err := unix.Adjtimex(&adjust); err != nil {
		return err
	}
	return markSynchronized()
}

// markSynchronized clears the kernel's "unsynchronized", upon which it writes
// the hardware clock every eleven minutes.
func markSynchronized() error {
	adjust := unix.Timex{Modes: unix.ADJ_STATUS | unix.ADJ_MAXERROR | unix.ADJ_ESTERROR}
	_, err := unix.Adjtimex(&adjust)
	return err
}
