package unit

import (
	"strings"

	"github.com/coracle-os/coracle/rootfs/seccomp"
)

// Sandbox is what a service may see and do of the machine; systemd.exec(5).
type Sandbox struct {
	ProtectSystem string // "no", "yes", "full", "strict"
	ProtectHome   string // "no", "yes", "read-only", "tmpfs"

	PrivateTmp, PrivateDevices, PrivateNetwork, PrivateMounts      bool
	ProtectKernelTunables, ProtectKernelModules, ProtectKernelLogs bool
	ProtectControlGroups, ProtectHostname, ProtectClock            bool
	ReadWritePaths, ReadOnlyPaths, InaccessiblePaths               []string // "-" before one that may be missing
	TemporaryFileSystem                                            []string
	ProtectProc, ProcSubset                                        string // "default" and "all" unless set
	PrivateIPC                                                     bool
	Calls                                                          *seccomp.Rules // nil: all system calls are allowed
	Binds                                                          []Bind
	DropCapabilities                                               uint64 // those that CapabilityBoundingSet= leaves out
	AmbientCapabilities                                            uint64
}

// Bind is one word of BindPaths= or BindReadOnlyPaths=.
type Bind struct {
	From, To           string
	ReadOnly, Optional bool
}

// Dropped returns the capabilities that the service does not have: those that
// CapabilityBoundingSet= leaves out, and those that other settings take away.
func (s *Sandbox) Dropped() uint64 {
	drop := s.DropCapabilities
	for _, c := range []struct {
		on    bool
		names []string
	}{
		{s.PrivateDevices, []string{"CAP_MKNOD", "CAP_SYS_RAWIO"}}, {s.ProtectKernelModules, []string{"CAP_SYS_MODULE"}},
		{s.ProtectKernelLogs, []string{"CAP_SYSLOG"}}, {s.ProtectClock, []string{"CAP_SYS_TIME", "CAP_WAKE_ALARM"}},
	} {
		for _, n := range c.names {
			if c.on {
				bit, _ := Capability(n)
				drop |= 1 << bit
			}
		}
	}
	return drop
}

// Restricted returns which system calls the service may make: what it says of
// them, and what other settings take away.
func (s *Sandbox) Restricted() seccomp.Rules {
	var r seccomp.Rules
	if s.Calls != nil {
		r = *s.Calls
	}
	for _, c := range []struct {
		on    bool
		calls []string
	}{
		{s.PrivateDevices, []string{"@raw-io"}}, {s.ProtectKernelModules, []string{"@module"}}, {s.ProtectKernelLogs, []string{"syslog"}},
		{s.ProtectClock, []string{"@clock"}}, {s.ProtectHostname, []string{"sethostname", "setdomainname"}}, {s.ProtectKernelTunables, []string{"_sysctl"}},
	} {
		if c.on {
			r.Denied = append(r.Denied[:len(r.Denied):len(r.Denied)], c.calls...)
		}
	}
	return r
}

// AllCapabilities has the bits of all capabilities.
const AllCapabilities = 1<<41 - 1

// capabilities are their names in the order of their numbers; capabilities(7).
var capabilities = strings.Fields(`chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap
	linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot
	sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write
	audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore`)

// Capability returns the number of a capability by its name, for example
// CAP_NET_ADMIN.
func Capability(name string) (int, bool) {
	for i, c := range capabilities {
		if strings.EqualFold(name, "CAP_"+c) {
			return i, true
		}
	}
	return 0, false
}

// CapabilityNames returns the names of a set in systemctl's spelling.
func CapabilityNames(set uint64) []string {
	var list []string
	for i, c := range capabilities {
		if set>>i&1 == 1 {
			list = append(list, "cap_"+c)
		}
	}
	return list
}
