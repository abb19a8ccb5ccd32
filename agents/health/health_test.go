package health

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/agents/health/baseline"
	"github.com/coracle-os/coracle/agents/health/check"
	"github.com/coracle-os/coracle/agents/health/evidence"
	"github.com/coracle-os/coracle/agents/update/store"
	"github.com/coracle-os/coracle/image/uki"
	"github.com/coracle-os/coracle/initrd/bootinfo"
	"github.com/coracle-os/coracle/initrd/entries"
)

// Root hashes of the releases of the tests.
var (
	hashA = strings.Repeat("aa", 32)
	hashB = strings.Repeat("bb", 32)
)

// entry is a UKI that starts the system with that root hash; "" is a damaged one.
func entry(t *testing.T, rootHash string) []byte {
	t.Helper()
	if rootHash == "" {
		return []byte("damaged")
	}
	stub, err := os.ReadFile("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
	if err != nil {
		t.Fatal(err)
	}
	data, err := uki.Build(stub, uki.Section{Name: ".cmdline", Data: []byte("roothash=" + rootHash)}, uki.Section{Name: ".linux", Data: []byte("kernel")})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// result is what a run left behind.
type result struct {
	Files    []string
	Judged   string
	Rebooted bool
	History  []string // kind, version: reason; newest first
	Floor    string
}

// machine is a gate in a temporary directory that runs the release hashA.
type machine struct {
	*gate
	dir      string
	rebooted bool
	result   string
	log      bytes.Buffer
}

func newMachine(t *testing.T, files map[string]string, tasks ...task) *machine {
	t.Helper()
	m := &machine{dir: t.TempDir()}
	for name, hash := range files {
		if err := os.WriteFile(filepath.Join(m.dir, name), entry(t, hash), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.gate = &gate{info: bootinfo.Info{RootHash: hashA}, store: store.New(filepath.Join(t.TempDir(), "update.db")), log: &m.log,
		every: time.Millisecond, settle: time.Millisecond, now: func() time.Time { return time.Unix(1e9, 0) },
		directory: func(f func(entries.Dir) error) error { return f(entries.OSDir(m.dir)) },
		tasks:     func() []task { return tasks },
		evidence: func(string) (evidence.Evidence, error) {
			return evidence.Evidence{Kernel: []string{"Kernel panic"}}, nil
		},
		judged: func(r string) error { m.result = r; return nil },
		forget: func() error { return nil },
		reboot: func(context.Context, string) { m.rebooted = true },
	}
	return m
}

func (m *machine) left(t *testing.T) result {
	t.Helper()
	names, err := entries.OSDir(m.dir).Names()
	if err != nil {
		t.Fatal(err)
	}
	r := result{Files: slices.Sorted(maps.Keys(names)), Judged: m.result, Rebooted: m.rebooted}
	history, err := m.store.History(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range history {
		r.History = append(r.History, strings.TrimSuffix(h.Kind+" "+h.Version+": "+h.Reason, ": "))
	}
	if r.Floor, err = m.store.Floor(); err != nil {
		t.Fatal(err)
	}
	return r
}

var (
	passes = task{"passes", time.Second, func(context.Context) error { return nil }}
	fails  = task{"the shop answers", 20 * time.Millisecond, func(context.Context) error { return errors.New("connection refused") }}
	hangs  = task{"the shop answers", 20 * time.Millisecond, func(context.Context) error { select {} }}
)

func TestGate(t *testing.T) {
	installed := store.Record{Kind: store.KindInstalled, Version: "2", RootHash: hashB}
	for _, tt := range []struct {
		name    string
		files   map[string]string
		tasks   []task
		history []store.Record
		want    result
	}{
		{name: "not on trial", files: map[string]string{"coracle-1.efi": hashA}, tasks: []task{fails},
			want: result{Files: []string{"coracle-1.efi"}, Judged: "not on trial"}},
		{name: "healthy", files: map[string]string{"coracle-1+2-1.efi": hashA, "coracle-0.efi": hashB}, tasks: []task{passes},
			want: result{Files: []string{"coracle-0.efi", "coracle-1.efi"}, Judged: "good", History: []string{"good 1"}, Floor: "1"}},
		{name: "healthy at the last try", files: map[string]string{"coracle-1+0-3.efi": hashA}, tasks: []task{passes},
			want: result{Files: []string{"coracle-1.efi"}, Judged: "good", History: []string{"good 1"}, Floor: "1"}},
		{name: "sick", files: map[string]string{"coracle-1+2-1.efi": hashA, "coracle-0.efi": hashB}, tasks: []task{passes, fails},
			want: result{Files: []string{"coracle-0.efi", "coracle-1+2-1.efi"}, Judged: "bad", Rebooted: true,
				History: []string{"failed 1: health check failed: the shop answers: not good after 20ms: connection refused"}}},
		{name: "a check hangs", files: map[string]string{"coracle-1+0-3.efi": hashA, "coracle-0.efi": hashB}, tasks: []task{hangs},
			want: result{Files: []string{"coracle-0.efi", "coracle-1+0-3.efi"}, Judged: "bad", Rebooted: true,
				History: []string{"failed 1: health check failed: the shop answers: not good after 20ms: it did not end"}}},
		{name: "sick, and nothing to fall back to", files: map[string]string{"coracle-1+0-3.efi": hashA, "coracle-2+0-0.efi": hashB}, tasks: []task{fails},
			want: result{Files: []string{"coracle-1+0-3.efi", "coracle-2+0-0.efi"}, Judged: "bad",
				History: []string{"failed 1: health check failed: the shop answers: not good after 20ms: connection refused"}}},
		{name: "fell back", files: map[string]string{"coracle-1.efi": hashA, "coracle-2+0-3.efi": hashB},
			history: []store.Record{installed, {Kind: store.KindFailed, RootHash: hashB, Reason: "health check failed: disk"}},
			want: result{Files: []string{"coracle-1.efi", "coracle-2+0-3.efi"}, Judged: "not on trial", History: []string{
				"fallback 2: health check failed: disk", "quarantined 2: health check failed: disk", "failed : health check failed: disk", "installed 2"}}},
		{name: "fell back from a damaged entry", files: map[string]string{"coracle-1.efi": hashA, "coracle-2+0-3.efi": ""}, history: []store.Record{installed},
			want: result{Files: []string{"coracle-1.efi", "coracle-2+0-3.efi"}, Judged: "not on trial", History: []string{
				"fallback 2: it did not reach the health checks in any of its tries: the firmware or the boot loader refused it, or it crashed or hung before",
				"quarantined 2: it did not reach the health checks in any of its tries: the firmware or the boot loader refused it, or it crashed or hung before",
				"installed 2"}}},
		{name: "the other one was chosen in the boot menu", files: map[string]string{"coracle-1.efi": hashA, "coracle-2+3-0.efi": hashB}, history: []store.Record{installed},
			want: result{Files: []string{"coracle-1.efi", "coracle-2+3-0.efi"}, Judged: "not on trial", History: []string{"installed 2"}}},
		{name: "fell back, and the power went before the update was recorded", files: map[string]string{"coracle-1.efi": hashA, "coracle-2+0-3.efi": hashB},
			history: []store.Record{{Kind: store.KindFailed, RootHash: hashB, Reason: "health check failed: disk"}},
			want: result{Files: []string{"coracle-1.efi", "coracle-2+0-3.efi"}, Judged: "not on trial", History: []string{
				"fallback 2: health check failed: disk", "quarantined 2: health check failed: disk", "failed : health check failed: disk"}}},
		{name: "a second attempt failed otherwise than the first", files: map[string]string{"coracle-1.efi": hashA, "coracle-2+0-3.efi": hashB},
			history: []store.Record{installed, {Kind: store.KindFailed, RootHash: hashB, Reason: "disk"}, {Kind: store.KindFallback, RootHash: hashB, Reason: "disk"}, installed,
				{Kind: store.KindFailed, RootHash: hashB, Reason: "network"}},
			want: result{Files: []string{"coracle-1.efi", "coracle-2+0-3.efi"}, Judged: "not on trial", History: []string{
				"fallback 2: network", "quarantined 2: network", "failed : network", "installed 2", "fallback : disk", "failed : disk", "installed 2"}}},
		{name: "left behind on purpose", files: map[string]string{"coracle-1.efi": hashA, "coracle-2+0-0.efi": hashB}, history: []store.Record{installed},
			want: result{Files: []string{"coracle-1.efi", "coracle-2+0-0.efi"}, Judged: "not on trial", History: []string{"installed 2"}}},
		{name: "started without an entry", files: map[string]string{"coracle-2.efi": hashB},
			want: result{Files: []string{"coracle-2.efi"}, Judged: "not on trial"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t, tt.files, tt.tasks...)
			for _, r := range tt.history {
				if err := m.store.Add(r); err != nil {
					t.Fatal(err)
				}
			}
			for i := range 2 { // the second run finds nothing new, unless it is on trial
				if err := m.run(context.Background()); err != nil {
					t.Fatal(err)
				}
				got := m.left(t)
				if i == 1 && tt.want.Judged != "not on trial" {
					break
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("run %d: -want +got:\n%s\nlog:\n%s", i, diff, &m.log)
				}
			}
		})
	}
}

func TestGateFails(t *testing.T) {
	broken := errors.New("input/output error")
	t.Run("the entries cannot be read", func(t *testing.T) {
		m := newMachine(t, nil, passes)
		m.directory = func(func(entries.Dir) error) error { return broken }
		if err := m.run(context.Background()); err != nil || m.result != "not on trial" {
			t.Errorf("without a counter: %v, %q", err, m.result)
		}
		m.counted = "coracle-1+2-1.efi"
		if err := m.run(context.Background()); !errors.Is(err, broken) {
			t.Errorf("with a counter: %v, want an error, which reboots", err)
		}
	})
	t.Run("the entry cannot be renamed", func(t *testing.T) {
		m := newMachine(t, map[string]string{"coracle-1+2-1.efi": hashA}, passes)
		m.directory = func(f func(entries.Dir) error) error { return f(noRename{entries.OSDir(m.dir)}) }
		if err := m.run(context.Background()); !errors.Is(err, errRename) || m.result != "" {
			t.Errorf("%v, %q; want an error, which reboots", err, m.result)
		}
	})
	t.Run("the state partition is not writable", func(t *testing.T) {
		m := newMachine(t, map[string]string{"coracle-1+2-1.efi": hashA, "coracle-0.efi": hashB}, fails)
		m.store = store.New("/dev/null/update.db")
		if err := m.run(context.Background()); err != nil || !m.rebooted {
			t.Errorf("%v, rebooted %t; want a reboot", err, m.rebooted)
		}
		m = newMachine(t, map[string]string{"coracle-1+2-1.efi": hashA}, passes)
		m.store = store.New("/dev/null/update.db")
		if err := m.run(context.Background()); err != nil || m.result != "good" {
			t.Errorf("%v, %q; want it marked good", err, m.result)
		}
	})
	t.Run("asked to end", func(t *testing.T) {
		m := newMachine(t, map[string]string{"coracle-1+2-1.efi": hashA, "coracle-0.efi": hashB}, task{"waits", time.Hour, fails.once})
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(10*time.Millisecond, cancel)
		if err := m.run(ctx); !errors.Is(err, context.Canceled) || m.rebooted {
			t.Errorf("%v, rebooted %t; want neither good nor bad", err, m.rebooted)
		}
	})
}

var errRename = errors.New("read-only file system")

type noRename struct{ entries.OSDir }

func (noRename) Rename(string, string) error { return errRename }

func TestNotHeldAgainstTheRelease(t *testing.T) {
	units := []check.Unit{{Name: "old.service", Active: "failed", Sub: "failed"}}
	edge := check.Edge{Units: func(context.Context, []string) ([]check.Unit, error) { return units, nil }}
	checks, err := check.Parse("a.yaml", []byte("checks: [{not-failed: ['*.service']}]"))
	if err != nil {
		t.Fatal(err)
	}
	broken := []check.Broken{{Path: "b.yaml", SHA256: "1", Err: errors.New("line 1")}}
	base := baseline.Baseline{FailedUnits: []string{"old.service"}, BrokenFiles: map[string]string{"b.yaml": "1"}}
	say := func(string, ...any) {}
	if err := await(context.Background(), fileTasks(checks, broken, base, edge, say), time.Millisecond); err != nil {
		t.Errorf("with a baseline: %v", err)
	}
	broken[0].SHA256 = "2"
	if err := await(context.Background(), fileTasks(nil, broken, base, edge, say), 300*time.Millisecond); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("a file that was changed since: %v", err)
	}
	units[0].Name = "new.service"
	checks[0].Deadline = 20 * time.Millisecond
	if err := await(context.Background(), fileTasks(checks, nil, base, edge, say), time.Millisecond); err == nil || !strings.Contains(err.Error(), "new.service is failed") {
		t.Errorf("a unit that failed since: %v", err)
	}
}

func TestCountedName(t *testing.T) {
	variable := []byte("\x06\x00\x00\x00")
	for _, c := range `\EFI\Linux\coracle-2+2-1.efi` {
		variable = append(variable, byte(c), 0)
	}
	for _, tt := range []struct {
		data []byte
		want string
	}{
		{append(slices.Clone(variable), 0, 0), "coracle-2+2-1.efi"},
		{variable, "coracle-2+2-1.efi"},
		{nil, ""}, {[]byte{6}, ""}, {[]byte{6, 0, 0, 0, 'a'}, ""},
	} {
		if got := countedName(tt.data); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.data, got, tt.want)
		}
	}
}

func TestFailureReason(t *testing.T) {
	hash := strings.Repeat("2", 64)
	failed := store.Record{Version: "2", RootHash: hash}
	installed := store.Record{Kind: store.KindInstalled, RootHash: hash}
	for _, test := range []struct {
		name    string
		history []store.Record // newest first
		want    string
	}{
		{"nothing known", nil, "did not reach the health checks"},
		{"its check failed", []store.Record{{Kind: store.KindFailed, RootHash: hash, Reason: "no sshd"}, installed}, "no sshd"},
		{"an older attempt failed", []store.Record{installed, {Kind: store.KindFailed, RootHash: hash, Reason: "no sshd"}}, "did not reach"},
		{"it was good once", []store.Record{{Kind: store.KindGood, RootHash: hash}, installed}, "it was good, and then did not last 1m0s"},
		{"it was good before it was installed again", []store.Record{installed, {Kind: store.KindGood, RootHash: hash}}, "did not reach"},
	} {
		if got := failureReason(test.history, failed); !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q in it", test.name, got, test.want)
		}
	}
}
