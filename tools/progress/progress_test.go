package progress

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/image/step"
)

var events = []step.Event{
	{Name: "packages", State: step.Started},
	{Name: "packages", State: step.Note, Text: "an older index is used"},
	{Name: "root", State: step.Started},
	{Name: "packages", State: step.Done, Elapsed: 1500 * time.Millisecond},
	{Name: "root", State: step.Failed, Elapsed: 61 * time.Second, Err: errors.New("full")},
	{Name: "uki", State: step.Cached},
}

func clock() func() time.Time {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return func() time.Time { now = now.Add(time.Second); return now }
}

func TestPlainLines(t *testing.T) {
	var out strings.Builder
	p := &Printer{Out: &out, Steps: []string{"packages", "root", "uki", "disk"}, Now: clock()}
	for _, e := range events {
		p.Report(e)
	}
	want := `[  0%] packages                 ...
[  0%] packages                 note: an older index is used
[  0%] root                     ...
[ 25%] packages                 1.5 s
[ 50%] root                     failed after 1 min 1 s
[ 75%] uki                      unchanged
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

func TestTerminalShowsWhatIsBeingDone(t *testing.T) {
	var out strings.Builder
	p := &Printer{Out: &out, Terminal: true, Width: 40, Steps: []string{"packages", "root"}, Now: clock()}
	for _, e := range events[:4] {
		p.Report(e)
	}
	// What a person sees last: lines that were written over are gone.
	screen := ""
	for _, line := range strings.Split(out.String(), "\n") {
		screen += line[strings.LastIndex(line, "\x1b[K")+1:] + "\n"
	}
	want := "[  0%] packages                 note: an older index is used\n" +
		"[ 50%] packages                 1.5 s\n[ 50%] root 3 s\n"
	if diff := cmp.Diff(want, strings.ReplaceAll(screen, "[K", "")); diff != "" {
		t.Errorf("screen (-want +got):\n%s", diff)
	}
}

func TestTheMovingLineFitsTheTerminal(t *testing.T) {
	var out strings.Builder
	p := &Printer{Out: &out, Terminal: true, Width: 40, Now: clock()}
	for _, name := range []string{"program-containerd", "program-dockerd", "program-docker"} {
		out.Reset()
		p.Report(step.Event{Name: name, State: step.Started})
	}
	line := strings.TrimPrefix(out.String(), "\r\x1b[K")
	if len(line) >= 40 || !strings.HasSuffix(line, "...") {
		t.Errorf("the line has %d columns: %q", len(line), line)
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0 s", 1234 * time.Millisecond: "1.2 s", 42 * time.Second: "42 s", 125 * time.Second: "2 min 5 s",
	} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%v) = %q, want %q", d, got, want)
		}
	}
}
