// Package seccomp makes the programs with which the kernel restricts what system
// calls a process may make: SystemCallFilter= and its relatives of
// systemd.exec(5). The loader of units reads the settings into a Rules, PID 1
// compiles them, and the shim of rootfs/spawn loads the programs.
//
// Compiling is pure. Only x86-64 has tables here: calls of the 32-bit and x32
// interfaces are refused as soon as there is any SystemCallFilter= or
// SystemCallArchitectures= without them, where systemd filters them by tables of
// their own. SystemCallLog= is left out. The Go libraries for this either need
// C or have no groups and no conditions on arguments.
package seccomp

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Kill is the action that ends the process with SIGSYS, in place of an errno.
const Kill = -1

// Rules is what a unit may call. The zero value allows everything.
type Rules struct {
	// Filter holds the calls that SystemCallFilter= names: those that are
	// allowed if Allow is set, otherwise those that are not, with the errno that
	// they get, or Kill, or 0 for Errno.
	Filter map[string]int `json:",omitempty"`
	Allow  bool           `json:",omitempty"`
	Set    bool           `json:",omitempty"` // there is a SystemCallFilter=
	Errno  int            `json:",omitempty"` // SystemCallErrorNumber=; 0: Kill

	// Native says that only calls of x86-64 are allowed; X86 and X32 except
	// those from it.
	Native, X86, X32 bool `json:",omitempty"`

	// Families are the address families of RestrictAddressFamilies=: the only
	// ones if FamiliesAllow is set, otherwise those that are refused.
	Families                  []int `json:",omitempty"`
	FamiliesAllow, FamiliesOn bool  `json:",omitempty"`

	// Namespaces are the CLONE_NEW... bits that RestrictNamespaces= refuses.
	Namespaces uint32 `json:",omitempty"`

	WriteExecute bool `json:",omitempty"` // MemoryDenyWriteExecute=
	Realtime     bool `json:",omitempty"` // RestrictRealtime=
	SetID        bool `json:",omitempty"` // RestrictSUIDSGID=
	Personality  bool `json:",omitempty"` // LockPersonality=

	// Denied are groups of calls that other settings take away, with EPERM.
	Denied []string `json:",omitempty"`
}

// Zero tells if nothing is restricted.
func (r Rules) Zero() bool {
	return !r.Set && !r.Native && !r.FamiliesOn && r.Namespaces == 0 && !r.WriteExecute && !r.Realtime && !r.SetID && !r.Personality && len(r.Denied) == 0
}

// numbers maps the names of all calls to their numbers.
var numbers = sync.OnceValue(func() map[string]int {
	m := map[string]int{}
	for first, names := range map[int]string{0: firstNames, secondFirst: secondNames} {
		for i, n := range strings.Fields(names) {
			if n != "-" {
				m[n] = first + i
			}
		}
	}
	return m
})

// Expand returns the calls that a word of SystemCallFilter= stands for: a name, a
// group with "@", or a number. A call of other machines is none.
func Expand(word string) ([]string, error) {
	group, isGroup := strings.CutPrefix(word, "@")
	_, known := numbers()[word]
	switch {
	case word == "@known":
		var all []string
		for n := range numbers() {
			all = append(all, n)
		}
		return all, nil
	case isGroup:
		members, ok := groups[group]
		if !ok {
			return nil, fmt.Errorf("Unknown system call group, ignoring: %s", word)
		}
		var all []string
		for _, m := range strings.Fields(members) {
			list, err := Expand(m)
			if err != nil {
				return nil, err
			}
			all = append(all, list...)
		}
		return all, nil
	case known:
		return []string{word}, nil
	case slices.Contains(strings.Fields(elsewhere), word):
		return nil, nil
	}
	if n, err := strconv.Atoi(word); err == nil {
		for name, number := range numbers() {
			if number == n {
				return []string{name}, nil
			}
		}
	}
	return nil, fmt.Errorf("Failed to parse system call, ignoring: %s", word)
}

// Family returns the number of an address family by its name, for example
// AF_INET6.
func Family(name string) (int, bool) {
	n, ok := families[name]
	return n, ok
}

// FamilyName returns the name of an address family by its number, the number if
// there is none.
func FamilyName(n int) string {
	for name, number := range families {
		if number == n && name != "AF_LOCAL" {
			return name
		}
	}
	return strconv.Itoa(n)
}

var families = map[string]int{"AF_UNIX": 1, "AF_LOCAL": 1, "AF_INET": 2, "AF_AX25": 3, "AF_IPX": 4, "AF_APPLETALK": 5, "AF_NETROM": 6,
	"AF_BRIDGE": 7, "AF_ATMPVC": 8, "AF_X25": 9, "AF_INET6": 10, "AF_ROSE": 11, "AF_NETBEUI": 13, "AF_SECURITY": 14, "AF_KEY": 15,
	"AF_NETLINK": 16, "AF_PACKET": 17, "AF_ASH": 18, "AF_ECONET": 19, "AF_ATMSVC": 20, "AF_RDS": 21, "AF_SNA": 22, "AF_IRDA": 23,
	"AF_PPPOX": 24, "AF_WANPIPE": 25, "AF_LLC": 26, "AF_IB": 27, "AF_MPLS": 28, "AF_CAN": 29, "AF_TIPC": 30, "AF_BLUETOOTH": 31,
	"AF_IUCV": 32, "AF_RXRPC": 33, "AF_ISDN": 34, "AF_PHONET": 35, "AF_IEEE802154": 36, "AF_CAIF": 37, "AF_ALG": 38, "AF_NFC": 39,
	"AF_VSOCK": 40, "AF_KCM": 41, "AF_QIPCRTR": 42, "AF_SMC": 43, "AF_XDP": 44}

// Namespace returns the CLONE_NEW... bit of a kind of name space as
// RestrictNamespaces= calls it.
func Namespace(name string) (uint32, bool) {
	n, ok := map[string]uint32{"cgroup": unix.CLONE_NEWCGROUP, "ipc": unix.CLONE_NEWIPC, "net": unix.CLONE_NEWNET, "mnt": unix.CLONE_NEWNS,
		"pid": unix.CLONE_NEWPID, "user": unix.CLONE_NEWUSER, "uts": unix.CLONE_NEWUTS}[name]
	return n, ok
}

// AllNamespaces has the bits of every kind.
const AllNamespaces = unix.CLONE_NEWCGROUP | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUSER | unix.CLONE_NEWUTS
