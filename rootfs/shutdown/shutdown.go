// Package shutdown is the end of a machine, after its units have stopped: what
// is still alive is told to end and then killed, file systems are written back
// and unmounted, and the kernel powers off or reboots. It is used by PID 1.
//
// Each step is bounded in time, so that a disk that hangs cannot keep the
// machine from ending. dm-verity's root is read-only and stays mounted; there
// is nothing to write back in it. Left out on purpose: kexec and swap.
package shutdown

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of the steps.
const (
	termLimit = 10 * time.Second
	killLimit = 5 * time.Second
	syncLimit = 30 * time.Second
)

// Step receives one line for people about what is done now.
type Step func(format string, args ...any)

// Others ends all other processes of the machine: SIGTERM, then SIGKILL. reap
// collects ended children.
func Others(say Step, reap func()) {
	if len(others()) == 0 {
		return
	}
	say("Sending SIGTERM to remaining processes...")
	_ = unix.Kill(-1, unix.SIGTERM)
	_ = unix.Kill(-1, unix.SIGCONT)
	if gone(reap, termLimit) {
		return
	}
	say("Sending SIGKILL to remaining processes: %s", strings.Join(names(others()), ", "))
	_ = unix.Kill(-1, unix.SIGKILL)
	if !gone(reap, killLimit) {
		say("Processes that SIGKILL does not end: %s", strings.Join(names(others()), ", "))
	}
}

// gone waits until no other process is left.
func gone(reap func(), limit time.Duration) bool {
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		reap()
		if len(others()) == 0 {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// others lists the processes other than this one, without kernel threads.
func others() []int {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var pids []int
	for _, d := range dirs {
		pid, err := strconv.Atoi(filepath.Base(d))
		if err != nil || pid == os.Getpid() {
			continue
		}
		if b, err := os.ReadFile(d + "/cmdline"); err == nil && len(b) > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

func names(pids []int) []string {
	var out []string
	for _, pid := range pids {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		out = append(out, fmt.Sprintf("%s (%d)", strings.TrimSpace(string(b)), pid))
	}
	return out
}

// Sync writes everything back, and gives up waiting after a while.
func Sync(say Step) {
	done := make(chan struct{})
	go func() { unix.Sync(); close(done) }()
	select {
	case <-done:
	case <-time.After(syncLimit):
		say("Writing back did not end within %s; going on.", syncLimit)
	}
}

// mount is one line of mountinfo.
type mount struct {
	id     int
	target string
	fstype string
}

// virtual holds file systems without a disk behind them; they are left.
var virtual = map[string]bool{"proc": true, "sysfs": true, "devtmpfs": true, "devpts": true, "cgroup2": true, "tmpfs": true,
	"mqueue": true, "bpf": true, "securityfs": true, "debugfs": true, "tracefs": true, "fusectl": true, "pstore": true,
	"efivarfs": true, "configfs": true, "hugetlbfs": true, "binfmt_misc": true, "nsfs": true, "ramfs": true, "autofs": true}

// parse reads mountinfo; the result has the latest mounts first.
func parse(info string) []mount {
	var list []mount
	for line := range strings.Lines(info) {
		f := strings.Fields(line)
		i := slices.Index(f, "-")
		if len(f) < 5 || i < 0 || i+1 >= len(f) {
			continue
		}
		id, _ := strconv.Atoi(f[0])
		list = append(list, mount{id, unescape(f[4]), f[i+1]})
	}
	slices.SortFunc(list, func(a, b mount) int { return cmp.Compare(b.id, a.id) })
	return list
}

// unescape replaces the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// Unmount unmounts every file system that has something to write back, and
// makes read-only what cannot be unmounted.
func Unmount(say Step) {
	for range 5 {
		left := pending()
		if len(left) == 0 {
			return
		}
		done := 0
		for _, m := range left {
			if unix.Unmount(m.target, unix.UMOUNT_NOFOLLOW) == nil {
				done++
			}
		}
		if done == 0 {
			break
		}
	}
	for _, m := range pending() {
		say("Could not unmount %s; making it read-only.", m.target)
		if err := unix.Mount("", m.target, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			say("Could not make %s read-only: %v", m.target, err)
		}
		_ = unix.Unmount(m.target, unix.MNT_DETACH)
	}
}

func pending() []mount {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(parse(string(b)), func(m mount) bool { return m.target == "/" || virtual[m.fstype] })
}

// End ends the machine: how is "poweroff", "reboot" or "halt". It returns only
// when the kernel refuses.
func End(how string) error {
	cmd := map[string]int{"poweroff": unix.LINUX_REBOOT_CMD_POWER_OFF, "reboot": unix.LINUX_REBOOT_CMD_RESTART, "halt": unix.LINUX_REBOOT_CMD_HALT}[how]
	if err := unix.Reboot(cmd); err != nil {
		return fmt.Errorf("end the machine (%s): %w", how, err)
	}
	return nil
}
