package query

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/journal/store"
	"github.com/google/go-cmp/cmp"
)

// journalOf writes three boots of six records each.
func journalOf(t *testing.T) (dir string, s *store.Store) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "journal")
	for boot := range 3 {
		var err error
		s, err = store.Open(store.Config{Persistent: dir, Machine: journal.ID{1}, Boot: journal.ID{byte(boot + 1)}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		for n, unit := range []string{"web.service", "db@1.service", "db@2.service", "web.service"} {
			put(t, s, boot, n, []journal.Field{{Name: "_PID", Value: "100"}, {Name: "_SYSTEMD_UNIT", Value: unit}, {Name: "_TRANSPORT", Value: "stdout"},
				{Name: "PRIORITY", Value: fmt.Sprint(3 + n)}, {Name: "SYSLOG_IDENTIFIER", Value: "prog"}})
		}
		put(t, s, boot, 4, []journal.Field{{Name: "_PID", Value: "1"}, {Name: "_UID", Value: "0"}, {Name: "UNIT", Value: "web.service"}, {Name: "PRIORITY", Value: "6"}})
		put(t, s, boot, 5, []journal.Field{{Name: "_TRANSPORT", Value: "kernel"}, {Name: "PRIORITY", Value: "4"}})
		if boot < 2 {
			s.Close()
		}
	}
	t.Cleanup(func() { s.Close() })
	return dir, s
}

func put(t *testing.T, s *store.Store, boot, n int, fields []journal.Field) {
	t.Helper()
	at := uint64(boot*1000 + n*10 + 1)
	message := journal.Field{Name: "MESSAGE", Value: fmt.Sprintf("%d.%d", boot, n)}
	if err := s.Write([]journal.Record{{Realtime: at, Monotonic: at, Fields: append(fields, message)}}); err != nil {
		t.Fatal(err)
	}
}

func messages(records []journal.Record) (list []string) {
	for _, r := range records {
		list = append(list, r.Get("MESSAGE"))
	}
	return list
}

func TestFilter(t *testing.T) {
	dir, _ := journalOf(t)
	boot := journal.ID{2}
	matches := func(args ...string) [][]string {
		groups, err := ParseMatches(args)
		if err != nil {
			t.Fatal(err)
		}
		return groups
	}
	for _, test := range []struct {
		name   string
		filter Filter
		want   []string
	}{
		{"unit and what PID 1 says of it", Filter{Boot: &boot, Units: []string{"web"}}, []string{"1.0", "1.3", "1.4"}},
		{"glob", Filter{Boot: &boot, Units: []string{"db@*"}}, []string{"1.1", "1.2"}},
		{"two units", Filter{Boot: &boot, Units: []string{"web.service", "db@1.service"}}, []string{"1.0", "1.1", "1.3", "1.4"}},
		{"priority", Filter{Boot: &boot, ByPriority: true, Priorities: [2]int{0, 4}}, []string{"1.0", "1.1", "1.5"}},
		{"kernel", Filter{Kernel: true}, []string{"0.5", "1.5", "2.5"}},
		{"identifier", Filter{Boot: &boot, Identifiers: []string{"prog"}}, []string{"1.0", "1.1", "1.2", "1.3"}},
		{"since until", Filter{Since: 31, Until: 1011}, []string{"0.3", "0.4", "0.5", "1.0", "1.1"}},
		{"grep", Filter{Grep: regexp.MustCompile(`^2\.[12]$`)}, []string{"2.1", "2.2"}},
		{"fields of one name are alternatives", Filter{Boot: &boot, Fields: matches("PRIORITY=3", "PRIORITY=4", "_PID=100")}, []string{"1.0", "1.1"}},
		{"groups", Filter{Boot: &boot, Fields: matches("PRIORITY=3", "+", "_TRANSPORT=kernel")}, []string{"1.0", "1.5"}},
		{"boot as a field", Filter{Fields: matches("_BOOT_ID="+boot.String(), "PRIORITY=3")}, []string{"1.0"}},
		{"after", Filter{AfterSeq: 16}, []string{"2.4", "2.5"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			j, err := Open(dir, "/nonexistent")
			if err != nil {
				t.Fatal(err)
			}
			defer j.Close()
			var forward, backward []journal.Record
			for r := range j.Forward(&test.filter) {
				forward = append(forward, r)
			}
			for r := range j.Backward(&test.filter) {
				backward = append([]journal.Record{r}, backward...)
			}
			if diff := cmp.Diff(test.want, messages(forward)); diff != "" {
				t.Errorf("forward (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(forward, backward); diff != "" {
				t.Errorf("backward (-forward +backward):\n%s", diff)
			}
			if diff := cmp.Diff(test.want[len(test.want)-1:], messages(j.Tail(&test.filter, 1))); diff != "" {
				t.Errorf("tail (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBoots(t *testing.T) {
	dir, _ := journalOf(t)
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	want := []Boot{{journal.ID{1}, 1, 51}, {journal.ID{2}, 1001, 1051}, {journal.ID{3}, 2001, 2051}}
	if diff := cmp.Diff(want, j.Boots()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for offset, want := range map[int]byte{0: 3, -1: 2, -2: 1, 1: 1, 3: 3} {
		if id, err := j.BootAt(offset); id != (journal.ID{want}) || err != nil {
			t.Errorf("BootAt(%d) = %s, %v", offset, id, err)
		}
	}
	if _, err := j.BootAt(-3); err == nil {
		t.Error("BootAt(-3) gave no error")
	}
}

// TestFollow reads what is there and what comes, over a change of segments.
func TestFollow(t *testing.T) {
	dir, s := journalOf(t)
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var got []string
	next := 6
	for r, err := range j.Follow(ctx, &Filter{Units: []string{"web"}}, 15) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r.Get("MESSAGE"))
		if next == 10 {
			break
		}
		if next == 8 {
			s.Rotate()
		}
		put(t, s, 2, next, []journal.Field{{Name: "_SYSTEMD_UNIT", Value: "web.service"}})
		next++
	}
	if diff := cmp.Diff([]string{"2.3", "2.4", "2.6", "2.7", "2.8"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseMatchesErrors(t *testing.T) {
	for _, args := range [][]string{{"FOO"}, {"foo=x"}, {"+"}, {"A=1", "+"}, {"A=1", "+", "+", "B=1"}} {
		if groups, err := ParseMatches(args); err == nil {
			t.Errorf("ParseMatches(%q) = %q, want an error", args, groups)
		}
	}
}

func TestMangleUnit(t *testing.T) {
	for name, want := range map[string]string{"a": "a.service", "a.b": "a.b.service", "a.socket": "a.socket", "a*": "a*", "/var/lib": "var-lib.mount", "/dev/sda": "dev-sda.device"} {
		if got := MangleUnit(name); got != want {
			t.Errorf("MangleUnit(%q) = %q, want %q", name, got, want)
		}
	}
}
