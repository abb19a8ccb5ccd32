package systemdanalyze

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

// boot is what PID 1 tells about the boot, as times since the kernel started.
type boot struct {
	userspace, finish time.Duration
	units             map[string]started
}

// started is when a unit started: it began at begin and was there at end.
type started struct {
	name       string
	begin, end time.Duration
	after      []string
}

func (s started) took() time.Duration { return s.end - s.begin }

// ask sends one request and returns the units of all answers.
func (t *tool) ask(req control.Request) ([]control.Unit, error) {
	var units []control.Unit
	err := t.Client.Do(t.ctx, req, func(r control.Response) error {
		units = append(units, r.Units...)
		return nil
	})
	return units, err
}

func micros(p map[string]string, name string) time.Duration {
	n, _ := strconv.ParseInt(p[name], 10, 64)
	return time.Duration(n) * time.Microsecond
}

// read asks PID 1 for the times of all units that have started.
func (t *tool) read() (boot, error) {
	b := boot{units: map[string]started{}}
	own, err := t.ask(control.Request{Verb: control.Show})
	if err != nil || len(own) == 0 {
		return b, err
	}
	b.userspace, b.finish = micros(own[0].Properties, "UserspaceTimestampMonotonic"), micros(own[0].Properties, "FinishTimestampMonotonic")
	if b.finish == 0 {
		return b, errors.New("Bootup is not yet finished. Please try again later: see systemctl list-jobs for what it waits for")
	}
	list, err := t.ask(control.Request{Verb: control.ListUnits, Flags: control.Flags{All: true}})
	if err != nil {
		return b, err
	}
	var names []string
	for _, u := range list {
		names = append(names, u.Name)
	}
	if list, err = t.ask(control.Request{Verb: control.Show, Units: names}); err != nil {
		return b, err
	}
	for _, u := range list {
		s := started{u.Name, micros(u.Properties, "InactiveExitTimestampMonotonic"), micros(u.Properties, "ActiveEnterTimestampMonotonic"), strings.Fields(u.Properties["After"])}
		if s.begin == 0 {
			continue
		}
		if s.end < s.begin { // a oneshot that is down again
			if s.end = micros(u.Properties, "InactiveEnterTimestampMonotonic"); s.end < s.begin {
				continue
			}
		}
		b.units[u.Name] = s
	}
	return b, nil
}

func (t *tool) time() error {
	b, err := t.read()
	if err != nil {
		return err
	}
	fmt.Fprintf(t.Out, "Startup finished in %s (kernel) + %s (userspace) = %s \n", timespan.Millis(b.userspace), timespan.Millis(b.finish-b.userspace), timespan.Millis(b.finish))
	if s, ok := b.units["multi-user.target"]; ok {
		fmt.Fprintf(t.Out, "multi-user.target reached after %s in userspace.\n", timespan.Millis(s.end-b.userspace))
	}
	return nil
}

// blame lists units by the time that they took.
func (t *tool) blame() error {
	b, err := t.read()
	if err != nil {
		return err
	}
	var list []started
	width := 0
	for _, s := range b.units {
		if s.took() > 0 && (strings.HasSuffix(s.name, ".service") || strings.HasSuffix(s.name, ".mount")) {
			list = append(list, s)
			width = max(width, len(timespan.Millis(s.took())))
		}
	}
	sort.Slice(list, func(i, j int) bool {
		if list[i].took() != list[j].took() {
			return list[i].took() > list[j].took()
		}
		return list[i].name < list[j].name
	})
	for _, s := range list {
		fmt.Fprintf(t.Out, "%*s %s\n", width, timespan.Millis(s.took()), s.name)
	}
	return nil
}

// criticalChain prints, for each unit, the one that it waited for longest, and
// so on.
func (t *tool) criticalChain() error {
	fuzz, err := timespan.Parse(t.fuzz, time.Second)
	if err != nil {
		return fmt.Errorf("read --fuzz: %w", err)
	}
	b, err := t.read()
	if err != nil {
		return err
	}
	names := t.args
	if len(names) == 0 {
		names = []string{"multi-user.target"}
	}
	fmt.Fprint(t.Out, "The time when unit became active or started is printed after the \"@\" character.\n"+
		"The time the unit took to start is printed after the \"+\" character.\n\n")
	for _, n := range names {
		if !strings.Contains(n, ".") {
			n += ".service"
		}
		fmt.Fprintln(t.Out, b.word(n))
		t.chain(b, n, "", fuzz, map[string]bool{n: true})
	}
	return nil
}

// word is a unit with its times.
func (b boot) word(name string) string {
	s, ok := b.units[name]
	switch {
	case !ok:
		return name
	case s.took() < time.Millisecond:
		return fmt.Sprintf("%s @%s", name, timespan.Millis(max(s.end-b.userspace, 0)))
	}
	return fmt.Sprintf("%s @%s +%s", name, timespan.Millis(max(s.begin-b.userspace, 0)), timespan.Millis(s.took()))
}

func (t *tool) chain(b boot, name, indent string, fuzz time.Duration, seen map[string]bool) {
	var list []started
	var longest time.Duration
	for _, n := range b.units[name].after {
		if s, ok := b.units[n]; ok && !seen[n] && s.end <= b.units[name].end {
			list = append(list, s)
			longest = max(longest, s.end)
		}
	}
	list = slices.DeleteFunc(list, func(s started) bool { return longest-s.end > fuzz })
	sort.Slice(list, func(i, j int) bool {
		if list[i].end != list[j].end {
			return list[i].end > list[j].end
		}
		return list[i].name < list[j].name
	})
	if fuzz == 0 && len(list) > 1 {
		list = list[:1]
	}
	for i, s := range list {
		twig, deeper := "├─", "│ "
		if i == len(list)-1 {
			twig, deeper = "└─", "  "
		}
		fmt.Fprintln(t.Out, indent+twig+b.word(s.name))
		seen[s.name] = true
		t.chain(b, s.name, indent+deeper, fuzz, seen)
	}
}
