package settings

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/signals"
	"github.com/coracle-os/coracle/rootfs/unit/timespan"
	"github.com/coracle-os/coracle/rootfs/unit/words"
)

func signal(f field[syscall.Signal]) setting {
	return func(p *pass, value string) error {
		s, ok := signals.Parse(value)
		if !ok {
			return fmt.Errorf("Failed to parse signal %q, ignoring: write for example SIGTERM, TERM or 15", value)
		}
		*f(p.u) = s
		return nil
	}
}

// exitNames are the names of exit codes that SuccessExitStatus= and its
// relatives take.
var exitNames = map[string]int{"SUCCESS": 0, "FAILURE": 1, "INVALIDARGUMENT": 2, "NOTIMPLEMENTED": 3, "NOPERMISSION": 4,
	"NOTINSTALLED": 5, "NOTCONFIGURED": 6, "NOTRUNNING": 7, "USAGE": 64, "DATAERR": 65, "NOINPUT": 66, "NOUSER": 67,
	"NOHOST": 68, "UNAVAILABLE": 69, "SOFTWARE": 70, "OSERR": 71, "OSFILE": 72, "CANTCREAT": 73, "IOERR": 74,
	"TEMPFAIL": 75, "PROTOCOL": 76, "NOPERM": 77, "CONFIG": 78, "CHDIR": 200, "NICE": 201, "FDS": 202, "EXEC": 203,
	"MEMORY": 204, "LIMITS": 205, "OOM_ADJUST": 206, "SIGNAL_MASK": 207, "STDIN": 208, "STDOUT": 209, "CHROOT": 210,
	"IOPRIO": 211, "TIMERSLACK": 212, "SECUREBITS": 213, "SETSCHEDULER": 214, "CPUAFFINITY": 215, "GROUP": 216,
	"USER": 217, "CAPABILITIES": 218, "CGROUP": 219, "SETSID": 220, "CONFIRM": 221, "STDERR": 222, "PAM": 224,
	"NETWORK": 225, "NAMESPACE": 226, "NO_NEW_PRIVILEGES": 227, "SECCOMP": 228, "RUNTIME_DIRECTORY": 233,
	"STATE_DIRECTORY": 238, "CACHE_DIRECTORY": 239, "LOGS_DIRECTORY": 240, "CONFIGURATION_DIRECTORY": 241,
	"EXCEPTION": 255}

// statuses takes exit codes, their names, and signals; an empty value resets
// the set.
func statuses(f field[unit.ExitStatuses]) setting {
	return func(p *pass, value string) error {
		at := f(p.u)
		if value == "" {
			*at = unit.ExitStatuses{}
			return nil
		}
		all, _, err := words.Split(value)
		for _, w := range all {
			if code, ok := exitNames[w]; ok {
				at.Codes = append(at.Codes, code)
			} else if n, err := strconv.ParseUint(w, 10, 8); err == nil {
				at.Codes = append(at.Codes, int(n))
			} else if s, ok := signals.Parse(w); ok {
				at.Signals = append(at.Signals, s)
			} else {
				p.warn("Failed to parse exit status %q, ignoring: write a number from 0 to 255 or a signal", w)
			}
		}
		return err
	}
}

// rlimit takes SOFT[:HARD] for a resource.
func rlimit(name string, resource int) setting {
	return func(p *pass, value string) error {
		soft, hard, both := strings.Cut(value, ":")
		l := unit.Limit{Name: name, Resource: resource}
		var err error
		if l.Soft, err = limitValue(name, soft); err != nil {
			return err
		}
		l.Hard = l.Soft
		if both {
			if l.Hard, err = limitValue(name, hard); err != nil {
				return err
			}
		}
		if l.Soft > l.Hard {
			return fmt.Errorf("Soft resource limit chosen higher than hard limit, ignoring: %s", value)
		}
		e := execOf(p.u)
		for i, old := range e.Limits {
			if old.Resource == resource {
				e.Limits[i] = l
				return nil
			}
		}
		e.Limits = append(e.Limits, l)
		return nil
	}
}

func limitValue(name, s string) (uint64, error) {
	s = strings.TrimSpace(s)
	if s == "infinity" {
		return unit.LimitInfinity, nil
	}
	var n uint64
	var err error
	switch name {
	case "FSIZE", "DATA", "STACK", "CORE", "RSS", "AS", "MEMLOCK", "MSGQUEUE":
		n, err = timespan.ParseSize(s)
	case "CPU", "RTTIME":
		def, unit := time.Second, time.Second
		if name == "RTTIME" {
			def, unit = time.Microsecond, time.Microsecond
		}
		var d time.Duration
		d, err = timespan.Parse(s, def)
		n = uint64((d + unit - 1) / unit)
	case "NICE":
		n, err = niceLimit(s)
	default:
		n, err = strconv.ParseUint(s, 10, 64)
	}
	if err != nil {
		return 0, fmt.Errorf("Failed to parse resource limit %q, ignoring: %w", s, err)
	}
	return n, nil
}

// niceLimit takes a nice level with its sign, or the raw limit.
func niceLimit(s string) (uint64, error) {
	n, err := strconv.Atoi(s)
	if err == nil && (s[0] == '+' || s[0] == '-') {
		n = 20 - n
	}
	if err == nil && (n < 0 || n > 40) {
		err = errors.New("a nice level is from -20 to +19")
	}
	return uint64(n), err
}
