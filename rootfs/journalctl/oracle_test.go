package journalctl

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/journal/store"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/google/go-cmp/cmp"
	"mvdan.cc/sh/v3/shell"
)

// recordedCase is a call of systemd 252's journalctl. testdata/systemd252.jsonl
// holds in its first line the records in the export format; they were written
// to a journal file with systemd-journal-remote, and "journalctl --directory
// --utc" was called on it with the arguments of each other line.
type recordedCase struct {
	Export []byte
	Args   string
	Out    string
	Out64  []byte // output that is no UTF-8
	Err    string
	Code   int
}

// differs lists the calls whose result differs on purpose, and why.
var differs = map[string]string{
	"-n=4":                             "taken as 4: people write it, and it can mean nothing else",
	"-bn1":                             "taken as -b -n1: it can mean nothing else",
	"-g Full":                          emptyBoots,
	"-g full --case-sensitive":         emptyBoots,
	"-g full --case-sensitive=yes":     emptyBoots,
	"-g 'index [01]'":                  emptyBoots,
	"-g nothing":                       emptyBoots,
	"-g '('":                           "the words are those of Go's regular expressions",
	"-S '2026-11-20T12:06:56' -o cat":  laterSystemd,
	"-S '2026-11-20T12:06:56Z' -o cat": laterSystemd,
	"-F MESSAGE -b":                    "values are printed whole, not up to the first NUL",
	"--header -q extra":                "there is no --header: it shows the inside of systemd's file format",
}

const (
	emptyBoots   = "systemd also prints the boundaries of boots of which no record matches"
	laterSystemd = "RFC 3339 is taken, as systemd does from version 253 on"
)

func loadCases(t *testing.T) (export string, cases []recordedCase) {
	t.Helper()
	text, err := os.ReadFile("testdata/systemd252.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	for decoder.More() {
		var c recordedCase
		if err := decoder.Decode(&c); err != nil {
			t.Fatal(err)
		}
		if c.Export != nil {
			export = string(c.Export)
			continue
		}
		if c.Out64 != nil {
			c.Out = string(c.Out64)
		}
		cases = append(cases, c)
	}
	return export, cases
}

// storeExport writes records of the export format to a directory.
func storeExport(t *testing.T, export string) (dir string) {
	t.Helper()
	records, err := journal.ParseNative(export, true)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	number := func(s string) uint64 {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	var s *store.Store
	last := journal.ID{}
	for _, fields := range records {
		r := journal.Record{}
		for _, f := range fields {
			switch f.Name {
			case "__REALTIME_TIMESTAMP":
				r.Realtime = number(f.Value)
			case "__MONOTONIC_TIMESTAMP":
				r.Monotonic = number(f.Value)
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
		if r.Boot != last {
			if s != nil {
				s.Close()
			}
			if s, err = store.Open(store.Config{Persistent: dir, Machine: r.Machine, Boot: r.Boot, Log: slog.New(slog.DiscardHandler)}); err != nil {
				t.Fatal(err)
			}
			last = r.Boot
		}
		if err := s.Write([]journal.Record{r}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

var (
	cursorID   = regexp.MustCompile(`s=[0-9a-f]{32};`)
	cursorHash = regexp.MustCompile(`;x=[0-9a-f]+`)
	unordered  = regexp.MustCompile(`-o (export|verbose)|--output-fields|-N|--fields|-F|--field=`)
	asJSON     = regexp.MustCompile(`-o json`)
)

// normal makes the outputs comparable: ids of files in cursors are random, and
// systemd promises no order of fields and field values.
func normal(t *testing.T, args, out string) any {
	t.Helper()
	out = cursorHash.ReplaceAllString(cursorID.ReplaceAllString(out, "s=ID;"), ";x=H")
	if before, cursor, ok := strings.Cut(out, "-- cursor: "); ok && before != "" {
		return []any{normal(t, args, before), "-- cursor: " + cursor}
	}
	switch {
	case asJSON.MatchString(args) && !strings.Contains(args, "-N"):
		// Whole lines that are no part of an object stay as they are.
		var list []any
		out = strings.NewReplacer("\x1e", `"RS"`+"\n", "data: ", `"data"`+"\n").Replace(out)
		decoder := json.NewDecoder(strings.NewReader(out))
		for decoder.More() {
			var v any
			if err := decoder.Decode(&v); err != nil {
				return out
			}
			list = append(list, v)
		}
		return list
	case unordered.MatchString(args):
		lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
		slices.Sort(lines)
		return lines
	}
	return out
}

// TestAgainstSystemd wants what systemd's journalctl printed: the bytes, the
// errors and the exit code.
func TestAgainstSystemd(t *testing.T) {
	t.Setenv("TZ", "UTC")
	export, cases := loadCases(t)
	dir := storeExport(t, export)
	if len(cases) < 200 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		if differs[c.Args] != "" {
			continue
		}
		args, err := shell.Fields(c.Args, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, arg := range args {
			// cursor of the n-th record
			if before, number, ok := strings.Cut(arg, "@CURSOR"); ok {
				args[i] = before + "s=ID;i=" + strings.TrimSuffix(number, "@")
			}
		}
		var out, errs bytes.Buffer
		code := Main(context.Background(), append([]string{"journalctl", "--directory=" + dir, "--utc"}, args...), program.Stdio{Out: &out, Err: &errs})
		want := []any{normal(t, c.Args, c.Out), c.Err, c.Code}
		got := []any{normal(t, c.Args, out.String()), errs.String(), code}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("journalctl %s (-systemd +ours):\n%s", c.Args, diff)
		}
	}
}
