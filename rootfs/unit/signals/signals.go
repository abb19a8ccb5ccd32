// Package signals knows signals by the names that unit files and systemctl
// use: SIGTERM, TERM, 15, RTMIN+3. x/sys/unix knows neither the short names
// nor the real-time signals.
package signals

import (
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	rtMin = 34 // as the C library counts
	rtMax = 64
)

// Parse reads a signal's name or number.
func Parse(s string) (syscall.Signal, bool) {
	if n, err := strconv.Atoi(s); err == nil {
		return syscall.Signal(n), n > 0 && n <= rtMax
	}
	s = strings.TrimPrefix(s, "SIG")
	for prefix, base := range map[string]int{"RTMIN": rtMin, "RTMAX": rtMax} {
		rest, ok := strings.CutPrefix(s, prefix)
		if !ok {
			continue
		}
		n, err := strconv.Atoi(rest)
		if rest == "" {
			n, err = 0, nil
		}
		n += base
		return syscall.Signal(n), err == nil && n >= rtMin && n <= rtMax
	}
	sig := unix.SignalNum("SIG" + s)
	return sig, sig != 0
}

// Name returns the short name of a signal: "TERM"; "RTMIN+3" or its number if
// it has no other.
func Name(sig syscall.Signal) string {
	if n := unix.SignalName(sig); n != "" {
		return strings.TrimPrefix(n, "SIG")
	}
	if n := int(sig); n >= rtMin && n <= rtMax {
		return "RTMIN+" + strconv.Itoa(n-rtMin)
	}
	return strconv.Itoa(int(sig))
}
