package updatectl

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/program"
)

func TestParse(t *testing.T) {
	for args, want := range map[string]Request{
		"":                  {},
		"status":            {Verb: "status"},
		"apply":             {Verb: "apply"},
		"apply --force /f":  {Verb: "apply", Force: true, File: "/f"},
		"channel beta":      {Verb: "channel", Channel: "beta"},
		"history":           {Verb: "history"},
		"rollback --what":   {Verb: "!"},
		"upgrade":           {Verb: "!"},
		"status now":        {Verb: "!"},
		"channel beta beta": {Verb: "!"},
	} {
		got, err := parse(strings.Fields(args))
		if err != nil {
			got = Request{Verb: "!"}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", args, diff)
		}
	}
}

func TestPrint(t *testing.T) {
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	var out bytes.Buffer
	Print(&out, Request{Verb: "status"}, Response{Status: &Status{
		Phase: "downloading", Target: "1.1.0", Percent: 40, Version: "1.0.0", Slot: "A", RootHash: "aa", Channel: "stable",
		Servers: []string{"http://a", "http://b"}, LastCheck: at, Quarantine: []string{"0.9 bb: it hung"},
	}})
	Print(&out, Request{Verb: "history"}, Response{History: []Record{
		{Time: at, Kind: "fallback", Version: "1.1.0", RootHash: strings.Repeat("ab", 32), Bytes: 1_500_000, Reason: "it hung", Evidence: "Kernel panic\n"},
	}})
	want := `Phase:         downloading 1.1.0 (40 %)
Running:       1.0.0 in slot A
Root hash:     aa
Channel:       stable
Servers:       http://a, http://b
Last check:    2026-11-01 12:00:00Z
Quarantine:    0.9 bb: it hung
TIME                  EVENT     VERSION  ROOT HASH     FETCHED  REASON
2026-11-01 12:00:00Z  fallback  1.1.0    abababababab  1.5 MB   it hung

Evidence of 1.1.0 fallback at 2026-11-01 12:00:00Z:
Kernel panic
`
	got := out.String()
	if diff := cmp.Diff(strings.Fields(want), strings.Fields(got)); diff != "" {
		t.Errorf("(-want +got):\n%s\n%s", diff, got)
	}
}

func TestNoEngine(t *testing.T) {
	_, err := Call(t.TempDir()+"/none", Request{Verb: "status"}, func(Response) {})
	if err == nil || !strings.Contains(err.Error(), "is update-engine.service running?") {
		t.Errorf("%v", err)
	}
	var out, errs bytes.Buffer
	if code := Main(context.Background(), []string{"updatectl", "upgrade"}, program.Stdio{Out: &out, Err: &errs}); code != 2 || !strings.Contains(errs.String(), `no command "upgrade"`) {
		t.Errorf("exit %d: %s", code, errs.String())
	}
}
