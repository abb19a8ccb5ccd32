// Command unit is the service of a unit in the lab: it writes down that it runs,
// with the time since boot in nanoseconds, until it is told to stop.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	f, err := os.OpenFile(os.Args[2], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	begin := now()
	write := func(what string) { fmt.Fprintf(f, "%s %d.%d %s %d\n", os.Args[1], os.Getpid(), begin, what, now()) }
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	write("start")
	for {
		select {
		case <-end:
			write("stop")
			return
		case <-time.After(20 * time.Millisecond):
			write("beat")
		}
	}
}

func now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}
