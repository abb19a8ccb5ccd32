package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/coracle-os/coracle/tools/qemu"
)

// bench is a cluster of machines whose image is empty: their firmware finds
// nothing to start, which is all that this package needs of them.
type bench struct {
	Cluster
	t    *testing.T
	log  *strings.Builder
	plan Plan
}

func newBench(t *testing.T, machines int) *bench {
	t.Helper()
	dir := t.TempDir()
	image := filepath.Join(dir, "empty.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", image, "1M").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	log := &strings.Builder{}
	b := &bench{t: t, log: log,
		Cluster: Cluster{Dir: filepath.Join(dir, "c"), Log: func(format string, args ...any) { fmt.Fprintf(log, format+"\n", args...) }},
		plan: Plan{Image: image, Memory: 64, Roles: []Role{{Name: "r", Machines: machines, UserData: []byte("#cloud-config\n")}},
			Keys: func(dir string) (string, string, error) {
				return filepath.Join(dir, "id_ed25519"), "ssh-ed25519 K", nil
			}}}
	t.Cleanup(func() { _ = b.Down(context.Background(), time.Second, true) })
	return b
}

// roomy is a computer that has everything.
func roomy() Host {
	return Host{Memory: 1 << 20, DiskFree: func(string) (int64, error) { return 1 << 50, nil },
		LookPath: func(string) (string, error) { return "", nil }, Firmware: func() error { return nil }}
}

func (b *bench) up() *State {
	b.t.Helper()
	s, err := b.Up(b.t.Context(), b.plan, roomy())
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func TestLifeOfACluster(t *testing.T) {
	b := newBench(t, 2)
	first := b.up()
	for _, m := range first.Machines {
		if !b.Running(m) {
			t.Fatalf("%s does not run:\n%s", m.Name, b.log)
		}
	}
	metadata, err := os.ReadFile(filepath.Join(b.Dir, "2", "meta-data"))
	if want := `{"hostname":"coracle2","local-ipv4":"10.9.0.2","public_keys":{"coracle cluster":"ssh-ed25519 K"}}`; err != nil || string(metadata) != want {
		t.Errorf("metadata %s, error %v, want %s", metadata, err, want)
	}
	// An image that is built anew is not the machines'.
	if err := errors.Join(os.WriteFile(b.plan.Image+".new", nil, 0o644), os.Rename(b.plan.Image+".new", b.plan.Image)); err != nil {
		t.Fatal(err)
	}
	if err := b.detached(first.Machines[0]).Kill(); err != nil {
		t.Fatal(err)
	}
	if err := b.detached(first.Machines[0]).Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.plan.Memory = 80
	second := b.up()
	if diff := cmp.Diff(first, second, cmpopts.IgnoreFields(Machine{}, "PID"), cmpopts.IgnoreFields(State{}, "Memory")); diff != "" {
		t.Errorf("a machine that died has changed the cluster (-first +second):\n%s", diff)
	}
	if second.Machines[0].PID == first.Machines[0].PID || second.Machines[1].PID != first.Machines[1].PID || second.Memory != 80 {
		t.Errorf("the first machine alone starts again, with the memory asked for: %+v, before %+v", second, first)
	}
	loaded, err := b.Load()
	if diff := cmp.Diff(second, loaded); err != nil || diff != "" {
		t.Errorf("error %v, state (-returned +written):\n%s", err, diff)
	}
	// Firmware without a system takes no notice of the power button.
	if err := b.Down(t.Context(), 300*time.Millisecond, false); err != nil {
		t.Fatal(err)
	}
	if b.Running(first.Machines[0]) || b.Running(first.Machines[1]) || !strings.Contains(b.log.String(), "coracle2 did not switch itself off within 300ms") {
		t.Errorf("after down:\n%s", b.log)
	}
	if _, err := os.Stat(filepath.Join(b.Dir, "1", "disk.qcow2")); err != nil {
		t.Errorf("down keeps the disks: %v", err)
	}
	if err := os.WriteFile(filepath.Join(b.Dir, "mine"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := b.Down(t.Context(), time.Second, true); err != nil {
		t.Fatal(err)
	}
	left, err := fs.Glob(os.DirFS(b.Dir), "*")
	if diff := cmp.Diff([]string{"mine"}, left); diff != "" || err != nil {
		t.Errorf("what is left after down -remove, error %v (-want +got):\n%s", err, diff)
	}
	if err := b.Down(t.Context(), time.Second, true); !errors.Is(err, ErrNone) {
		t.Errorf("down without a cluster: %v", err)
	}
}

func TestTwoAtOnce(t *testing.T) {
	b := newBench(t, 1)
	states, errs := make(chan *State, 2), make(chan error, 2)
	for range 2 {
		c := b.Cluster
		c.Log = func(string, ...any) {}
		go func() {
			s, err := c.Up(t.Context(), b.plan, roomy())
			states <- s
			errs <- err
		}()
	}
	if err := errors.Join(<-errs, <-errs); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(<-states, <-states); diff != "" {
		t.Errorf("two commands see two clusters:\n%s", diff)
	}
	unlock, err := b.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := b.lock(ctx); err == nil || !strings.Contains(b.log.String(), "waiting for it") {
		t.Errorf("a lock that is held: error %v, log %q", err, b.log)
	}
}

func TestPortIsTakenMeanwhile(t *testing.T) {
	b := newBench(t, 2)
	s := b.up()
	if err := b.Down(t.Context(), 0, false); err != nil {
		t.Fatal(err)
	}
	s.Machines[1].SSHPort = s.Machines[0].SSHPort
	if err := b.save(s); err != nil {
		t.Fatal(err)
	}
	again := b.up()
	if again.Machines[1].SSHPort == again.Machines[0].SSHPort || !b.Running(again.Machines[1]) {
		t.Errorf("both machines have the port %d:\n%s", again.Machines[0].SSHPort, b.log)
	}
}

func TestWhatKeepsMachinesFromStarting(t *testing.T) {
	missing := errors.New("not there")
	for name, tt := range map[string]struct {
		change func(h *Host, p *Plan)
		want   []string
	}{
		"memory":   {func(h *Host, _ *Plan) { h.Memory, h.Overhead = 100, 10 }, []string{"3 machines of 64 MiB need 222 MiB of memory with QEMU, and 100 MiB are free", "-memory"}},
		"disk":     {func(h *Host, _ *Plan) { h.DiskFree = func(string) (int64, error) { return 1 << 20, nil } }, []string{"3 machines need 1536 MiB of disk", "1 MiB are free"}},
		"programs": {func(h *Host, _ *Plan) { h.LookPath = func(string) (string, error) { return "", missing } }, []string{"qemu-system-x86_64", "qemu-utils", "make setup"}},
		"firmware": {func(h *Host, _ *Plan) { h.Firmware = func() error { return missing } }, []string{"not there"}},
		"image":    {func(_ *Host, p *Plan) { p.Image = "none.qcow2" }, []string{`no image "none.qcow2"`, "make image"}},
		"too many": {func(_ *Host, p *Plan) { p.Roles[0].Machines = 17 }, []string{"17 machines", "1 to 16"}},
		"too deep": {func(_ *Host, p *Plan) {}, []string{"too deep for the sockets"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 3)
			h := roomy()
			tt.change(&h, &b.plan)
			if name == "too deep" {
				b.Dir = filepath.Join(b.Dir, strings.Repeat("d", 100))
			}
			_, err := b.Up(t.Context(), b.plan, h)
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want %q in it", err, want)
				}
			}
			if _, err := b.Load(); !errors.Is(err, ErrNone) && name != "too deep" {
				t.Errorf("a cluster that cannot be is there: %v", err)
			}
		})
	}
}

func TestDamagedState(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "not JSON": "{", "number": `{"machines":[{"number":0,"role":"r"}]}`,
		"role": `{"machines":[{"number":1,"role":"../r"}]}`, "image": `{"image":"../../x","machines":[{"number":1,"role":"r"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			c := Cluster{Dir: t.TempDir(), Log: t.Logf}
			if err := os.WriteFile(c.path(stateFile), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := c.Down(t.Context(), 0, true); err == nil || !strings.Contains(err.Error(), "remove the folder") {
				t.Errorf("error %v, want one that says what to do", err)
			}
		})
	}
}

func TestAvailableMemory(t *testing.T) {
	if got := availableMemory([]byte("MemTotal: 9 kB\nMemAvailable:    4096000 kB\n")); got != 4000 {
		t.Errorf("got %d", got)
	}
	if got := availableMemory([]byte("MemTotal: 9 kB\n")); got != -1 {
		t.Errorf("without the line: %d", got)
	}
}

// A process that has the number of a machine's is not the machine.
func TestAnotherProcessIsNoMachine(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "qemu.pid"), fmt.Appendln(nil, os.Getpid()), 0o600); err != nil {
		t.Fatal(err)
	}
	if d := qemu.Attach(dir); d.Running() || d.PID != 0 || d.Kill() != nil {
		t.Errorf("taken for a machine: %+v", d)
	}
}
