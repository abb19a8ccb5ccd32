// Command init is stage 1: the first program of the machine, in the initrd of
// the UKI. It brings up the verified root and the state partition and becomes
// the init of the root.
//
// The plan is the list in plan.go; each step says why it is there. When a step
// fails, the reason is on the console and in the kernel log and the machine
// restarts after ten seconds, so that the boot loader counts the attempt and
// in the end falls back; with "coracle.debug" on the kernel command line there
// is a small shell instead.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// Places of the running system.
const (
	sysroot   = "/sysroot"
	finalInit = "/usr/lib/coracle/init"
)

// restartDelay is how long the reason of a failure can be read.
const restartDelay = 10 * time.Second

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: this is stage 1 of a Coracle image; it runs only as the first process of a machine")
		os.Exit(2)
	}
	// u-root's packages narrate to the standard logger; errors are returned too.
	log.SetOutput(io.Discard)
	console := openConsole()
	err := run(context.Background(), console)
	console.Failure(err)
	if console.debug {
		shell(console)
	}
	restart(console)
}

// run does the plan. It returns only with an error.
func run(ctx context.Context, console *console) (err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("stage 1 has an error of its own: %v\n%s", problem, debug.Stack())
		}
	}()
	boot := &boot{console: console, start: sinceKernelStart()}
	for _, step := range plan() {
		begin := sinceKernelStart()
		if err := step.do(ctx, boot); err != nil {
			why, _ := damagedInitrd() // the step's own error says more than that the log cannot be read
			err = boot.countFailure(because(fmt.Errorf("%s: %w", step.name, err), why))
			boot.leaveStage1()
			return err
		}
		boot.done(step.name, begin)
	}
	return fmt.Errorf("the plan ended without a switch of roots")
}

// restart waits and restarts the machine.
func restart(console *console) {
	console.Error(fmt.Sprintf("restarting in %d seconds", restartDelay/time.Second))
	if err := keepLastWords(); err != nil {
		console.Error(fmt.Sprintf("the log is not kept: %v", err))
	}
	time.Sleep(restartDelay)
	unix.Sync()
	for {
		err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
		console.Error(fmt.Sprintf("restart: %v", err))
		time.Sleep(restartDelay)
	}
}

// sinceKernelStart is the kernel's own clock, whatever the time of day is.
func sinceKernelStart() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0
	}
	return time.Duration(now.Nano())
}
