package evidence

import (
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/journal/store"
)

func id(t *testing.T, c string) journal.ID {
	t.Helper()
	v, err := journal.ParseID(strings.Repeat(c, 32))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// boot writes a boot's journal below root.
func boot(t *testing.T, root, name string, messages ...[]journal.Field) {
	t.Helper()
	s, err := store.Open(store.Config{Persistent: filepath.Join(root, "var/log/journal", id(t, "9").String()), Volatile: filepath.Join(root, "run"),
		Machine: id(t, "9"), Boot: id(t, name), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for i, fields := range messages {
		r := journal.Record{Realtime: uint64(1e15 + i), Monotonic: uint64(1e6 + i), Boot: id(t, name), Machine: id(t, "9"), Fields: fields}
		if err := s.Write([]journal.Record{r}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func message(text string, fields ...string) []journal.Field {
	list := []journal.Field{{Name: "MESSAGE", Value: text}}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, "=")
		list = append(list, journal.Field{Name: name, Value: value})
	}
	return list
}

func TestCollect(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"etc/machine-id": id(t, "9").String() + "\n",
		// The kernel numbers the parts of a dump backwards.
		"sys/fs/pstore/dmesg-efi_pstore-1-1":   "Panic#1 Part1\n<0>Kernel panic - not syncing\n",
		"sys/fs/pstore/dmesg-efi_pstore-1-2":   "Panic#1 Part2\n<6>\x1b[31mbefore\x00 it\n",
		"sys/fs/pstore/unrelated-efi_pstore-1": "no",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	commandLine := func(hash string) []journal.Field {
		return message("Command line: console=ttyS0 roothash="+hash+" panic=10", "_TRANSPORT=kernel")
	}
	boot(t, root, "a", commandLine("aa"), message("the old release"))
	lines := [][]journal.Field{commandLine("bb")}
	for i := range MaxLines + 10 {
		lines = append(lines, message("line "+strconv.Itoa(i)))
	}
	boot(t, root, "b", append(lines,
		message("Failed to start the shop.", "_PID=1", "PRIORITY=3", "UNIT=shop.service"),
		message("Failed to start the shop.", "_PID=1", "PRIORITY=3", "UNIT=shop.service"),
		message("not PID 1", "_PID=77", "PRIORITY=3", "UNIT=liar.service"))...)
	boot(t, root, "d", commandLine("aa"), message("the old release, again"))
	boot(t, root, "c", commandLine("aa"), message("this boot"))

	got, err := Collect(root, "cccccccc-cccc-cccc-cccc-cccccccccccc\n", "bb")
	if err != nil {
		t.Fatal(err)
	}
	wantKernel := []string{"Panic#1 Part2", "<6>[31mbefore it", "Panic#1 Part1", "<0>Kernel panic - not syncing"}
	if diff := cmp.Diff(wantKernel, got.Kernel); diff != "" {
		t.Errorf("kernel: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"shop.service"}, got.FailedUnits); diff != "" {
		t.Errorf("failed units: -want +got:\n%s", diff)
	}
	if got.Boot != id(t, "b").String() || len(got.Journal) != MaxLines || !strings.Contains(got.Journal[MaxLines-1], "not PID 1") {
		t.Errorf("journal of boot %q: %d lines: %q", got.Boot, len(got.Journal), got.Journal)
	}
	for _, want := range []string{"failed units:\n  shop.service\n", "Kernel panic"} {
		if !strings.Contains(got.String(), want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if err := got.Clear(); err != nil {
		t.Error(err)
	}
	left, err := os.ReadDir(filepath.Join(root, "sys/fs/pstore"))
	if err != nil || len(left) != 1 {
		t.Errorf("after Clear: %v, %v", left, err)
	}

	if got, err = Collect(root, id(t, "c").String(), "cc"); err != nil || got.Boot != "" || len(got.Kernel) > 0 {
		t.Errorf("no boot of it: %+v, %v", got, err)
	}
}

func TestCollectNothing(t *testing.T) {
	got, err := Collect(t.TempDir(), "", "")
	if err == nil || got.String() != "" {
		t.Errorf("%q, %v; want an error about the journal", got, err)
	}
}

func TestLines(t *testing.T) {
	got := Lines("a\n\n" + strings.Repeat("ä", MaxLine) + "\n\xff\n")
	if len(got) != 3 || len(got[1]) > MaxLine+3 || got[2] != "?" {
		t.Errorf("%q", got)
	}
}
