package locksmith

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/agents/locksmith/semaphore"
	"github.com/coracle-os/coracle/agents/locksmith/window"
)

func TestGuardQuorum(t *testing.T) {
	own, up, down, learner := Member{Own: true, Voter: true, Healthy: true}, Member{Voter: true, Healthy: true}, Member{Name: "d", Voter: true}, Member{Healthy: true}
	for _, tt := range []struct {
		name    string
		members []Member
		want    string // "" lets it reboot
	}{
		{"alone", []Member{own}, ""},
		{"one of two", []Member{own, up}, "a store of 2 members cannot do without one"},
		{"one of three", []Member{own, up, up}, ""},
		{"one of three, one down", []Member{own, up, down}, `1 of 3 members remain, 2 are needed; not healthy: ["d"]`},
		{"one of five, one down", []Member{own, up, up, up, down}, ""},
		{"one of five, two down", []Member{own, up, up, down, down}, "2 of 5 members remain, 3 are needed"},
		{"a learner does not count", []Member{own, up, learner}, "a store of 2 members"},
		{"not a voter", []Member{{Own: true}, up, down, up}, ""},
		{"own one is down", []Member{{Own: true, Voter: true}, up, up}, ""},
		{"no member here", []Member{up, up, down}, ""},
	} {
		err := GuardQuorum(tt.members)
		if (tt.want == "") != (err == nil) || err != nil && (!errors.Is(err, ErrQuorum) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestReadConfig(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(environ ...string) string {
		c, err := ReadConfig(root, environ, "LOCKSMITHD_")
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%s %s %q %s", c.Strategy, c.Window, c.Store.Endpoints, c.Store.Group)
	}
	check := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	check(read(), `best-effort always ["http://127.0.0.1:2379"] `)
	write("usr/share/coreos/update.conf", "GROUP=stable\nREBOOT_STRATEGY=reboot\n")
	check(read(), `reboot always ["http://127.0.0.1:2379"] `)
	write("etc/coreos/update.conf", "REBOOT_STRATEGY=etcd-lock\nREBOOT_WINDOW_START=\"Thu 23:30\"\nREBOOT_WINDOW_LENGTH=1h\n")
	check(read(), `etcd-lock Thu 23:30 UTC for 1h0m0s ["http://127.0.0.1:2379"] `)
	check(read("LOCKSMITHD_ENDPOINT=http://a:2379, http://b:2379", "LOCKSMITHD_GROUP=web", "LOCKSMITHD_REBOOT_WINDOW_START=04:00", "REBOOT_WINDOW_START=05:00"),
		`etcd-lock 04:00 UTC for 1h0m0s ["http://a:2379" "http://b:2379"] web`)
	check(read("REBOOT_STRATEGY=off", "REBOOT_WINDOW_LENGTH="), `off Thu 23:30 UTC for 1h0m0s ["http://127.0.0.1:2379"] `)
	check(read("DRAIN_TIMEOUT=soon"), `read settings: DRAIN_TIMEOUT=soon: give a time like 2m, or 0s to reboot without draining`)
	check(read("REBOOT_STRATEGY=never"), `read settings: REBOOT_STRATEGY=never: use one of ["reboot" "etcd-lock" "best-effort" "off"]`)
	write("etc/coreos/update.conf", "REBOOT_WINDOW_START=04:00\n")
	if got := read(); !strings.Contains(got, "without REBOOT_WINDOW_LENGTH") {
		t.Error(got)
	}
}

// fakeLock is a store whose answers are written down.
type fakeLock struct {
	lock, unlock []error // of each call; then nil
	members      [][]Member
	event        func(string)
}

func next[T any](list *[]T) (v T) {
	if len(*list) > 0 {
		v, *list = (*list)[0], (*list)[1:]
	}
	return v
}

func (f *fakeLock) Lock(context.Context, string) error {
	f.event("lock")
	return next(&f.lock)
}

func (f *fakeLock) Unlock(context.Context, string) error {
	f.event("unlock")
	return next(&f.unlock)
}

func (f *fakeLock) Members(context.Context) ([]Member, error) { return next(&f.members), nil }

func TestDaemon(t *testing.T) {
	alone := []Member{{Own: true, Voter: true}}
	fragile := []Member{{Own: true, Voter: true, Healthy: true}, {Voter: true, Healthy: true}}
	full := fmt.Errorf("lock: %w", semaphore.ErrFull)
	down := errors.New("no answer")
	for _, tt := range []struct {
		name     string
		strategy Strategy
		lock     fakeLock
		store    bool // etcd runs here
		people   bool
		judgedAt time.Duration
		gone     [2]time.Duration // the release does not wait from then to then
		window   [2]string
		drain    time.Duration
		want     []string
	}{
		{name: "off", strategy: Off, want: []string{"state off"}},
		{name: "reboot", strategy: Reboot, store: true, want: []string{"state starting", "state running", "after 10s", "state waiting", "state draining", "state rebooting", "reboot"}},
		{name: "somebody is logged in", strategy: Reboot, people: true,
			want: []string{"state starting", "state running", "after 10s", "state waiting", "after 5m0s", "state draining", "state rebooting", "reboot"}},
		{name: "window", strategy: Reboot, window: [2]string{"00:02", "1m"},
			want: []string{"state starting", "state running", "after 10s", "state waiting", "after 1m50s", "state draining", "state rebooting", "reboot"}},
		{name: "best-effort without a store", strategy: BestEffort, want: []string{"state starting", "state running", "after 10s", "state waiting", "state draining", "state rebooting", "reboot"}},
		{name: "best-effort with a store", strategy: BestEffort, store: true, lock: fakeLock{unlock: []error{semaphore.ErrNotHolder}, members: [][]Member{alone, alone}},
			want: []string{"state starting", "unlock", "state running", "after 10s", "state waiting", "lock", "state draining", "state rebooting", "reboot"}},
		{name: "its own lock goes once the release is judged", strategy: EtcdLock, judgedAt: 12 * time.Second,
			want: []string{"state starting", "after 15s", "unlock", "state running", "state waiting", "lock", "state draining", "state rebooting", "reboot"}},
		{name: "a release that nobody judges", strategy: EtcdLock, judgedAt: 100 * time.Hour,
			want: []string{"state starting", "after 1h0m0s", "unlock", "state running", "state waiting", "lock", "state draining", "state rebooting", "reboot"}},
		{name: "the store does not answer for a while, then others hold the lock", strategy: EtcdLock,
			lock: fakeLock{unlock: []error{down, down}, lock: []error{full, full, full}},
			want: []string{"state starting", "unlock", "after 5s", "unlock", "after 10s", "unlock", "state running", "state waiting",
				"lock", "after 5s", "lock", "after 10s", "lock", "after 20s", "lock", "state draining", "state rebooting", "reboot"}},
		{name: "the quorum", strategy: EtcdLock, lock: fakeLock{members: [][]Member{fragile, fragile, alone, alone}},
			want: []string{"state starting", "unlock", "state running", "after 10s", "state waiting", "after 15s", "lock", "state draining", "state rebooting", "reboot"}},
		{name: "the quorum after the lock was taken", strategy: EtcdLock, lock: fakeLock{members: [][]Member{alone, fragile, alone, alone}},
			want: []string{"state starting", "unlock", "state running", "after 10s", "state waiting", "lock", "unlock", "after 5s", "lock", "state draining", "state rebooting", "reboot"}},
		{name: "a newer release comes while people are warned", strategy: EtcdLock, people: true, gone: [2]time.Duration{time.Minute, 10 * time.Minute},
			want: []string{"state starting", "unlock", "state running", "after 10s", "state waiting", "lock", "after 5m0s", "unlock", "state running",
				"after 4m50s", "state waiting", "lock", "after 5m0s", "state draining", "state rebooting", "reboot"}},
		{name: "units leave", strategy: Reboot, drain: 20 * time.Second,
			want: []string{"state starting", "state running", "after 10s", "state waiting", "state draining", "after 20s", "state rebooting", "reboot"}},
		{name: "a newer release comes while units leave", strategy: Reboot, drain: time.Minute, gone: [2]time.Duration{30 * time.Second, 100 * time.Second},
			want: []string{"state starting", "state running", "after 10s", "state waiting", "state draining", "after 1m0s", "undrain", "state running",
				"after 30s", "state waiting", "state draining", "after 1m0s", "state rebooting", "reboot"}},
		{name: "it holds the lock already", strategy: EtcdLock, lock: fakeLock{lock: []error{semaphore.ErrHolds}},
			want: []string{"state starting", "unlock", "state running", "after 10s", "state waiting", "lock", "state draining", "state rebooting", "reboot"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var events []string
			var log bytes.Buffer
			begin := time.Date(2026, 11, 19, 0, 0, 0, 0, time.UTC)
			now, slept := begin, time.Duration(0)
			event := func(text string) {
				if slept > 0 {
					events = append(events, "after "+slept.String())
					slept = 0
				}
				events = append(events, text)
			}
			w, err := window.Parse(tt.window[0], tt.window[1])
			if err != nil {
				t.Fatal(err)
			}
			store := tt.lock
			store.event = event
			d := &daemon{config: Config{Strategy: tt.strategy, Window: w}, id: "m", log: &log, lock: &store,
				now:   func() time.Time { return now },
				sleep: func(_ context.Context, d time.Duration) error { now, slept = now.Add(d), slept+d; return nil },
				pending: func() bool {
					at := now.Sub(begin)
					return at >= 10*time.Second && (at < tt.gone[0] || at >= tt.gone[1])
				},
				judged: func() bool { return now.Sub(begin) >= tt.judgedAt },
				active: func(context.Context) bool { return tt.store },
				people: func() bool { return tt.people }, broadcast: func(string) {}, prepare: func(context.Context) {},
				drain: func(context.Context) (func(), error) {
					now, slept = now.Add(tt.drain), slept+tt.drain
					return func() { event("undrain") }, nil
				},
				reboot: func(context.Context) error { event("reboot"); return nil },
				state:  func(s string) { event("state " + s) },
			}
			if err := d.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, events); diff != "" {
				t.Errorf("-want +got:\n%s\nlog:\n%s", diff, &log)
			}
		})
	}
}

func TestWriteState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "update-engine", "coordinator.conf")
	for _, state := range []string{"starting", "running"} {
		if err := writeState(path, EtcdLock, state); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if want := "NAME=locksmithd\nSTRATEGY=etcd-lock\nSTATE=" + state + "\n"; err != nil || string(got) != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
}

func TestLoggedIn(t *testing.T) {
	dev := t.TempDir()
	for _, name := range []string{"pts/0", "pts/1", "pts/ptmx", "tty1", "tty0", "ttyS0"} {
		path := filepath.Join(dev, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := loggedIn(dev); len(got) > 0 {
		t.Errorf("nobody is logged in, got %q", got)
	}
	var want []string
	for _, name := range []string{"pts/1", "ttyS0"} {
		want = append(want, filepath.Join(dev, name))
		if err := os.Chown(filepath.Join(dev, name), 500, 5); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, loggedIn(dev)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	wall(want, "hello")
	if got, err := os.ReadFile(want[0]); err != nil || !strings.Contains(string(got), "hello") {
		t.Errorf("%q, %v", got, err)
	}
}
