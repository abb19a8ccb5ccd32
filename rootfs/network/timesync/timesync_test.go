package timesync

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDecide(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	floor := now.Add(-time.Hour)
	for offset, want := range map[time.Duration]Correction{
		0: Slew, 300 * time.Millisecond: Slew, -300 * time.Millisecond: Slew, time.Second: Step, -time.Second: Step,
		100 * 365 * 24 * time.Hour: Step, -30 * time.Minute: Step, -2 * time.Hour: Reject,
	} {
		if got := Decide(now, offset, floor); got != want {
			t.Errorf("%v: got %s, want %s", offset, got, want)
		}
	}
}

func TestPoll(t *testing.T) {
	p := Poll{Min: 32 * time.Second, Max: 256 * time.Second}
	var got []time.Duration
	for _, offset := range []time.Duration{time.Hour, 0, 0, 0, 0, 200 * time.Millisecond, time.Second} {
		got = append(got, p.Good(offset)/time.Second)
	}
	if diff := cmp.Diff([]time.Duration{32, 64, 128, 256, 256, 128, 32}, got); diff != "" {
		t.Errorf("pauses after answers (-want +got):\n%s", diff)
	}
	got = nil
	for range 5 {
		got = append(got, p.Bad()/time.Second)
	}
	if diff := cmp.Diff([]time.Duration{32, 64, 128, 256, 256}, got); diff != "" {
		t.Errorf("pauses without answers (-want +got):\n%s", diff)
	}
}

func TestFloorAndRemember(t *testing.T) {
	directory := t.TempDir()
	release, clock := filepath.Join(directory, "os-release"), filepath.Join(directory, "timesync/clock")
	if got := Floor(clock, release); !got.IsZero() {
		t.Errorf("no files: got %v", got)
	}
	built := time.Unix(1_700_000_000, 0)
	if err := os.WriteFile(release, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(release, built, built); err != nil {
		t.Fatal(err)
	}
	if got := Floor(clock, release); !got.Equal(built) {
		t.Errorf("first boot: got %v, want %v", got, built)
	}
	ran := built.Add(time.Hour)
	if err := Remember(clock, ran); err != nil {
		t.Fatal(err)
	}
	if got := Floor(clock, release); !got.Equal(ran) {
		t.Errorf("later: got %v, want %v", got, ran)
	}
	if err := Remember(filepath.Join(release, "clock"), ran); err == nil {
		t.Error("a file in the way is no error")
	}
}

// fakeClock is off by a fixed time from the clock of the test's bubble.
type fakeClock struct {
	off   time.Duration
	steps int
	slews int
}

func (c *fakeClock) Now() time.Time             { return time.Now().Add(c.off) }
func (c *fakeClock) Step(t time.Time) error     { c.off = time.Until(t); c.steps++; return nil }
func (c *fakeClock) Slew(d time.Duration) error { c.off += d; c.slews++; return nil }
func (c *fakeClock) errorNow() time.Duration    { return -c.off }

// TestSyncer plays an hour: servers that are dead, wrong, and right.
func TestSyncer(t *testing.T) {
	file := filepath.Join(t.TempDir(), "clock")
	synctest.Test(t, func(t *testing.T) {
		clock := &fakeClock{off: -10 * time.Minute}
		asked := map[string]int{}
		alive := false
		var log strings.Builder
		var synced []string
		syncer := Syncer{
			Clock: clock, ClockFile: file, Floor: time.Now().Add(-20 * time.Minute),
			Poll: Poll{Min: 32 * time.Second, Max: 2048 * time.Second},
			Log:  slog.New(slog.NewTextHandler(&log, nil)),
			Ask: func(_ context.Context, server string) (time.Duration, error) {
				asked[server]++
				switch {
				case !alive || server == "dead":
					return 0, errors.New("no answer")
				case server == "old":
					return -24 * time.Hour, nil
				}
				return clock.errorNow(), nil
			},
			Synced: func(server string) { synced = append(synced, server) },
		}
		ctx, cancel := context.WithCancel(context.Background())
		servers := make(chan []string, 1)
		done := make(chan struct{})
		go func() { defer close(done); syncer.Run(ctx, servers) }()
		time.Sleep(time.Minute)
		if len(asked) != 0 {
			t.Errorf("asked %v without servers", asked)
		}
		servers <- []string{"dead", "old", "good"}
		time.Sleep(10 * time.Minute)
		if clock.steps != 0 || strings.Count(log.String(), "not synchronized") != 1 {
			t.Errorf("without a network: %d steps and log\n%s", clock.steps, &log)
		}
		alive = true
		servers <- []string{"dead", "old", "good"}
		time.Sleep(time.Second)
		if clock.steps != 1 || clock.off != 0 || len(synced) != 1 || synced[0] != "good" {
			t.Errorf("after the first answer: %d steps, off by %v, synchronized by %v", clock.steps, clock.off, synced)
		}
		clock.off = 100 * time.Millisecond
		time.Sleep(time.Hour)
		if clock.steps != 1 || clock.slews == 0 || clock.off != 0 {
			t.Errorf("small error: %d steps, %d slews, off by %v", clock.steps, clock.slews, clock.off)
		}
		if asked["good"] > 12 {
			t.Errorf("asked %d times in an hour", asked["good"])
		}
		cancel()
		<-done
	})
	if info, err := os.Stat(file); err != nil || info.ModTime().IsZero() {
		t.Errorf("the time is not remembered: %v", err)
	}
}
