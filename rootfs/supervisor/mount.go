package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/mount"
	"github.com/coracle-os/coracle/rootfs/transaction"
	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/name"
	"github.com/coracle-os/coracle/rootfs/unit/settings"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

// mountDriver is one mount unit. The kernel is called from a goroutine of its
// own, because it may wait for a disk or a network.
type mountDriver struct {
	s   *Supervisor
	l   *live
	cfg *unit.Mount

	sub          string // "dead", "mounting", "mounted", "remounting", "unmounting", "failed"
	outcome      string
	call         int // the one under way; an older one that ends late is ignored
	failedReload bool
	limit        *time.Timer
}

func (s *Supervisor) newMount(l *live) *mountDriver {
	d := &mountDriver{s: s, l: l, cfg: l.u.Mount, sub: "dead", outcome: "success"}
	if d.mounted() {
		d.sub = "mounted"
	}
	return d
}

// essential are the places without which the machine, or PID 1 itself, does not
// run; they are never unmounted before its end.
var essential = []string{"/", "/usr", "/etc", "/var", "/dev", "/proc", "/sys", "/run", "/sys/fs/cgroup", "/dev/pts", "/dev/shm", "/tmp"}

func (s *Supervisor) mounts() []mount.Entry {
	b, err := os.ReadFile(s.cfg.Proc + "/self/mountinfo")
	if err != nil {
		return nil
	}
	return mount.Table(string(b))
}

func (d *mountDriver) mounted() bool {
	return slices.ContainsFunc(d.s.mounts(), func(e mount.Entry) bool { return e.Where == d.cfg.Where && e.Type != "autofs" })
}

func (d *mountDriver) state() (transaction.State, string) {
	switch d.sub {
	case "dead":
		return transaction.Inactive, d.sub
	case "failed":
		return transaction.Failed, d.sub
	case "mounting":
		return transaction.Activating, d.sub
	case "unmounting":
		return transaction.Deactivating, d.sub
	case "remounting":
		return transaction.Reloading, d.sub
	default:
		return transaction.Active, d.sub
	}
}

func (d *mountDriver) set(sub string) {
	from, _ := d.state()
	if d.limit != nil && sub != d.sub {
		d.limit.Stop()
		d.limit = nil
	}
	d.sub = sub
	to, _ := d.state()
	d.s.changed(d.l, change{from: from, to: to, reloadFailed: d.failedReload})
}

// do runs f, which may take long, and then calls done in the loop; after
// TimeoutSec= it calls done with an error.
func (d *mountDriver) do(f func() error, done func(error)) {
	d.call++
	n := d.call
	end := func(err error) {
		d.s.guard(d.l, func() {
			if n == d.call {
				d.call++
				done(err)
			}
		})
	}
	if t := d.cfg.Timeout; t > 0 && t != timespan.Infinity {
		d.limit = d.s.after(t, func() { end(errTimeout) })
	}
	go func() {
		err := f()
		d.s.Post(func() { end(err) })
	}()
}

var errTimeout = errors.New("it takes longer than TimeoutSec=")

func (d *mountDriver) start() error {
	d.outcome, d.failedReload = "success", false
	plan, err := mount.Parse(d.cfg, "/dev")
	if err != nil {
		d.fail("resources", err)
		return nil
	}
	b, _ := os.ReadFile(d.s.cfg.Proc + "/filesystems")
	mode := os.FileMode(d.cfg.DirectoryMode)
	d.do(func() error {
		if err := point(plan, mode); err != nil {
			return fmt.Errorf("make the mount point: %w", err)
		}
		return plan.Do(mount.Types(string(b)))
	}, func(err error) {
		switch {
		case errors.Is(err, errTimeout):
			d.fail("timeout", err)
		case err != nil:
			d.fail("exit-code", err)
		default:
			d.set("mounted")
		}
	})
	d.set("mounting")
	return nil
}

// point makes the mount point: a file where a file is bound.
func point(p mount.Plan, mode os.FileMode) error {
	if _, err := os.Stat(p.Target); err == nil {
		return nil
	}
	info, err := os.Stat(p.Source)
	if p.Flags&unix.MS_BIND == 0 || err != nil || info.IsDir() {
		return os.MkdirAll(p.Target, mode)
	}
	if err := os.MkdirAll(filepath.Dir(p.Target), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(p.Target, os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		err = f.Close()
	}
	return err
}

func (d *mountDriver) fail(result string, err error) {
	d.s.log(3, d.l.u.Name, "Failed to mount %s: %v", d.cfg.Where, err)
	if d.outcome == "success" {
		d.outcome = result
	}
	d.set("failed")
}

func (d *mountDriver) stop() {
	if !d.mounted() || slices.Contains(essential, d.cfg.Where) {
		d.call++
		d.set("dead")
		return
	}
	cfg := *d.cfg
	d.do(func() error { return mount.Undo(&cfg, d.mounted) }, func(err error) {
		switch {
		case err == nil:
			d.set("dead")
		case errors.Is(err, unix.EINVAL): // somebody was faster
			d.set("dead")
		default:
			d.s.log(3, d.l.u.Name, "%v: see which processes use it, or set LazyUnmount=yes", err)
			d.outcome = "exit-code"
			d.set("mounted")
			if j := d.s.queue.Of(d.l.u.Name); j != nil && j.Type == transaction.Stop {
				d.s.finish(j, "failed")
			}
		}
	})
	d.set("unmounting")
}

func (d *mountDriver) reload() error {
	d.failedReload = false
	cfg := *d.cfg
	cfg.Options = strings.TrimPrefix(cfg.Options+",remount", ",")
	plan, err := mount.Parse(&cfg, "/dev")
	if err != nil {
		return err
	}
	d.do(func() error { return plan.Do(nil) }, func(err error) {
		if err != nil {
			d.s.log(3, d.l.u.Name, "Failed to mount again: %v", err)
			d.failedReload = true
		}
		d.set("mounted")
		d.failedReload = false
	})
	d.set("remounting")
	return nil
}

func (d *mountDriver) canReload() bool { return true }
func (d *mountDriver) refuse() {
	d.fail("start-limit-hit", errors.New("start request repeated too quickly"))
}

func (d *mountDriver) reset() {
	d.outcome = "success"
	if d.sub == "failed" {
		d.set("dead")
	}
}

func (d *mountDriver) configure(u *unit.Unit) {
	if u.Mount != nil {
		d.cfg = u.Mount
	}
}

func (d *mountDriver) result() string       { return d.outcome }
func (d *mountDriver) kill(string, int) int { return 0 }

type mountState struct{ Sub, Outcome string }

// A mounting that is under way is not handed over: Save waits for its end.
func (d *mountDriver) save() any { return mountState{d.sub, d.outcome} }

func (d *mountDriver) restore(b []byte) error {
	var st mountState
	if err := json.Unmarshal(b, &st); err != nil {
		return err
	}
	d.outcome = st.Outcome
	if st.Sub == "failed" && !d.mounted() || st.Sub == "mounted" { // looked, later, says if it is still so
		d.sub = st.Sub
	}
	return nil
}

// busy reports whether the kernel is being asked for something.
func (d *mountDriver) busy() bool {
	return d.sub == "mounting" || d.sub == "unmounting" || d.sub == "remounting"
}

func (d *mountDriver) properties(set func(name, value string)) {
	set("Result", d.outcome)
	for _, e := range d.s.mounts() {
		if e.Where == d.cfg.Where {
			set("What", e.What)
			set("Type", e.Type)
			set("Options", e.Options)
		}
	}
}

// looked brings the unit in line with what is mounted.
func (d *mountDriver) looked(mounted bool) {
	switch {
	case mounted && (d.sub == "dead" || d.sub == "failed"):
		d.set("mounted")
	case !mounted && d.sub == "mounted":
		d.set("dead")
	}
}

// adopted makes a unit of what somebody mounted by hand, when it is asked for
// by name; nil if nothing is mounted there.
func (s *Supervisor) adopted(unitName string) *unit.Unit {
	where, err := name.UnescapePath(name.Base(unitName))
	if name.Kind(unitName) != string(unit.KindMount) || err != nil {
		return nil
	}
	for _, e := range s.mounts() {
		if e.Where == where && e.Type != "autofs" {
			u := settings.New(unitName)
			u.Description, u.IgnoreOnIsolate = where, true
			u.Mount.What, u.Mount.Where, u.Mount.FSType, u.Mount.Options = e.What, where, e.Type, e.Options
			return u
		}
	}
	return nil
}

// WatchMounts tells mount units what others mount and unmount, until watching
// fails. Kernels do not tell of every change (seen with 6.18: unmounting), so the
// table is looked at from time to time as well.
func (s *Supervisor) WatchMounts() error {
	for {
		f, err := os.Open(s.cfg.Proc + "/self/mountinfo")
		if err != nil {
			return fmt.Errorf("watch mounts: %w", err)
		}
		s.Post(s.mountsChanged)
		fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}}
		_, err = unix.Poll(fds, int(mountInterval.Milliseconds()))
		f.Close()
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("watch mounts: %w", err)
		}
		time.Sleep(mountPause)
	}
}

// mountInterval is how late an unmounting may be noticed that nobody told of.
const mountInterval = 2 * time.Second

// mountPause bounds how often the table is read: containers change it a lot.
const mountPause = 20 * time.Millisecond

// mountsChanged looks at the table; it runs in the loop.
func (s *Supervisor) mountsChanged() {
	any := false
	for _, l := range s.units {
		_, ok := l.d.(*mountDriver)
		any = any || ok
	}
	if !any {
		return
	}
	mounted := map[string]bool{}
	for _, e := range s.mounts() {
		mounted[e.Where] = mounted[e.Where] || e.Type != "autofs"
	}
	for _, l := range s.units {
		if d, ok := l.d.(*mountDriver); ok {
			s.guard(l, func() { d.looked(mounted[d.cfg.Where]) })
		}
	}
}
