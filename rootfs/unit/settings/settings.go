// Package settings turns the assignments of unit files into a unit.Unit: one
// table entry for each setting. It is used by the loader only.
//
// It follows systemd 252: a bad value costs only its line and leaves a warning
// with file and line, an empty assignment resets a list, and a bad Exec...=
// line refuses the unit. Settings that systemd knows and Coracle does not act
// on are named in a warning.
package settings

import (
	"errors"
	"fmt"
	"strings"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
	"github.com/coracle-os/coracle/rootfs/unit/syntax"
)

// setting puts one value into the unit of the pass. Its error becomes a
// warning, or refuses the unit if it is a *refusal.
type setting func(p *pass, value string) error

// pass is the reading of one file.
type pass struct {
	u    *unit.Unit
	x    specifier.Expander
	path string
	line int
}

// refusal is an error that makes the unit unusable.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }

func (p *pass) warn(format string, args ...any) {
	p.u.Warnings = append(p.u.Warnings, unit.Warning{Path: p.path, Line: p.line, Text: fmt.Sprintf(format, args...)})
}

var sectionOf = map[unit.Kind]string{
	unit.KindService: "Service", unit.KindSocket: "Socket", unit.KindMount: "Mount", unit.KindAutomount: "Automount",
	unit.KindTimer: "Timer", unit.KindPath: "Path", unit.KindSlice: "Slice", unit.KindTarget: "Target",
	unit.KindScope: "Scope", unit.KindSwap: "Swap", unit.KindDevice: "Device",
}

// Apply reads the file of a unit or one of its drop-ins into u, which was made
// by New. path is for messages. An error of the syntax sets LoadState Error, a
// refused line BadSetting; both leave the reason in LoadError.
func Apply(u *unit.Unit, path string, data []byte, x specifier.Expander) {
	own := sectionOf[u.Kind]
	file, err := syntax.Parse(data, []string{"Unit", "Install", own})
	for _, w := range file.Warnings {
		u.Warnings = append(u.Warnings, unit.Warning{Path: path, Line: w.Line, Text: w.Text})
	}
	p := &pass{u: u, x: x, path: path}
	if e := (*syntax.Error)(nil); errors.As(err, &e) {
		p.line = e.Line
		p.warn("%s", e.Text)
		if path != u.FragmentPath { // a drop-in costs only itself
			for _, a := range file.Assignments {
				p.line = a.Line
				p.assign(a)
			}
			return
		}
		u.LoadState = unit.Error
		u.LoadError = fmt.Sprintf("%s:%d: %s", path, e.Line, e.Text)
		return
	}
	for _, a := range file.Assignments {
		p.line = a.Line
		p.assign(a)
	}
}

func (p *pass) assign(a syntax.Assignment) {
	set := p.find(a.Section, a.Key)
	switch {
	case set != nil:
	case strings.HasPrefix(a.Key, "X-"):
		return
	case unsupported[a.Key]:
		p.warn("%s= is not supported by Coracle, ignoring.", a.Key)
		return
	default:
		p.warn("Unknown key name '%s' in section '%s', ignoring.", a.Key, a.Section)
		return
	}
	err := set(p, a.Value)
	if err == nil {
		return
	}
	p.warn("%s=: %s", a.Key, err)
	if r := (*refusal)(nil); errors.As(err, &r) && p.u.LoadState == unit.Loaded {
		p.u.LoadState = unit.BadSetting
		p.u.LoadError = fmt.Sprintf("%s:%d: %s=: %s", p.path, p.line, a.Key, err)
	}
}

// find returns the setting for a key, nil if there is none.
func (p *pass) find(section, key string) setting {
	switch section {
	case "Unit":
		if s := conditionSetting(key); s != nil {
			return s
		}
		return unitSettings[key]
	case "Install":
		return installSettings[key]
	}
	if p.u.Service != nil && serviceSettings[key] != nil {
		return serviceSettings[key]
	}
	if p.u.Socket != nil && socketSettings[key] != nil {
		return socketSettings[key]
	}
	if s := otherSettings[section][key]; s != nil {
		return s
	}
	if execOf(p.u) != nil && execSettings[key] != nil {
		return execSettings[key]
	}
	if execOf(p.u) != nil && schedulingSettings[key] != nil {
		return schedulingSettings[key]
	}
	if execOf(p.u) != nil && callSettings[key] != nil {
		return callSettings[key]
	}
	if execOf(p.u) != nil && sandboxSettings[key] != nil {
		return sandboxSettings[key]
	}
	if p.u.Slice != "" || p.u.Kind == unit.KindSlice {
		return cgroupSettings[key]
	}
	return nil
}

// Section is the section of a kind's own settings, such as "Service".
func Section(kind unit.Kind) string { return sectionOf[kind] }

// Live tells if u's kind of unit knows a setting, of its own section or the
// description, and if it may be changed while the unit runs.
func Live(u *unit.Unit, key string) (known, live bool) {
	if key == "Description" {
		return true, true
	}
	p := &pass{u: u}
	known = p.find(sectionOf[u.Kind], key) != nil || unsupported[key]
	return known, cgroupSettings[key] != nil && key != "Slice" && key != "Delegate"
}

// unsupported are settings of systemd 252 that change nothing here; each use of
// one is named in a warning. Why:
//
//   - SystemCallLog, Personality: nothing reads the first, and the second is for
//     programs of 32 bits.
//   - PrivateUsers, RootImage and its relatives,
//     Extension..., MountImages, MountAPIVFS, MountFlags, NetworkNamespacePath,
//     IPCNamespacePath: user name spaces and images are containers' here.
//   - DeviceAllow, DevicePolicy, IPAddressAllow and -Deny, IPAccounting, SocketBind...,
//     RestrictNetworkInterfaces, RestrictFileSystems, BPFProgram, IP...FilterPath: they
//     are BPF programs on the control group; nftables filters the network.
//   - LoadCredentialEncrypted, SetCredentialEncrypted: there is no key for them.
//   - AppArmorProfile, SELinuxContext, SmackProcessLabel, SecureBits, KeyringMode,
//     PAMName: the kernel is used without these, and there is no PAM.
//   - NUMA...: CPUAffinity= and AllowedCPUs= say what matters for a service.
//   - IO...Max, IODevice..., BlockIO... other than weights, Startup..., ManagedOOM...,
//     MemoryZSwapMax, CPUQuotaPeriodSec, DisableControllers: limits that nothing
//     between CoreOS and today's unit files was seen to use.
//   - LogNamespace, LogExtraFields, LogFilterPatterns, LogLevelMax, LogRateLimit...: the
//     journal has one rate limit and one store.
//   - BusName, USBFunction..., UtmpMode, NetClass, RemoveIPC: D-Bus, USB gadgets, utmp
//     and cgroup v1 are not here.
//   - the rest: rare details of sockets and jobs.
var unsupported = set(`AppArmorProfile BlockIOAccounting BlockIODeviceWeight BlockIOReadBandwidth BlockIOWriteBandwidth BPFProgram
	BusName CPUQuotaPeriodSec DeviceAllow DevicePolicy DisableControllers ExecPaths
	ExtensionDirectories ExtensionImages IODeviceLatencyTargetSec IODeviceWeight IOReadBandwidthMax IOReadIOPSMax
	IOWriteBandwidthMax IOWriteIOPSMax IPAccounting IPAddressAllow
	IPAddressDeny IPCNamespacePath IPEgressFilterPath IPIngressFilterPath KeyringMode
	LoadCredentialEncrypted LogExtraFields LogFilterPatterns LogLevelMax LogNamespace
	LogRateLimitBurst LogRateLimitIntervalSec ManagedOOMMemoryPressure ManagedOOMMemoryPressureLimit
	ManagedOOMPreference ManagedOOMSwap MountAPIVFS MountFlags MountImages
	NetworkNamespacePath NoExecPaths NUMAMask NUMAPolicy PAMName Personality PrivateUsers
	ReloadSignal RemoveIPC RestrictFileSystems
	RestrictNetworkInterfaces RootHash RootHashSignature RootImage
	RootImageOptions RootVerity RuntimeRandomizedExtraSec SecureBits SELinuxContext
	SetCredentialEncrypted SmackProcessLabel SocketBindAllow SocketBindDeny StartupAllowedCPUs
	StartupAllowedMemoryNodes StartupBlockIOWeight StartupCPUShares StartupCPUWeight StartupIOWeight
	SystemCallLog
	TTYColumns TTYRows UtmpMode USBFunctionDescriptors USBFunctionStrings
	AllowedMemoryNodes DefaultMemoryLow DefaultMemoryMin MemoryZSwapMax NetClass StartupMemoryHigh
	FailureActionExitStatus JobTimeoutRebootArgument
	MessageQueueMaxMessages MessageQueueMessageSize
	OnTimezoneChange PassPacketInfo RebootArgument SocketProtocol
	SuccessActionExitStatus Timestamping WakeSystem`)

func set(words string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}
