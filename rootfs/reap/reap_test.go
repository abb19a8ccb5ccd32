package reap

import (
	"context"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func shell(script string) func() (int, error) {
	return func() (int, error) {
		return syscall.ForkExec("/bin/sh", []string{"sh", "-c", script}, &syscall.ProcAttr{Env: []string{"PATH=/usr/bin:/bin"}})
	}
}

func run(t *testing.T) *Reaper {
	t.Helper()
	r := New(nil)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { r.Run(ctx); close(ended) }()
	t.Cleanup(func() { stop(); <-ended })
	return r
}

func TestExitStatuses(t *testing.T) {
	r := run(t)
	tests := []struct {
		script string
		want   Exit
	}{
		{"exit 0", Exit{}},
		{"exit 42", Exit{Status: 42}},
		{"kill -TERM $$", Exit{Signal: unix.SIGTERM}},
		{"kill -KILL $$", Exit{Signal: unix.SIGKILL}},
	}
	for _, tt := range tests {
		got := make(chan Exit, 1)
		pid, err := r.Start(shell(tt.script), func(e Exit) { got <- e })
		if err != nil {
			t.Fatal(err)
		}
		tt.want.PID = pid
		if e := <-got; e != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.script, e, tt.want)
		}
	}
}

// A child that ends at once must never be collected without its owner.
func TestNoExitIsLost(t *testing.T) {
	r := run(t)
	const workers, each = 8, 50
	var wg sync.WaitGroup
	for range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range each {
				got := make(chan Exit, 1)
				if _, err := r.Start(shell("exit 7"), func(e Exit) { got <- e }); err != nil {
					t.Error(err)
					return
				}
				select {
				case e := <-got:
					if e.Status != 7 {
						t.Errorf("got %+v", e)
					}
				case <-time.After(20 * time.Second):
					t.Error("an exit was lost")
					return
				}
			}
		}()
	}
	wg.Wait()
	if n := r.Registered(); n != 0 {
		t.Errorf("%d owners left", n)
	}
}

func TestOrphansAreCollected(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	r := run(t)
	got := make(chan Exit, 1)
	if _, err := r.Start(shell("(sleep 0.1) & exit 0"), func(e Exit) { got <- e }); err != nil {
		t.Fatal(err)
	}
	<-got
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err == unix.ECHILD {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the orphan was not collected")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestFailedStartRegistersNothing(t *testing.T) {
	r := run(t)
	_, err := r.Start(func() (int, error) {
		return syscall.ForkExec("/nonexistent", []string{"x"}, &syscall.ProcAttr{})
	}, func(Exit) { t.Error("called") })
	if err == nil {
		t.Fatal("no error")
	}
	if n := r.Registered(); n != 0 {
		t.Errorf("%d owners", n)
	}
}

func TestWatchReportsMissingProcess(t *testing.T) {
	r := New(nil)
	if r.Watch(1<<22-1, func(Exit) {}) {
		t.Error("a process that does not exist was watched")
	}
}
