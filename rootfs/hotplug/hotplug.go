// Package hotplug loads the drivers of devices that appear while the machine
// runs: a keyboard that is plugged into a server, a disk or a network card that
// a cloud attaches, and what stands behind a bus whose driver was loaded last.
//
// The news are the kernel's uevents (initrd/uevent), the drivers those of
// modules.alias, loaded by modprobe, in a process of its own so that no daemon
// keeps the index of the modules in memory. It runs inside the network daemon,
// as it would be a whole process of memory for the little that it does.
//
// Left out on purpose: names, permissions and rules for devices (devtmpfs has
// the nodes), and unloading.
package hotplug

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/coracle-os/coracle/initrd/uevent"
)

// Events is where the news come from; *uevent.Conn is one.
type Events interface {
	// Next waits for an event. ok is false if none came in that time.
	Next(wait time.Duration) (event uevent.Event, ok bool, err error)
}

// Follower asks for drivers. It asks once for each kind of device, whether the
// kernel has a driver for it or not.
type Follower struct {
	Sys  string                                         // sysfs
	Load func(ctx context.Context, modaliases []string) // loads what it can
	// Settle is how long no news must come before drivers are asked for: a bus is
	// found device by device.
	Settle time.Duration
	// Scan is when all devices are looked at once, for those that came before
	// the first event was heard.
	Scan time.Duration

	asked map[string]bool
}

// Run follows the events until they end, or ctx does and the next one comes.
func (f *Follower) Run(ctx context.Context, events Events) error {
	f.asked = map[string]bool{}
	var pending []string
	scan := time.Now().Add(f.Scan)
	for ctx.Err() == nil {
		wait := time.Hour
		if len(pending) > 0 {
			wait = f.Settle
		} else if !scan.IsZero() {
			wait = max(0, time.Until(scan))
		}
		event, ok, err := events.Next(wait)
		switch {
		case errors.Is(err, uevent.ErrLost):
			pending = append(pending, f.missing()...)
		case err != nil:
			return err
		case ok:
			if event.Action == "add" && event.Modalias != "" && !f.asked[event.Modalias] {
				f.asked[event.Modalias] = true
				pending = append(pending, event.Modalias)
			}
			continue
		}
		if !scan.IsZero() && !time.Now().Before(scan) {
			scan = time.Time{}
			pending = append(pending, f.missing()...)
		}
		if len(pending) > 0 {
			f.Load(ctx, pending)
			pending = nil
		}
	}
	return ctx.Err()
}

// missing returns the kinds of all devices that have no driver and were not
// asked for.
func (f *Follower) missing() []string {
	files, _ := filepath.Glob(filepath.Join(f.Sys, "bus/*/devices/*/modalias")) // the pattern is right
	var found []string
	for _, file := range files {
		if _, err := os.Lstat(filepath.Join(filepath.Dir(file), "driver")); err == nil {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it went away, or has none after all
		}
		if alias := strings.TrimSpace(string(text)); alias != "" && !f.asked[alias] {
			f.asked[alias] = true
			found = append(found, alias)
		}
	}
	slices.Sort(found)
	return found
}

// Modprobe loads the modules for the aliases. That there is none for many of
// them is no news.
func Modprobe(ctx context.Context, modaliases []string) {
	_ = exec.CommandContext(ctx, "/usr/sbin/modprobe", append([]string{"-qa", "--"}, modaliases...)...).Run()
}

// Follow is Run for this machine.
func Follow(ctx context.Context) error {
	events, err := uevent.Listen()
	if err != nil {
		return fmt.Errorf("follow devices that are plugged in: %w", err)
	}
	defer events.Close()
	f := &Follower{Sys: "/sys", Load: Modprobe, Settle: 50 * time.Millisecond, Scan: 10 * time.Second}
	return f.Run(ctx, events)
}
