package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/u-root/u-root/pkg/watchdog"
	"golang.org/x/sys/unix"
)

// watchdogTimeout is how long the machine may be silent, if the hardware can
// count that far.
const watchdogTimeout = 60 * time.Second

// watchdogs are all that are armed.
type watchdogs []*watchdogHandle

func (w watchdogs) has(device string) bool {
	return slices.ContainsFunc(w, func(h *watchdogHandle) bool { return h.device == device })
}

func (w watchdogs) handOver() {
	for _, h := range w {
		h.handOver()
	}
}

// watchdogHandle is an armed watchdog that a goroutine pings.
type watchdogHandle struct {
	device  string
	timeout time.Duration
	dog     *watchdog.Watchdog
	stop    chan struct{}
	stopped chan struct{}
}

// startWatchdog arms the watchdog.
func startWatchdog(device string) (*watchdogHandle, error) {
	dog, err := watchdog.Open(device)
	if err != nil {
		return nil, fmt.Errorf("arm the watchdog %s: %w", device, err)
	}
	// Hardware that cannot count that far keeps its own time. Not by the library's
	// SetTimeout, which gives the kernel nanoseconds for seconds.
	_ = unix.IoctlSetPointerInt(int(dog.File.Fd()), unix.WDIOC_SETTIMEOUT, int(watchdogTimeout/time.Second))
	timeout, err := dog.Timeout()
	if err != nil || timeout <= 0 {
		timeout = watchdogTimeout
	}
	h := &watchdogHandle{device: device, timeout: timeout, dog: dog,
		stop: make(chan struct{}), stopped: make(chan struct{})}
	go h.ping()
	return h, nil
}

// ping keeps the machine alive while stage 1 waits for a disk or a file system
// check, which are bounded themselves.
func (h *watchdogHandle) ping() {
	defer close(h.stopped)
	ticker := time.NewTicker(max(h.timeout/4, time.Second/4))
	defer ticker.Stop()
	for {
		h.dog.KeepAlive()
		select {
		case <-h.stop:
			return
		case <-ticker.C:
		}
	}
}

// handOver leaves the watchdog armed for PID 1: closing without the magic
// character does not disarm it.
func (h *watchdogHandle) handOver() {
	close(h.stop)
	<-h.stopped
	h.dog.KeepAlive()
	h.dog.Close()
}
