package journalctl

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/journal/store"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/google/go-cmp/cmp"
)

const machine = "0123456789abcdef0123456789abcdef"

// machineRoot is the root of a machine with two boots of three records.
func machineRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	os.Mkdir(filepath.Join(root, "etc"), 0o755)
	os.WriteFile(filepath.Join(root, "etc/machine-id"), []byte(machine+"\n"), 0o644)
	id, _ := journal.ParseID(machine)
	for boot := range 2 {
		s, err := store.Open(store.Config{Persistent: filepath.Join(root, "var/log/journal", machine), Machine: id, Boot: journal.ID{byte(boot + 1)}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		for n, unit := range []string{"web.service", "db.service", "web.service"} {
			at := uint64(1795223429000000 + boot*100e6 + n*1e6)
			fields := []journal.Field{{Name: "_PID", Value: "42"}, {Name: "_SYSTEMD_UNIT", Value: unit}, {Name: "_HOSTNAME", Value: "host"}, {Name: "PRIORITY", Value: fmt.Sprint(3 * n)},
				{Name: "SYSLOG_IDENTIFIER", Value: "prog"}, {Name: "MESSAGE", Value: fmt.Sprintf("message %d.%d", boot, n)}}
			if err := s.Write([]journal.Record{{Realtime: at, Monotonic: at, Fields: fields}}); err != nil {
				t.Fatal(err)
			}
		}
		s.Close()
	}
	return root
}

func call(ctx context.Context, root string, args ...string) (out, errs string, code int) {
	var o, e bytes.Buffer
	code = Main(ctx, append([]string{"journalctl", "--root=" + root, "--utc"}, args...), program.Stdio{In: nil, Out: &o, Err: &e})
	return o.String(), e.String(), code
}

func TestJournalctl(t *testing.T) {
	root := machineRoot(t)
	const boot1 = "Nov 21 01:10:29 host prog[42]: message 0.0\nNov 21 01:10:30 host prog[42]: message 0.1\nNov 21 01:10:31 host prog[42]: message 0.2\n"
	const boot2 = "Nov 21 01:12:09 host prog[42]: message 1.0\nNov 21 01:12:10 host prog[42]: message 1.1\nNov 21 01:12:11 host prog[42]: message 1.2\n"
	const between = "-- Boot 02000000000000000000000000000000 --\n"
	for _, test := range []struct {
		args string
		want string
		errs string
		code int
	}{
		{"", boot1 + between + boot2, "", 0},
		{"--no-pager -q", boot1 + boot2, "", 0},
		{"-b", boot2, "", 0},
		{"-b -1", boot1, "", 0},
		{"-b-1 -n1", "Nov 21 01:10:31 host prog[42]: message 0.2\n", "", 0},
		{"-b 01000000000000000000000000000000", boot1, "", 0},
		{"-b 7", "", "Data from the specified boot (+7) is not available: No such boot ID in journal\n", 1},
		{"-n 2 -o cat", "message 1.1\nmessage 1.2\n", "", 0},
		{"-qn 2 -o cat", "message 1.1\nmessage 1.2\n", "", 0},
		{"-r -n 2 -o cat", "message 1.2\nmessage 1.1\n", "", 0},
		{"-u web -o cat -b", "message 1.0\nmessage 1.2\n", "", 0},
		{"-u web -u d* -o cat -b", "message 1.0\nmessage 1.1\nmessage 1.2\n", "", 0},
		{"-u nosuch", "-- No entries --\n", "", 0},
		{"-u nosuch -q", "", "", 0},
		{"-u nosuch -o json", "", "", 0},
		{"-g 1\\.2 -o cat", "message 1.2\n", "", 0},
		{"-g nothing", "-- No entries --\n", "", 1},
		{"-p 3 -b -o cat", "message 1.0\nmessage 1.1\n", "", 0},
		{"-p err..err -b -o cat", "message 1.1\n", "", 0},
		{"-p x", "", "Unknown log level x\n", 1},
		{"-o foo", "", "Unknown output format 'foo'.\n", 1},
		{"FOO", "", "Failed to add match 'FOO': Invalid argument\n", 1},
		{"_SYSTEMD_UNIT=db.service -o cat", "message 0.1\nmessage 1.1\n", "", 0},
		{"-t prog -o short-iso -n 1 --no-hostname", "2026-11-21T01:12:11+0000 prog[42]: message 1.2\n", "", 0},
		{"--since foo", "", "Failed to parse timestamp: foo\n", 1},
		{"--list-boots", "IDX BOOT ID                          FIRST ENTRY                 LAST ENTRY\n -1 01000000000000000000000000000000 Sat 2026-11-21 01:10:29 UTC Sat 2026-11-21 01:10:31 UTC\n  0 02000000000000000000000000000000 Sat 2026-11-21 01:12:09 UTC Sat 2026-11-21 01:12:11 UTC\n", "", 0},
		{"-F _SYSTEMD_UNIT", "db.service\nweb.service\n", "", 0},
		{"--nosuch", "", "journalctl: unrecognized option '--nosuch'\n", 1},
		{"-n x", "", "Failed to add match 'x': Invalid argument\n", 1},
	} {
		out, errs, code := call(context.Background(), root, strings.Fields(test.args)...)
		if diff := cmp.Diff([]any{test.want, test.errs, test.code}, []any{out, errs, code}); diff != "" {
			t.Errorf("journalctl %s (-want +got):\n%s", test.args, diff)
		}
	}
	for _, since := range []string{"2026-11-21 01:12:10", "@1795223530", "2026-11-21 01:12:10 UTC"} {
		if out, _, _ := call(context.Background(), root, "--since", since, "-o", "cat"); out != "message 1.1\nmessage 1.2\n" {
			t.Errorf("--since %q: %q", since, out)
		}
	}
}

func TestCursorGoesOn(t *testing.T) {
	root := machineRoot(t)
	out, _, _ := call(context.Background(), root, "-u", "db", "-n", "1", "--show-cursor", "-o", "cat")
	_, cursor, ok := strings.Cut(out, "-- cursor: ")
	if !ok {
		t.Fatalf("no cursor in %q", out)
	}
	if out, _, _ := call(context.Background(), root, "--after-cursor", strings.TrimSpace(cursor), "-o", "cat"); out != "message 1.2\n" {
		t.Errorf("after the cursor: %q", out)
	}
}

func TestFollowEnds(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	out, errs, code := call(ctx, machineRoot(t), "-f", "-n", "1", "-o", "cat")
	if out != "message 1.2\n" || errs != "" || code != 0 {
		t.Errorf("-f: %q, %q, %d", out, errs, code)
	}
}

func TestVacuum(t *testing.T) {
	root := machineRoot(t)
	_, errs, code := call(context.Background(), root, "--vacuum-size=1")
	if deleted := regexp.MustCompile(`(?m)^Deleted archived journal /.*\.cjournal \([0-9.]+[BK]\)\.$`); code != 0 || !deleted.MatchString(errs) || !strings.Contains(errs, "Vacuuming done, freed ") {
		t.Errorf("--vacuum-size: %q, %d", errs, code)
	}
	if out, _, _ := call(context.Background(), root, "-o", "cat"); out != "message 1.0\nmessage 1.1\nmessage 1.2\n" {
		t.Errorf("left: %q", out)
	}
	if out, _, _ := call(context.Background(), root, "--disk-usage"); !strings.HasPrefix(out, "Archived and active journals take up ") {
		t.Errorf("--disk-usage: %q", out)
	}
}

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 11, 21, 15, 4, 5, 0, time.UTC)
	for text, want := range map[string]string{
		"now": "2026-11-21 15:04:05", "today": "2026-11-21 00:00:00", "yesterday": "2026-11-20 00:00:00", "tomorrow": "2026-11-22 00:00:00",
		"-1h": "2026-11-21 14:04:05", "2 hours ago": "2026-11-21 13:04:05", "+5min": "2026-11-21 15:09:05", "10:11": "2026-11-21 10:11:00",
		"2026-01-02": "2026-01-02 00:00:00", "2026-01-02 03:04": "2026-01-02 03:04:00", "Fri 2026-01-02 03:04:05": "2026-01-02 03:04:05", "@0": "1970-01-01 00:00:00",
	} {
		got, err := parseTime(text, now)
		if err != nil || got.UTC().Format(time.DateTime) != want {
			t.Errorf("parseTime(%q) = %v, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "-", "25:00", "2026-13-01", "5min"} {
		if got, err := parseTime(text, now); err == nil {
			t.Errorf("parseTime(%q) = %v", text, got)
		}
	}
}
