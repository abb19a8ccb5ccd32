package update

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	two   = Target{Version: "2", RootHash: "22"}
	three = Target{Version: "3", RootHash: "33"}
)

// TestWholeUpdate has the writes of an update in their order: what makes the
// inactive slot unbootable before it is written, and what makes it bootable
// after it was read back.
func TestWholeUpdate(t *testing.T) {
	s := State{Phase: Idle}
	var writes []Write
	var phases []Phase
	for _, e := range []Event{{Kind: CheckDue}, {Kind: Found, Target: two}, {Kind: Fetched}, {Kind: Verified}, {Kind: Armed}} {
		next, w, err := Step(s, e)
		if err != nil {
			t.Fatal(err)
		}
		s, writes, phases = next, append(writes, w...), append(phases, next.Phase)
	}
	want := []Write{Check, Disarm, Invalidate, Tree, Blocks, Flush, ReadBack, Identify, Arm, Record}
	if diff := cmp.Diff(want, writes); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Phase{Checking, Downloading, Verifying, Writing, PendingReboot}, phases); diff != "" {
		t.Errorf("phases (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(State{Phase: PendingReboot, Armed: two}, s); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
}

func TestSteps(t *testing.T) {
	for name, c := range map[string]struct {
		state  State
		event  Event
		want   State
		writes []Write
	}{
		"nothing found keeps what is armed": {State{Phase: Checking, Armed: two, Error: "x", Failures: 2}, Event{Kind: Nothing}, State{Phase: PendingReboot, Armed: two}, nil},
		"the armed one again":               {State{Phase: Checking, Armed: two}, Event{Kind: Found, Target: two}, State{Phase: PendingReboot, Armed: two}, nil},
		"failed":                            {State{Phase: Writing, Target: two, Failures: 1}, Event{Kind: Failed, Reason: "why"}, State{Phase: Idle, Error: "why", Failures: 2}, []Write{RecordFail}},
		"a failed check keeps what is armed": {State{Phase: Checking, Armed: two}, Event{Kind: Failed, Reason: "why"},
			State{Phase: PendingReboot, Armed: two, Error: "why", Failures: 1}, []Write{RecordFail}},
		"started with an armed entry":    {State{}, Event{Kind: Started, Target: three}, State{Phase: PendingReboot, Armed: three}, []Write{Clean}},
		"started in the middle of a run": {State{Phase: Downloading, Target: two}, Event{Kind: Started}, State{Phase: Idle}, []Write{Clean}},
	} {
		t.Run(name, func(t *testing.T) {
			got, writes, err := Step(c.state, c.event)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.writes, writes); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
		})
	}
}

// TestEveryPair tries each event in each phase: it is refused without a change,
// or leads to a known phase; and nothing writes a slot outside an update.
func TestEveryPair(t *testing.T) {
	phases := []Phase{Idle, Checking, Downloading, Verifying, Writing, PendingReboot}
	for _, p := range phases {
		for _, k := range []EventKind{Started, CheckDue, Nothing, Found, Fetched, Verified, Armed, Failed, "unknown"} {
			s := State{Phase: p, Target: two, Armed: three}
			next, writes, err := Step(s, Event{Kind: k, Target: two})
			if err != nil && (next != s || writes != nil) {
				t.Errorf("%s, %s: refused with a change", p, k)
			}
			if !slices.Contains(phases, next.Phase) {
				t.Errorf("%s, %s: phase %q", p, k, next.Phase)
			}
			if slices.Contains(writes, Arm) && p != Verifying || slices.Contains(writes, Blocks) && p != Checking {
				t.Errorf("%s, %s: writes %v", p, k, writes)
			}
		}
	}
}
