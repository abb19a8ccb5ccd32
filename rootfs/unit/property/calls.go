package property

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/seccomp"
)

// calls writes what system calls a unit may make. Names are those of x86-64
// alone, where systemd prints those of other machines too.
func (p props) calls(r *seccomp.Rules) {
	if r == nil {
		r = &seccomp.Rules{}
	}
	var words []string
	for _, n := range slices.Sorted(maps.Keys(r.Filter)) {
		switch e := r.Filter[n]; {
		case e == seccomp.Kill:
			n += ":kill"
		case e != 0:
			n += ":" + unix.ErrnoName(unix.Errno(e))
		}
		words = append(words, n)
	}
	p["SystemCallFilter"] = list(words, r.Allow)
	p["SystemCallErrorNumber"] = "2147483646" // systemd's number for "kill"
	if r.Errno != 0 {
		p["SystemCallErrorNumber"] = strconv.Itoa(r.Errno)
	}
	words = nil
	for _, a := range []struct {
		on   bool
		name string
	}{{r.Native, "native"}, {r.X32, "x32"}, {r.X86, "x86"}} {
		if a.on {
			words = append(words, a.name)
		}
	}
	p["SystemCallArchitectures"] = strings.Join(words, " ")
	words = nil
	for _, f := range slices.Sorted(slices.Values(r.Families)) {
		words = append(words, seccomp.FamilyName(f))
	}
	slices.Sort(words)
	p["RestrictAddressFamilies"] = list(words, r.FamiliesOn && r.FamiliesAllow)
	p["RestrictNamespaces"] = namespaces(r.Namespaces)
}

// list writes what is allowed, or after "~" what is not.
func list(words []string, allowed bool) string {
	text := strings.Join(words, " ")
	if !allowed {
		return fmt.Sprint("~", text)
	}
	return text
}

// namespaces writes which kinds are left.
func namespaces(refused uint32) string {
	switch refused {
	case 0:
		return "no"
	case seccomp.AllNamespaces:
		return "yes"
	}
	var words []string
	for _, n := range []string{"cgroup", "ipc", "net", "mnt", "pid", "user", "uts"} {
		if bit, _ := seccomp.Namespace(n); refused&bit == 0 {
			words = append(words, n)
		}
	}
	return strings.Join(words, " ")
}
