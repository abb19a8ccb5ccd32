// Package waitonline is systemd-networkd-wait-online: it ends when the network
// is online, so that network-online.target means something, and gives up after
// a bounded time, so that a machine without a network comes up too.
// systemd-networkd-wait-online.service(8).
package waitonline

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/state"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

// options are what the command line asks for.
type options struct {
	timeout    time.Duration // 0 = without end
	any        bool          // one interface is enough
	interfaces []string      // wait for these; empty = what the daemon calls online
	quiet      bool
}

// interval is the time between two looks at the daemon's state file.
const interval = 100 * time.Millisecond

// Main is the program systemd-networkd-wait-online.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	opts, err := parse(args[1:])
	if err != nil {
		fmt.Fprintf(stdio.Err, "%s: %v\n", args[0], err)
		return 2
	}
	if err := wait(ctx, opts, state.Path); err != nil {
		if !opts.quiet {
			fmt.Fprintln(stdio.Err, err)
		}
		return 1
	}
	return 0
}

func parse(args []string) (options, error) {
	opts := options{timeout: 2 * time.Minute}
	for i := 0; i < len(args); i++ {
		name, value, hasValue := strings.Cut(args[i], "=")
		switch name {
		case "--any":
			opts.any = true
			continue
		case "-q", "--quiet":
			opts.quiet = true
			continue
		case "--timeout", "-i", "--interface":
		default:
			return opts, fmt.Errorf("unknown argument %q; known are --timeout=TIME, --interface=NAME, --any, --quiet", args[i])
		}
		if !hasValue {
			if i++; i == len(args) {
				return opts, fmt.Errorf("%s needs a value", name)
			}
			value = args[i]
		}
		if name != "--timeout" {
			opts.interfaces = append(opts.interfaces, value)
			continue
		}
		var err error
		if opts.timeout, err = timespan.Parse(value, time.Second); err != nil {
			return opts, fmt.Errorf("--timeout=%s: %w", value, err)
		}
	}
	return opts, nil
}

func wait(ctx context.Context, opts options, path string) error {
	if opts.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, opts.timeout)
		defer cancel()
	}
	for {
		current, err := state.Read(path)
		if err == nil && online(opts, current) {
			return nil
		}
		select {
		case <-ctx.Done():
			return reason(opts, current, err)
		case <-time.After(interval):
		}
	}
}

func online(opts options, current state.State) bool {
	routable := func(name string) bool {
		return slices.ContainsFunc(current.Interfaces, func(i state.Interface) bool {
			return i.Name == name && i.OperState == "routable" && i.SetupState == "configured"
		})
	}
	switch {
	case len(opts.interfaces) > 0 && opts.any:
		return slices.ContainsFunc(opts.interfaces, routable)
	case len(opts.interfaces) > 0:
		return !slices.ContainsFunc(opts.interfaces, func(name string) bool { return !routable(name) })
	case opts.any:
		return slices.ContainsFunc(current.Interfaces, func(i state.Interface) bool { return routable(i.Name) })
	}
	return current.Online
}

// reason says what was missing when the time was over.
func reason(opts options, current state.State, err error) error {
	if err != nil {
		return fmt.Errorf("the network is not online after %v: systemd-networkd has not said anything: %w", opts.timeout, err)
	}
	text := fmt.Sprintf("the network is not online after %v", opts.timeout)
	for _, i := range current.Interfaces {
		if i.SetupState == "unmanaged" {
			continue
		}
		text += fmt.Sprintf("; %s is %s (%s)", i.Name, i.OperState, i.SetupState)
		if i.Problem != "" {
			text += ": " + i.Problem
		}
	}
	return fmt.Errorf("%s", text)
}
