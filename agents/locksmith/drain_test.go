package locksmith

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/agents/fleet/api/client"
)

// fakeScheduler answers what is written down; the last answer stays.
type fakeScheduler struct {
	drain []error
	left  [][]string
	event func(string)
}

func (f *fakeScheduler) Drain(_ context.Context, machine, _ string, untilReboot bool) error {
	f.event(fmt.Sprintf("drain %s %v", machine, untilReboot))
	return next(&f.drain)
}

func (f *fakeScheduler) EndDrain(context.Context, string) error {
	f.event("undrain")
	return nil
}

func (f *fakeScheduler) Left(context.Context, string) ([]string, error) {
	if len(f.left) == 1 {
		return f.left[0], nil
	}
	return next(&f.left), nil
}

func TestDrain(t *testing.T) {
	down := &client.Error{Code: 503, Message: "down"}
	for _, tt := range []struct {
		name    string
		away    bool // fleetd does not run
		limit   time.Duration
		fake    fakeScheduler
		stopAt  time.Duration // locksmithd is stopped
		took    time.Duration
		undo    bool
		want    []string
		wantErr error
	}{
		{name: "fleet does not run", away: true, limit: time.Minute},
		{name: "turned off"},
		{name: "no unit here", limit: time.Minute, undo: true, want: []string{"drain m true"}},
		{name: "the scheduler does not know the machine", limit: time.Minute, fake: fakeScheduler{drain: []error{&client.Error{Code: 404}}}, want: []string{"drain m true"}},
		{name: "units leave", limit: time.Minute, fake: fakeScheduler{left: [][]string{{"b", "a"}, {"a"}, {}}}, took: 2 * time.Second, undo: true, want: []string{"drain m true"}},
		{name: "the KV is away for a while", limit: time.Minute, fake: fakeScheduler{drain: []error{down, errors.New("no answer")}}, took: 2 * time.Second, undo: true,
			want: []string{"drain m true", "drain m true", "drain m true"}},
		{name: "a unit that never leaves", limit: 5 * time.Second, fake: fakeScheduler{left: [][]string{{"a"}}}, took: 5 * time.Second, undo: true, want: []string{"drain m true"}},
		{name: "locksmithd is stopped", limit: time.Minute, fake: fakeScheduler{left: [][]string{{"a"}}}, stopAt: 3 * time.Second, took: 3 * time.Second,
			want: []string{"drain m true", "undrain"}, wantErr: context.Canceled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var events []string
			fake := tt.fake
			fake.event = func(e string) { events = append(events, e) }
			begin := time.Unix(0, 0)
			now := begin
			d := &drainer{scheduler: &fake, id: "m", limit: tt.limit, running: func(context.Context) bool { return !tt.away }, now: func() time.Time { return now },
				sleep: func(_ context.Context, d time.Duration) error {
					now = now.Add(d)
					if tt.stopAt > 0 && now.Sub(begin) >= tt.stopAt {
						return context.Canceled
					}
					return nil
				}, say: func(format string, args ...any) { t.Logf(format, args...) }}
			undo, err := d.drain(t.Context())
			if (undo != nil) != tt.undo || !errors.Is(err, tt.wantErr) || now.Sub(begin) != tt.took {
				t.Errorf("drain: undo %v, error %v after %s; want %v, %v after %s", undo != nil, err, now.Sub(begin), tt.undo, tt.wantErr, tt.took)
			}
			if diff := cmp.Diff(tt.want, events); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
