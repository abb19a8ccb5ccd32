package seccomp

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// call is what the kernel shows to a program.
type call struct {
	number int
	arch   uint32
	args   [6]uint64
}

// run interprets a program as the kernel does; it knows the instructions that
// this package writes.
func run(t *testing.T, p Program, c call) uint32 {
	t.Helper()
	word := func(offset uint32) uint32 {
		switch {
		case offset == offNumber:
			return uint32(c.number)
		case offset == offArch:
			return c.arch
		default:
			return uint32(c.args[(offset-offArgs)/8])
		}
	}
	var a uint32
	for pc := 0; pc < len(p); pc++ {
		i := p[pc]
		taken := false
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = word(i.K)
			continue
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= i.K
			continue
		case unix.BPF_RET | unix.BPF_K:
			return i.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			taken = a == i.K
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			taken = a > i.K
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			taken = a >= i.K
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			taken = a&i.K != 0
		default:
			t.Fatalf("instruction %d: unknown code %#x", pc, i.Code)
		}
		if taken {
			pc += int(i.Jt)
		} else {
			pc += int(i.Jf)
		}
	}
	t.Fatal("the program does not end with a return")
	return 0
}

// verdict is what all programs of a unit together say: the strictest.
func verdict(t *testing.T, r Rules, c call) uint32 {
	t.Helper()
	worst := uint32(allow)
	for _, p := range r.Compile() {
		if v := run(t, p, c); int32(v) < int32(worst) {
			worst = v
		}
	}
	return worst
}

func names(t *testing.T, words ...string) map[string]int {
	t.Helper()
	m := map[string]int{}
	for _, w := range words {
		list, err := Expand(w)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range list {
			m[n] = 0
		}
	}
	return m
}

// TestFilterKnowsEveryCall compares every call of the tables with the list that
// the program was made from.
func TestFilterKnowsEveryCall(t *testing.T) {
	some := names(t, "@system-service", "@default")
	for _, r := range []Rules{{Set: true, Allow: true, Filter: some}, {Set: true, Filter: some, Errno: 1}} {
		for name, number := range numbers() {
			_, listed := some[name]
			want := uint32(allow)
			if listed != r.Allow {
				want = action(map[bool]int{true: Kill, false: 1}[r.Errno == 0])
			}
			if got := verdict(t, r, call{number: number, arch: unix.AUDIT_ARCH_X86_64}); got != want {
				t.Errorf("allow=%t: %s (%d) is answered with %#x, want %#x", r.Allow, name, number, got, want)
			}
		}
	}
}

func TestGroups(t *testing.T) {
	for g, members := range groups {
		for _, m := range strings.Fields(members) {
			if _, err := Expand(m); err != nil {
				t.Errorf("@%s: %v", g, err)
			}
		}
	}
	if all := names(t, "@system-service"); len(all) < 250 {
		t.Errorf("@system-service has only %d calls", len(all))
	}
	for _, bad := range []string{"@nope", "nope", "", "@", "99999"} {
		if list, err := Expand(bad); err == nil {
			t.Errorf("%q is %v", bad, list)
		}
	}
}

func TestArguments(t *testing.T) {
	const refuse = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	const family = unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)
	for name, test := range map[string]struct {
		rules Rules
		call  string
		args  [6]uint64
		want  uint32
	}{
		"family allowed":         {Rules{FamiliesOn: true, FamiliesAllow: true, Families: []int{1, 2}}, "socket", [6]uint64{2}, allow},
		"family not allowed":     {Rules{FamiliesOn: true, FamiliesAllow: true, Families: []int{1, 2}}, "socket", [6]uint64{10}, family},
		"no family":              {Rules{FamiliesOn: true, FamiliesAllow: true}, "socket", [6]uint64{1}, family},
		"family denied":          {Rules{FamiliesOn: true, Families: []int{16}}, "socket", [6]uint64{16}, family},
		"another call":           {Rules{FamiliesOn: true, Families: []int{16}}, "connect", [6]uint64{16}, allow},
		"unshare mnt":            {Rules{Namespaces: unix.CLONE_NEWNS}, "unshare", [6]uint64{unix.CLONE_NEWNS}, refuse},
		"unshare net":            {Rules{Namespaces: unix.CLONE_NEWNS}, "unshare", [6]uint64{unix.CLONE_NEWNET}, allow},
		"fork":                   {Rules{Namespaces: AllNamespaces}, "clone", [6]uint64{uint64(unix.SIGCHLD)}, allow},
		"clone net":              {Rules{Namespaces: AllNamespaces}, "clone", [6]uint64{unix.CLONE_NEWNET}, refuse},
		"clone3":                 {Rules{Namespaces: AllNamespaces}, "clone3", [6]uint64{}, unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		"setns of any kind":      {Rules{Namespaces: unix.CLONE_NEWNS}, "setns", [6]uint64{3, 0}, refuse},
		"setns net":              {Rules{Namespaces: unix.CLONE_NEWNS}, "setns", [6]uint64{3, unix.CLONE_NEWNET}, allow},
		"setns mnt":              {Rules{Namespaces: unix.CLONE_NEWNS}, "setns", [6]uint64{3, unix.CLONE_NEWNS}, refuse},
		"mmap rw":                {Rules{WriteExecute: true}, "mmap", [6]uint64{0, 0, 3}, allow},
		"mmap rx":                {Rules{WriteExecute: true}, "mmap", [6]uint64{0, 0, 5}, allow},
		"mmap rwx":               {Rules{WriteExecute: true}, "mmap", [6]uint64{0, 0, 7}, refuse},
		"mprotect rx":            {Rules{WriteExecute: true}, "mprotect", [6]uint64{0, 0, 5}, refuse},
		"sched fifo":             {Rules{Realtime: true}, "sched_setscheduler", [6]uint64{0, 1}, refuse},
		"sched batch":            {Rules{Realtime: true}, "sched_setscheduler", [6]uint64{0, 3}, allow},
		"chmod u+s":              {Rules{SetID: true}, "chmod", [6]uint64{0, 0o4755}, refuse},
		"chmod":                  {Rules{SetID: true}, "chmod", [6]uint64{0, 0o755}, allow},
		"openat g+s":             {Rules{SetID: true}, "openat", [6]uint64{0, 0, unix.O_CREAT, 0o2755}, refuse},
		"openat2":                {Rules{SetID: true}, "openat2", [6]uint64{}, unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		"personality is asked":   {Rules{Personality: true}, "personality", [6]uint64{0xffffffff}, allow},
		"personality is changed": {Rules{Personality: true}, "personality", [6]uint64{0x40000}, refuse},
		"module":                 {Rules{Denied: []string{"@module", "syslog"}}, "init_module", [6]uint64{}, refuse},
		"syslog":                 {Rules{Denied: []string{"@module", "syslog"}}, "syslog", [6]uint64{}, refuse},
	} {
		c := call{number: numbers()[test.call], arch: unix.AUDIT_ARCH_X86_64, args: test.args}
		if got := verdict(t, test.rules, c); got != test.want {
			t.Errorf("%s: %#x, want %#x", name, got, test.want)
		}
	}
}

// TestOtherInterfaces makes calls through the 32-bit and the x32 interface.
func TestOtherInterfaces(t *testing.T) {
	x86, x32 := call{number: 1, arch: unix.AUDIT_ARCH_I386}, call{number: x32Bit | 1, arch: unix.AUDIT_ARCH_X86_64}
	for name, test := range map[string]struct {
		rules Rules
		call  call
		want  uint32
	}{
		"x86, filter":     {Rules{Set: true, Allow: true, Filter: names(t, "@known")}, x86, kill},
		"x32, filter":     {Rules{Set: true, Allow: true, Filter: names(t, "@known")}, x32, kill},
		"x86, native":     {Rules{Native: true}, x86, kill},
		"x32, native":     {Rules{Native: true}, x32, kill},
		"x86, allowed":    {Rules{Native: true, X86: true}, x86, allow},
		"x32, allowed":    {Rules{Native: true, X32: true}, x32, allow},
		"x32, x86 only":   {Rules{Native: true, X86: true}, x32, kill},
		"native, allowed": {Rules{Native: true, X86: true}, call{number: 1, arch: unix.AUDIT_ARCH_X86_64}, allow},
	} {
		if got := verdict(t, test.rules, test.call); got != test.want {
			t.Errorf("%s: %#x, want %#x", name, got, test.want)
		}
	}
}
