package journald

import (
	"bytes"
	"cmp"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal"
	"golang.org/x/sys/unix"
)

// identity is what /proc says about a sender, as trusted fields.
type identity struct {
	pid    int32
	unit   string
	comm   string
	fields []journal.Field
	read   time.Time
}

const (
	identityTTL   = time.Second // a process may have called exec since
	maxIdentities = 256
	maxCmdline    = 1024 // bytes of _CMDLINE kept
)

// identities reads and remembers senders. A process that is gone keeps what was
// read of it while it lived, for the time to live.
type identities struct {
	proc, run string
	now       func() time.Time
	known     map[int32]*identity
}

func newIdentities(proc, run string, now func() time.Time) *identities {
	return &identities{proc: proc, run: run, now: now, known: map[int32]*identity{}}
}

// of returns the sender with these credentials.
func (ids *identities) of(cred unix.Ucred) *identity {
	now := ids.now()
	old := ids.known[cred.Pid]
	if old != nil && now.Sub(old.read) < identityTTL {
		return old
	}
	id := ids.read(cred)
	id.read = now
	if old != nil && id.comm == "" {
		old.read = now
		return old // gone: what it was is better than nothing
	}
	if len(ids.known) >= maxIdentities {
		for pid, other := range ids.known {
			if now.Sub(other.read) >= identityTTL {
				delete(ids.known, pid)
			}
		}
		if len(ids.known) >= maxIdentities {
			clear(ids.known)
		}
	}
	ids.known[cred.Pid] = id
	return id
}

func (ids *identities) read(cred unix.Ucred) *identity {
	id := &identity{pid: cred.Pid}
	add := func(name, value string) {
		if value != "" {
			id.fields = append(id.fields, journal.Field{Name: name, Value: value})
		}
	}
	add("_PID", strconv.Itoa(int(cred.Pid)))
	add("_UID", strconv.FormatUint(uint64(cred.Uid), 10))
	add("_GID", strconv.FormatUint(uint64(cred.Gid), 10))
	dir := filepath.Join(ids.proc, strconv.Itoa(int(cred.Pid)))
	if text, err := os.ReadFile(dir + "/comm"); err == nil {
		id.comm = strings.TrimSuffix(string(text), "\n")
		add("_COMM", id.comm)
	}
	if exe, err := os.Readlink(dir + "/exe"); err == nil {
		add("_EXE", exe)
	}
	if text, err := os.ReadFile(dir + "/cmdline"); err == nil {
		add("_CMDLINE", commandLine(text))
	}
	if text, err := os.ReadFile(dir + "/status"); err == nil {
		add("_CAP_EFFECTIVE", capabilities(string(text)))
	}
	if text, err := os.ReadFile(dir + "/cgroup"); err == nil {
		path := cgroupPath(string(text))
		unit, slice := UnitOf(path)
		id.unit = unit
		add("_SYSTEMD_CGROUP", path)
		add("_SYSTEMD_UNIT", unit)
		add("_SYSTEMD_SLICE", slice)
		if invocation, err := os.Readlink(filepath.Join(ids.run, "systemd/units/invocation:"+unit)); err == nil && unit != "" {
			add("_SYSTEMD_INVOCATION_ID", invocation)
		}
	}
	return id
}

// commandLine joins the arguments with spaces.
func commandLine(text []byte) string {
	text = bytes.TrimRight(text, "\x00")
	if len(text) > maxCmdline {
		text = text[:maxCmdline]
	}
	return string(bytes.ReplaceAll(text, []byte{0}, []byte{' '}))
}

// capabilities returns the effective ones of /proc/PID/status, in hexadecimal
// without leading zeros.
func capabilities(status string) string {
	_, after, ok := strings.Cut(status, "\nCapEff:\t")
	value, _, whole := strings.Cut(after, "\n")
	if !ok || !whole {
		return ""
	}
	return cmp.Or(strings.TrimLeft(value, "0"), "0")
}

// about returns the fields of the process that a record is about, as its
// OBJECT_PID= says. Only root may say so: it speaks for others.
func (ids *identities) about(cred unix.Ucred, fields []journal.Field) []journal.Field {
	if cred.Uid != 0 {
		return nil
	}
	for _, f := range fields {
		pid, err := strconv.ParseInt(f.Value, 10, 32)
		if f.Name != "OBJECT_PID" || err != nil || pid <= 0 {
			continue
		}
		var stat unix.Stat_t
		if unix.Stat(filepath.Join(ids.proc, f.Value), &stat) != nil {
			return nil
		}
		var object []journal.Field
		for _, f := range ids.of(unix.Ucred{Pid: int32(pid), Uid: stat.Uid, Gid: stat.Gid}).fields {
			if f.Name != "_PID" {
				object = append(object, journal.Field{Name: "OBJECT" + f.Name, Value: f.Value})
			}
		}
		return object
	}
	return nil
}

// cgroupPath returns the cgroup v2 path of /proc/PID/cgroup.
func cgroupPath(text string) string {
	for line := range strings.Lines(text) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(path, "\n")
		}
	}
	return ""
}

// UnitOf finds the unit and the slice in a cgroup path, as systemd lays them
// out: /a.slice/a-b.slice/name.service/anything.
func UnitOf(path string) (unit, slice string) {
	slice = "-.slice"
	for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		part = strings.TrimPrefix(part, "_")
		if strings.HasSuffix(part, ".slice") {
			slice = part
			continue
		}
		if dot := strings.LastIndexByte(part, '.'); dot > 0 {
			switch part[dot:] {
			case ".service", ".scope", ".socket", ".mount", ".swap":
				return part, slice
			}
		}
		break
	}
	if slice == "-.slice" {
		return "", ""
	}
	return "", slice
}
