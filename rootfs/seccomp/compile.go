package seccomp

import (
	"encoding/binary"
	"maps"
	"slices"

	"golang.org/x/sys/unix"
)

// Program is one program for the kernel.
type Program []unix.SockFilter

// Bytes returns the program as the kernel wants it in memory.
func (p Program) Bytes() []byte {
	b := make([]byte, 0, len(p)*unix.SizeofSockFilter)
	for _, i := range p {
		b = binary.NativeEndian.AppendUint16(b, i.Code)
		b = append(b, i.Jt, i.Jf)
		b = binary.NativeEndian.AppendUint32(b, i.K)
	}
	return b
}

// Offsets in struct seccomp_data. Arguments have 64 bits; all that is looked at
// here is in the lower half.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

// Bits and actions.
const (
	x32Bit = 0x40000000

	allow = unix.SECCOMP_RET_ALLOW
	kill  = unix.SECCOMP_RET_KILL_PROCESS
)

func action(errno int) uint32 {
	if errno == Kill {
		return kill
	}
	return unix.SECCOMP_RET_ERRNO | uint32(errno)
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func ret(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }

func jump(op uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, K: k, Jt: yes, Jf: no}
}

// Compile returns the programs, in the order in which they are to be loaded: that
// of SystemCallFilter= is the last, because it may forbid loading.
func (r Rules) Compile() []Program {
	var list []Program
	add := func(p Program) { list = append(list, p) }
	if r.Native {
		add(r.architectures())
	}
	if r.FamiliesOn {
		add(sockets(r.Families, r.FamiliesAllow))
	}
	if r.Namespaces != 0 {
		add(namespaces(r.Namespaces))
	}
	if r.WriteExecute {
		add(writeExecute())
	}
	if r.Realtime {
		add(on(check{"sched_setscheduler", 1, ^uint32(0), []uint32{unix.SCHED_FIFO, unix.SCHED_RR, unix.SCHED_DEADLINE}, false}))
	}
	if r.SetID {
		add(setID())
	}
	if r.Personality {
		add(personality())
	}
	if len(r.Denied) > 0 {
		denied := map[string]int{}
		for _, g := range r.Denied {
			names, _ := Expand(g)
			for _, n := range names {
				denied[n] = int(unix.EPERM)
			}
		}
		add(filter(denied, false, int(unix.EPERM), allow))
	}
	if r.Set {
		errno := r.Errno
		if errno == 0 {
			errno = Kill
		}
		add(filter(r.Filter, r.Allow, errno, action(errno)))
	}
	return list
}

// header loads the number of the call; those of other interfaces get the action
// foreign.
func header(foreign uint32) Program {
	return Program{load(offArch), jump(unix.BPF_JEQ, unix.AUDIT_ARCH_X86_64, 1, 0), ret(foreign),
		load(offNumber), jump(unix.BPF_JGE, x32Bit, 0, 1), ret(foreign)}
}

// architectures refuses calls of interfaces that SystemCallArchitectures= does
// not name.
func (r Rules) architectures() Program {
	on := map[bool]uint32{true: allow, false: kill}
	return Program{load(offArch), jump(unix.BPF_JEQ, unix.AUDIT_ARCH_X86_64, 3, 0),
		jump(unix.BPF_JEQ, unix.AUDIT_ARCH_I386, 0, 1), ret(on[r.X86]), ret(kill),
		load(offNumber), jump(unix.BPF_JGE, x32Bit, 0, 1), ret(on[r.X32]), ret(allow)}
}

// filter gives each of the calls the action of its errno, or allows them if they
// are what is allowed, and all others the opposite. It looks for the range of
// numbers that the call is in.
func filter(names map[string]int, allowed bool, errno int, foreign uint32) Program {
	type span struct {
		low, high int
		act       uint32
	}
	other := uint32(allow)
	if allowed {
		other = action(errno)
	}
	by := map[int]uint32{}
	for n, e := range names {
		number := numbers()[n]
		switch {
		case allowed && e == 0:
			by[number] = allow
		case e == 0:
			by[number] = action(errno)
		default:
			by[number] = action(e)
		}
	}
	var spans []span
	for _, n := range slices.Sorted(maps.Keys(by)) {
		if last := len(spans) - 1; last >= 0 && spans[last].high == n-1 && spans[last].act == by[n] {
			spans[last].high = n
			continue
		}
		spans = append(spans, span{n, n, by[n]})
	}
	p := header(foreign)
	for _, s := range spans { // a number above this range is looked for in the next ones
		p = append(p, jump(unix.BPF_JGT, uint32(s.high), 3, 0), jump(unix.BPF_JGE, uint32(s.low), 0, 1), ret(s.act), ret(other))
	}
	return append(p, ret(other))
}

// check refuses a call whose argument, masked, is one of the values, or with
// other is none of them.
type check struct {
	call   string
	arg    int
	mask   uint32
	values []uint32
	other  bool
}

// on makes a program of checks, which answer with EPERM.
func on(checks ...check) Program { return with(unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM), checks...) }

func with(refuse uint32, checks ...check) Program {
	p := header(allow)
	for _, c := range checks {
		number, ok := numbers()[c.call]
		if !ok {
			continue
		}
		match, miss := refuse, uint32(allow)
		if c.other {
			match, miss = miss, match
		}
		body := Program{load(uint32(offArgs + 8*c.arg)), {Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: c.mask}}
		for _, v := range c.values {
			body = append(body, jump(unix.BPF_JEQ, v, 0, 1), ret(match))
		}
		// A miss may still be caught by the next check of the same call.
		if miss == allow {
			body = append(body, load(offNumber))
		} else {
			body = append(body, ret(miss))
		}
		p = append(p, jump(unix.BPF_JEQ, uint32(number), 0, uint8(len(body))))
		p = append(p, body...)
	}
	return append(p, ret(allow))
}

// bits makes checks that refuse a call if any of the bits of an argument is set.
func bits(call string, arg int, mask uint32) check {
	return check{call, arg, mask, []uint32{0}, true}
}

// anyBit is like on for checks of bits: zero is what is allowed.
func anyBit(list ...check) Program {
	p := header(allow)
	for _, c := range list {
		number, ok := numbers()[c.call]
		if !ok {
			continue
		}
		p = append(p, jump(unix.BPF_JEQ, uint32(number), 0, 4), load(uint32(offArgs+8*c.arg)),
			jump(unix.BPF_JSET, c.mask, 0, 1), ret(unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM)), load(offNumber))
	}
	return append(p, ret(allow))
}

// sockets restricts of what families sockets can be made.
func sockets(list []int, allowed bool) Program {
	values := make([]uint32, 0, len(list))
	for _, f := range list {
		values = append(values, uint32(f))
	}
	return with(unix.SECCOMP_RET_ERRNO|uint32(unix.EAFNOSUPPORT), check{"socket", 0, ^uint32(0), values, allowed})
}

// refused answers a call with an errno, whatever its arguments.
func refused(call string, errno unix.Errno) Program {
	return Program{jump(unix.BPF_JEQ, uint32(numbers()[call]), 0, 1), ret(unix.SECCOMP_RET_ERRNO | uint32(errno))}
}

// splice puts instructions after the header of a program.
func splice(p Program, extra ...Program) Program {
	n := len(header(allow))
	return slices.Concat(append([]Program{p[:n:n]}, append(extra, p[n:])...)...)
}

// namespaces refuses to make or enter name spaces of the kinds. What clone3 is
// asked for is in memory, which a program cannot see, so it is as if the kernel
// did not have it, and callers use clone.
func namespaces(kinds uint32) Program {
	enter := Program{jump(unix.BPF_JEQ, uint32(numbers()["setns"]), 0, 6), load(offArgs + 8),
		jump(unix.BPF_JEQ, 0, 0, 1), ret(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)), // any kind
		jump(unix.BPF_JSET, kinds, 0, 1), ret(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)), load(offNumber)}
	return splice(anyBit(bits("unshare", 0, kinds), bits("clone", 0, kinds)), refused("clone3", unix.ENOSYS), enter)
}

// writeExecute refuses memory that can be written and executed, and to make
// memory executable.
func writeExecute() Program {
	const both = unix.PROT_WRITE | unix.PROT_EXEC
	const executable = 0o100000 // SHM_EXEC
	p := on(check{"mmap", 2, both, []uint32{both}, false}, check{"mprotect", 2, unix.PROT_EXEC, []uint32{unix.PROT_EXEC}, false},
		check{"pkey_mprotect", 2, unix.PROT_EXEC, []uint32{unix.PROT_EXEC}, false}, check{"shmat", 2, executable, []uint32{executable}, false})
	return p
}

// setID refuses to make files with the SUID and SGID bits.
func setID() Program {
	const both = unix.S_ISUID | unix.S_ISGID
	var list []check
	for call, arg := range map[string]int{"chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2, "mkdir": 1, "mkdirat": 2, "mknod": 1, "mknodat": 2,
		"creat": 1, "open": 2, "openat": 3} {
		list = append(list, bits(call, arg, both))
	}
	slices.SortFunc(list, func(a, b check) int { return numbers()[a.call] - numbers()[b.call] })
	return splice(anyBit(list...), refused("openat2", unix.ENOSYS))
}

// personality refuses to change the execution domain; asking for it stays
// allowed.
func personality() Program {
	return on(check{"personality", 0, ^uint32(0), []uint32{0, 0xffffffff}, true})
}
