// Package console writes PID 1's progress to the system console, one line for
// each unit, as people know it from systemd. A slow or stuck console never
// holds up PID 1: lines wait in a bounded queue and are dropped when it is full.
package console

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Tag is what stands in the brackets of a line.
type Tag string

// The tags.
const (
	OK       Tag = "  OK  "
	Failed   Tag = "FAILED"
	Depend   Tag = "DEPEND"
	Timeout  Tag = " TIME "
	Info     Tag = " INFO "
	Starting Tag = ""
)

// Console is the system console. The zero value drops everything.
type Console struct {
	lines chan string
	done  chan struct{}
	quiet atomic.Bool
}

// Open starts writing to the device at path. A device that cannot be opened
// drops lines.
func Open(path string) *Console {
	c := &Console{lines: make(chan string, 512), done: make(chan struct{})}
	go c.run(path)
	return c
}

func (c *Console) run(path string) {
	defer close(c.done)
	for line := range c.lines {
		// Opened anew for each line: a hangup of the terminal by a getty
		// makes an open descriptor useless.
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		f := os.NewFile(uintptr(fd), path)
		_, _ = f.WriteString(line + "\r\n")
		f.Close()
	}
}

// Quiet stops Status from writing, once the machine is up and the console
// belongs to those who log in.
func (c *Console) Quiet(on bool) { c.quiet.Store(on) }

// Status writes one line about a unit.
func (c *Console) Status(tag Tag, text string) {
	if c.quiet.Load() {
		return
	}
	if tag == Starting {
		c.Print("         " + text)
		return
	}
	c.Print(fmt.Sprintf("[%s] %s", tag, text))
}

// Print writes a line whether or not the console is quiet.
func (c *Console) Print(line string) {
	if c.lines == nil {
		return
	}
	select {
	case c.lines <- line:
	default:
	}
}

// Close waits a little for what is queued to be written.
func (c *Console) Close(wait time.Duration) {
	if c.lines == nil {
		return
	}
	close(c.lines)
	select {
	case <-c.done:
	case <-time.After(wait):
	}
}
