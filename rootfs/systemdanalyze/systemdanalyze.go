// Package systemdanalyze is the program systemd-analyze(1): how long the boot
// took and why (time, blame, critical-chain, plot), whether unit files are right
// (verify), and what calendar expressions and time spans mean (calendar,
// timespan), in the words of systemd 252.
//
// Left out on purpose: dot, dump, security and the verbs that list what is
// compiled into systemd.
package systemdanalyze

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/rootfs/unit/calendar"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

var _ program.Main = Main

// Main is the program on the running machine.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	zones := calendar.System()
	if os.Getenv("TZ") != "" {
		zones.Local = time.Local
	}
	return Machine{Root: "/", Client: control.Client{}, Zones: zones, Now: time.Now()}.Run(ctx, args, stdio)
}

// Machine is what the program sees of the machine; tests replace it.
type Machine struct {
	Root   string // "/" on a running machine
	Client interface {
		Do(ctx context.Context, req control.Request, each func(control.Response) error) error
	}
	Zones calendar.Zones
	Now   time.Time
}

// tool is one call of the program.
type tool struct {
	Machine
	program.Stdio
	ctx        context.Context
	args       []string
	iterations int
	base       string
	fuzz       string
}

// errReported ends the program with code 1; what there is to say was said.
var errReported = errors.New("reported")

// Run runs the program and returns its exit code.
func (m Machine) Run(ctx context.Context, args []string, stdio program.Stdio) int {
	t := &tool{Machine: m, Stdio: stdio, ctx: ctx}
	err := t.run(args)
	if err != nil && !errors.Is(err, errReported) {
		fmt.Fprintln(stdio.Err, err)
	}
	if err != nil {
		return 1
	}
	return 0
}

const usage = `systemd-analyze [OPTIONS...] COMMAND ...

Commands:
  time                     how long the boot took
  blame                    units by the time that they took to start
  critical-chain [UNIT...] what a unit had to wait for
  plot                     the boot as an SVG picture
  verify FILE...           check unit files
  calendar EXPRESSION...   when calendar expressions elapse
  timespan SPAN...         how long time spans are

Options:
`

func (t *tool) run(args []string) error {
	f := pflag.NewFlagSet("systemd-analyze", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.IntVar(&t.iterations, "iterations", 1, "calendar: how many times to show")
	f.StringVar(&t.base, "base-time", "now", "calendar: after which time")
	f.StringVar(&t.fuzz, "fuzz", "0", "critical-chain: show what ended up to this time earlier, too")
	f.Bool("no-pager", false, "accepted for compatibility")
	f.Bool("system", false, "accepted for compatibility")
	f.Bool("man", true, "accepted for compatibility")
	f.Bool("generators", false, "accepted for compatibility")
	f.String("recursive-errors", "yes", "accepted for compatibility")
	if err := f.Parse(args[1:]); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			fmt.Fprint(t.Out, usage, f.FlagUsages())
			return nil
		}
		return fmt.Errorf("systemd-analyze: %w: see systemd-analyze --help", err)
	}
	verb := "time"
	if f.NArg() > 0 {
		verb, t.args = f.Arg(0), f.Args()[1:]
	}
	v, ok := map[string]struct {
		run func() error
		min int
	}{"time": {t.time, 0}, "blame": {t.blame, 0}, "critical-chain": {t.criticalChain, 0}, "plot": {t.plot, 0},
		"verify": {t.verify, 1}, "calendar": {t.calendar, 1}, "timespan": {t.timespan, 1}}[verb]
	switch {
	case !ok:
		return fmt.Errorf("Unknown command verb %s.", verb)
	case len(t.args) < v.min:
		return errors.New("Too few arguments.")
	}
	return v.run()
}

// calendar shows when expressions elapse.
func (t *tool) calendar() error {
	base, err := t.baseTime()
	if err != nil {
		return err
	}
	for i, text := range t.args {
		e, parseErr := calendar.Parse(text, t.Zones)
		if parseErr != nil {
			fmt.Fprintf(t.Err, "Failed to parse calendar specification '%s': Invalid argument\n%v\n", text, parseErr)
			err = errReported
		} else {
			t.elapses(text, e, base)
		}
		if i < len(t.args)-1 {
			fmt.Fprintln(t.Out)
		}
	}
	return err
}

func (t *tool) elapses(text string, e *calendar.Expression, base time.Time) {
	line := func(key, value string) { fmt.Fprintf(t.Out, "%15s: %s\n", key, value) }
	if text != e.String() {
		line("Original form", text)
	}
	line("Normalized form", e.String())
	for n := range t.iterations {
		next, ok := e.Next(base)
		if !ok {
			if n == 0 {
				line("Next elapse", "never")
			}
			return
		}
		key := "Next elapse"
		if n > 0 {
			key = fmt.Sprintf("Iter. #%d", n+1)
		}
		const layout = "Mon 2006-01-02 15:04:05 MST"
		line(key, next.In(t.Zones.Local).Format(layout))
		if name, _ := next.In(t.Zones.Local).Zone(); name != "UTC" {
			line("(in UTC)", next.UTC().Format(layout))
		}
		line("From now", timespan.Relative(next.Sub(t.Now)))
		base = next
	}
}

// baseTime reads --base-time.
func (t *tool) baseTime() (time.Time, error) {
	if t.base == "now" {
		return t.Now, nil
	}
	if s, ok := strings.CutPrefix(t.base, "@"); ok {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return time.Unix(n, 0), nil
		}
	}
	text, zone := t.base, t.Zones.Local
	if s, ok := strings.CutSuffix(text, " UTC"); ok {
		text, zone = s, time.UTC
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if at, err := time.ParseInLocation(layout, text, zone); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("Failed to parse --base-time= parameter: %q: write for example %q", t.base, "2026-03-28 12:00:00 UTC")
}

// timespan shows how long spans are.
func (t *tool) timespan() error {
	for i, text := range t.args {
		d, err := timespan.Parse(text, time.Second)
		if err != nil {
			return fmt.Errorf("Failed to parse time span '%s': Invalid argument\n%w", text, err)
		}
		micros := strconv.FormatInt(d.Microseconds(), 10)
		if d == timespan.Infinity {
			micros = strconv.FormatUint(^uint64(0), 10)
		}
		fmt.Fprintf(t.Out, "Original: %s\n      μs: %s\n   Human: %s\n", text, micros, timespan.Format(d))
		if i < len(t.args)-1 {
			fmt.Fprintln(t.Out)
		}
	}
	return nil
}
