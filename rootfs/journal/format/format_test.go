package format

import (
	"encoding/json"
	"os"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// recorded returns systemd's records, and its output of them in each mode.
func recorded(t *testing.T) (records []journal.Record, want map[string]string) {
	t.Helper()
	text, err := os.ReadFile("testdata/systemd252.txtar")
	if err != nil {
		t.Fatal(err)
	}
	want = map[string]string{}
	for _, file := range txtar.Parse(text).Files {
		want[file.Name] = string(file.Data)
	}
	parsed, err := journal.ParseNative(want["export"], true)
	if err != nil {
		t.Fatal(err)
	}
	for _, fields := range parsed {
		var r journal.Record
		for _, f := range fields {
			switch f.Name {
			case "__CURSOR":
				for part := range strings.SplitSeq(f.Value, ";") {
					if id, ok := strings.CutPrefix(part, "s="); ok {
						r.File, _ = journal.ParseID(id)
					}
				}
				r.Seq, _, err = journal.ParseCursor(f.Value)
			case "__REALTIME_TIMESTAMP":
				r.Realtime, err = strconv.ParseUint(f.Value, 10, 64)
			case "__MONOTONIC_TIMESTAMP":
				r.Monotonic, err = strconv.ParseUint(f.Value, 10, 64)
			case "_BOOT_ID":
				r.Boot, err = journal.ParseID(f.Value)
			case "_MACHINE_ID":
				r.Machine, err = journal.ParseID(f.Value)
			default:
				r.Fields = append(r.Fields, f)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		records = append(records, r)
	}
	return records, want
}

func output(t *testing.T, records []journal.Record, mode string) string {
	t.Helper()
	var b strings.Builder
	for i := range records {
		if err := Write(&b, &records[i], Options{Mode: mode}); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// TestTextAgainstSystemd wants the same bytes.
func TestTextAgainstSystemd(t *testing.T) {
	records, want := recorded(t)
	for _, mode := range []string{"short", "short-precise", "short-iso", "short-iso-precise", "short-full", "short-monotonic", "short-unix", "with-unit", "cat"} {
		if diff := cmp.Diff(want[mode], output(t, records, mode)); diff != "" {
			t.Errorf("%s (-systemd +ours):\n%s", mode, diff)
		}
	}
}

// withoutHash cuts the last part of a cursor, which is a hash of our own.
func withoutHash(s string) string {
	before, after, ok := strings.Cut(s, ";x=")
	if !ok {
		return s
	}
	return before + strings.TrimLeft(after, "0123456789abcdef")
}

// TestVerboseAgainstSystemd wants the same lines in any order.
func TestVerboseAgainstSystemd(t *testing.T) {
	records, want := recorded(t)
	lines := func(text string) (list []string) {
		for line := range strings.Lines(text) {
			list = append(list, withoutHash(line))
		}
		sort.Strings(list)
		return list
	}
	if diff := cmp.Diff(lines(want["verbose"]), lines(output(t, records, "verbose"))); diff != "" {
		t.Errorf("(-systemd +ours):\n%s", diff)
	}
	// systemd ends the last record without an empty line when it goes to a file.
	if diff := cmp.Diff(lines(want["export"]), lines(output(t, records, "export"))); diff != "" {
		t.Errorf("export (-systemd +ours):\n%s", diff)
	}
}

// TestJSONAgainstSystemd wants the same objects.
func TestJSONAgainstSystemd(t *testing.T) {
	records, want := recorded(t)
	for _, mode := range []string{"json", "json-pretty"} {
		decode := func(text string) (list []map[string]any) {
			decoder := json.NewDecoder(strings.NewReader(text))
			for decoder.More() {
				var object map[string]any
				if err := decoder.Decode(&object); err != nil {
					t.Fatalf("%s: %v", mode, err)
				}
				object["__CURSOR"] = withoutHash(object["__CURSOR"].(string))
				list = append(list, object)
			}
			return list
		}
		if diff := cmp.Diff(decode(want[mode]), decode(output(t, records, mode))); diff != "" {
			t.Errorf("%s (-systemd +ours):\n%s", mode, diff)
		}
	}
}

func TestLongAndStrange(t *testing.T) {
	r := journal.Record{Fields: []journal.Field{{Name: "MESSAGE", Value: "a\x00b<&>"}, {Name: "BIG", Value: strings.Repeat("x", longest)}, {Name: "X", Value: "1"}, {Name: "X", Value: "2"}}}
	got := output(t, []journal.Record{r}, "json")
	for _, want := range []string{`"MESSAGE":[97,0,98,60,38,62]`, `"BIG":null`, `"X":["1","2"]`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in %s", want, got)
		}
	}
	for size, want := range map[int]string{5: "[5B blob data]", 2048: "[2.0K blob data]", 3 << 20: "[3.0M blob data]"} {
		if got := blob(strings.Repeat("x", size)); got != want {
			t.Errorf("blob of %d bytes: %q, want %q", size, got, want)
		}
	}
}
