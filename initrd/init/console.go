package main

import (
	"fmt"
	"os"
	"strings"
)

// Priorities of the kernel log.
const (
	priorityError  = 3
	priorityNotice = 5
	priorityInfo   = 6
)

// console tells the person in front of the machine and the journal of later:
// progress goes to the kernel log, which the consoles show, and the reason of a
// failure to the console itself too, because the kernel log is rate-limited.
type console struct {
	kmsg  *os.File // nil when there is none yet
	out   *os.File // /dev/console
	debug bool     // "coracle.debug" was given
}

// openConsole works before /dev is mounted: the kernel's built-in archive has
// /dev/console and opens it as the standard streams.
func openConsole() *console { return &console{out: os.Stderr} }

// openKmsg opens the kernel log, once /dev is there.
func (c *console) openKmsg() {
	if file, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); err == nil {
		c.kmsg = file
	}
}

// Info is for progress.
func (c *console) Info(text string) { c.print(priorityInfo, text) }

// Notice is for what the owner should know but the boot goes on with.
func (c *console) Notice(text string) { c.print(priorityNotice, text) }

// Error is for what ends the boot.
func (c *console) Error(text string) { c.print(priorityError, text) }

func (c *console) print(priority int, text string) {
	if c.kmsg != nil {
		if _, err := fmt.Fprintf(c.kmsg, "<%d>coracle: %s\n", priority, text); err == nil {
			return
		}
	}
	fmt.Fprintf(c.out, "coracle: %s\n", text)
}

// Failure shows why the boot ends.
func (c *console) Failure(err error) {
	text := fmt.Sprintf("boot failed: %v", err)
	fmt.Fprintf(c.out, "\n*** coracle: %s\n", text)
	for line := range strings.Lines(text) {
		if c.kmsg != nil {
			// Priority 7 is kept in the log but not shown a second time.
			fmt.Fprintf(c.kmsg, "<7>coracle: %s\n", strings.TrimSpace(line))
		}
	}
}
