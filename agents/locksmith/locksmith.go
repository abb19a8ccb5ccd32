// Package locksmith decides when a machine reboots into a new release:
// locksmithd, the daemon, and locksmithctl, its tool. They are CoreOS
// locksmith's for people and scripts: strategies (REBOOT_STRATEGY), windows,
// the semaphore in the key-value store, output and exit codes.
//
// What is new here: the store is etcd 3; a machine whose loss would break its
// quorum does not take the lock; the lock is kept after the reboot until the
// health gate has judged the new release, so that a bad one stops at the first
// machines; the scheduler's units leave a machine before it reboots
// (DRAIN_TIMEOUT, 2m); and the default is best-effort. Left out on purpose: the D-Bus
// interfaces of update_engine and logind. A file says that a release waits, and
// PID 1 is asked for the reboot.
package locksmith

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/coracle-os/coracle/agents/health/baseline"
	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/program"
)

// Main is locksmithd.
func Main(ctx context.Context, _ []string, stdio program.Stdio) int {
	debug.SetGCPercent(20)
	config, err := ReadConfig("/", os.Environ(), "LOCKSMITHD_")
	if err != nil {
		fmt.Fprintf(stdio.Err, "locksmithd: %v\n", err)
		return 1
	}
	id, err := machineID()
	if err != nil {
		fmt.Fprintf(stdio.Err, "locksmithd: %v\n", err)
		return 1
	}
	d, err := onMachine(config, id, stdio)
	if err != nil {
		fmt.Fprintf(stdio.Err, "locksmithd: %v\n", err)
		return 1
	}
	if err := d.run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(stdio.Err, "locksmithd: %v\n", err)
		return 1
	}
	return 0
}

// onMachine is the daemon on the machine that this program runs on.
func onMachine(config Config, id string, stdio program.Stdio) (*daemon, error) {
	exists := func(path string) func() bool {
		return func() bool { _, err := os.Stat(path); return err == nil }
	}
	d := &daemon{config: config, id: id, lock: NewCluster(config.Store, nil), log: stdio.Err,
		now: time.Now, sleep: sleep, pending: exists(NeedReboot), judged: exists(baseline.Judged), active: storeActive,
		people:    func() bool { return len(loggedIn("/dev")) > 0 },
		broadcast: func(text string) { wall(loggedIn("/dev"), text) },
		reboot:    rebootMachine,
	}
	d.prepare = func(ctx context.Context) {
		if err := baseline.Save(ctx, "/"); err != nil {
			d.say("%v", err)
		}
	}
	d.state = func(state string) {
		if err := writeState(Coordinator, config.Strategy, state); err != nil {
			d.say("%v", err)
		}
		debug.FreeOSMemory()
	}
	drainer, err := newDrainer(id, config.Drain, d.say)
	if err != nil {
		return nil, err
	}
	d.drain = drainer.drain
	return d, nil
}

func machineID() (string, error) {
	data, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		return "", fmt.Errorf("read the machine id: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// storeActive tells if the machine's own key-value store runs, or is about to.
func storeActive(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := control.Client{}.Collect(ctx, control.Request{Verb: control.ListUnits, Units: []string{"etcd.service", "etcd2.service"}})
	return err == nil && len(resp.Units) > 0 && resp.Units[0].Active != "failed"
}

// rebootMachine asks PID 1, in order: services are stopped.
func rebootMachine(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := (control.Client{}).Collect(ctx, control.Request{Verb: control.Reboot}); err != nil {
		return fmt.Errorf("ask for the reboot: %w", err)
	}
	return nil
}
