package service

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/reap"
	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/load"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
)

var update = flag.Bool("update", false, "write what the scenarios do into their files")

// fake is a Host that keeps processes in a map and writes down what the
// machine asks for.
type fake struct {
	trace   []string
	alive   map[int]bool
	next    int
	pidFile int
	broken  bool // no process can be made
}

func (f *fake) log(format string, args ...any) {
	f.trace = append(f.trace, fmt.Sprintf(format, args...))
}

func (f *fake) Spawn(p Process) (int, error) {
	if f.broken {
		return 0, errors.New("no more processes")
	}
	f.next++
	f.alive[f.next] = true
	who := "control"
	if p.Main {
		who = "main"
	}
	f.log("spawn %s %d %s %s", who, f.next, p.Phase, strings.Join(append(slices.Clone(p.Command.Args), p.Env...), " "))
	return f.next, nil
}

func (f *fake) Kill(pid, sig int) bool {
	if f.alive[pid] && sig != 0 && sig != int(unix.SIGCONT) {
		f.log("kill %d %s", pid, signalName(syscall.Signal(sig)))
	}
	return f.alive[pid]
}

func (f *fake) KillGroup(sig int, except ...int) int {
	n := 0
	for _, pid := range f.living() {
		if !slices.Contains(except, pid) {
			n++
			if sig != int(unix.SIGCONT) {
				f.log("kill %d %s (group)", pid, signalName(syscall.Signal(sig)))
			}
		}
	}
	return n
}

func (f *fake) living() []int {
	var pids []int
	for pid, alive := range f.alive {
		if alive {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

func (f *fake) Populated() bool { return len(f.living()) > 0 }

func (f *fake) Arm(t Timer, after time.Duration) {
	if after > 0 {
		f.log("timer %s %s", t, after)
	}
}

func (f *fake) ReadPIDFile() int { return f.pidFile }

func (f *fake) GuessMain() int {
	if l := f.living(); len(l) == 1 {
		return l[0]
	}
	return 0
}

func (f *fake) Adopt(pid int)          { f.log("adopt %d", pid) }
func (f *fake) WatchPIDFile(on bool)   {}
func (f *fake) Changed(from, to State) { f.log("%s (%s)", to, to.Active()) }
func (f *fake) Ended(bool)             {}
func (f *fake) Restarting() bool       { return false }
func (f *fake) Log(s string, a ...any) { f.log("log: "+s, a...) }

// scenario runs one file: a unit, a line "---", then what happens (lines at
// the margin), each followed by what the machine does (indented lines).
func scenario(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text, events, ok := strings.Cut(string(b), "---\n")
	if !ok {
		t.Fatalf("%s: no line ---", path)
	}
	fsys := fstest.MapFS{"etc/systemd/system/a.service": {Data: []byte(text)}}
	set, err := load.NewSet(load.New(fsys, func() specifier.Host { return specifier.Host{} }))
	if err != nil {
		t.Fatal(err)
	}
	u := set.Get("a.service")
	if u.LoadState != unit.Loaded || len(u.Warnings) > 0 {
		t.Fatalf("%s: %s %s %v", path, u.LoadState, u.LoadError, u.Warnings)
	}
	f := &fake{alive: map[int]bool{}, next: 100}
	m := New("a.service", u.Service, f)
	out := text + "---\n"
	in := bufio.NewScanner(strings.NewReader(events))
	for in.Scan() {
		line := in.Text()
		if strings.HasPrefix(line, "    ") {
			continue
		}
		out += line + "\n"
		if line == "" || line[0] == '#' {
			continue
		}
		f.trace = nil
		if err := event(m, f, strings.Fields(line)); err != nil {
			f.log("error: %v", err)
		}
		for _, l := range f.trace {
			out += "    " + l + "\n"
		}
	}
	return out
}

// event does what one line of a scenario says.
func event(m *Machine, f *fake, w []string) error {
	number := func(i int) int {
		n, _ := strconv.Atoi(w[i])
		return n
	}
	switch w[0] {
	case "start":
		return m.Start(len(w) > 1)
	case "stop":
		m.Stop()
	case "reload":
		return m.Reload()
	case "refuse":
		m.RefuseStart(false, StartLimitHit)
	case "reset":
		m.Reset()
	case "exit": // exit PID CODE-or-signal [core]
		e := reap.Exit{PID: number(1)}
		if n, err := strconv.Atoi(w[2]); err == nil {
			e.Status = n
		} else {
			e.Signal, e.Core = unix.SignalNum("SIG"+w[2]), len(w) > 3
		}
		delete(f.alive, e.PID)
		m.Exited(e)
		if !f.Populated() {
			m.GroupEmpty()
		}
	case "notify": // notify PID K=V...
		var fields [][2]string
		for _, p := range w[2:] {
			k, v, _ := strings.Cut(p, "=")
			fields = append(fields, [2]string{k, v})
		}
		m.Notify(number(1), fields)
	case "elapse":
		m.Elapsed(Timer(w[1]))
	case "fork": // a process of its own appears in the control group
		f.alive[number(1)] = true
	case "gone":
		delete(f.alive, number(1))
		if !f.Populated() {
			m.GroupEmpty()
		}
	case "pidfile":
		f.pidFile = number(1)
		m.PIDFileChanged()
	case "ran":
		m.Ran(number(1))
	case "broken":
		f.broken = true
	case "oom":
		m.OutOfMemory()
	case "show":
		f.log("result %s, reload %s, main %d, restarts %d, status %q", m.Result(), m.ReloadResult(), m.MainPID(), m.Restarts(), m.StatusText())
	default:
		return fmt.Errorf("no such event %q", w[0])
	}
	return nil
}

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			got := scenario(t, path)
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("want (-) and got (+):\n%s", d)
			}
		})
	}
}

// Whatever happens in whatever order, the machine must not panic, and a stop
// must bring it down once all its processes are gone.
func FuzzEvents(f *testing.F) {
	f.Add([]byte{0, 3, 1, 2, 5, 4})
	f.Fuzz(func(t *testing.T, script []byte) {
		types := []unit.ServiceType{unit.Simple, unit.Exec, unit.Oneshot, unit.Notify, unit.Forking, unit.Idle}
		kills := []unit.KillMode{unit.KillControlGroup, unit.KillMixed, unit.KillProcess}
		if len(script) < 3 {
			return
		}
		c := []unit.Command{{Path: "/x", Args: []string{"/x"}}}
		cfg := &unit.Service{Type: types[int(script[0])%len(types)], ExecStart: c, ExecStartPre: c, ExecStop: c, ExecStopPost: c, ExecReload: c,
			GuessMainPID: true, NotifyAccess: unit.NotifyMain, RemainAfterExit: script[1]&1 != 0, Watchdog: time.Second,
			TimeoutStart: time.Second, TimeoutStop: time.Second, TimeoutAbort: time.Second, Restart: unit.RestartAlways}
		cfg.KillMode, cfg.SendSIGKILL, cfg.KillSignal, cfg.FinalKillSignal, cfg.WatchdogSignal = kills[int(script[2])%len(kills)], true, unix.SIGTERM, unix.SIGKILL, unix.SIGABRT
		h := &fake{alive: map[int]bool{}, next: 100}
		m := New("a.service", cfg, h)
		for _, b := range script[3:] {
			words := [][]string{{"start"}, {"stop"}, {"reload"}, {"exit", "PID", "0"}, {"exit", "PID", "1"}, {"exit", "PID", "KILL"},
				{"notify", "PID", "READY=1"}, {"elapse", "state"}, {"elapse", "watchdog"}, {"fork", "900"}, {"gone", "900"}, {"notify", "PID", "STOPPING=1"}, {"oom"}}
			w := slices.Clone(words[int(b)%len(words)])
			if l := h.living(); len(w) > 1 && w[1] == "PID" {
				if len(l) == 0 {
					continue
				}
				w[1] = strconv.Itoa(l[int(b/16)%len(l)])
			}
			_ = event(m, h, w)
		}
		m.Stop()
		for range 20 {
			for _, pid := range h.living() {
				_ = event(m, h, []string{"exit", strconv.Itoa(pid), "KILL"})
			}
		}
		if a := m.State().Active(); a != "inactive" && a != "failed" {
			t.Errorf("after a stop and the end of all processes the state is %s", m.State())
		}
	})
}
