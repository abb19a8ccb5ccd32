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
	if execOf(p.u) != nil && sandboxSettings[key] != nil {
		return sandboxSettings[key]
	}
	if p.u.Slice != "" || p.u.Kind == unit.KindSlice {
		return cgroupSettings[key]
	}
	return nil
}

// unsupported are settings of systemd 252 that change nothing here.
var unsupported = set(`AppArmorProfile BlockIOAccounting BlockIODeviceWeight BlockIOReadBandwidth BlockIOWriteBandwidth BPFProgram
	BusName CoredumpFilter CPUAffinity CPUQuotaPeriodSec CPUSchedulingPolicy CPUSchedulingPriority
	CPUSchedulingResetOnFork DeviceAllow DevicePolicy DisableControllers ExecPaths ExecSearchPath ExitType
	ExtensionDirectories ExtensionImages IODeviceLatencyTargetSec IODeviceWeight IOReadBandwidthMax IOReadIOPSMax
	IOSchedulingClass IOSchedulingPriority IOWriteBandwidthMax IOWriteIOPSMax IPAccounting IPAddressAllow
	IPAddressDeny IPCNamespacePath IPEgressFilterPath IPIngressFilterPath KeyringMode LoadCredential
	LoadCredentialEncrypted LockPersonality LogExtraFields LogFilterPatterns LogLevelMax LogNamespace
	LogRateLimitBurst LogRateLimitIntervalSec ManagedOOMMemoryPressure ManagedOOMMemoryPressureLimit
	ManagedOOMPreference ManagedOOMSwap MemoryDenyWriteExecute MountAPIVFS MountFlags MountImages
	NetworkNamespacePath NoExecPaths NUMAMask NUMAPolicy PAMName Personality PrivateIPC PrivateUsers ProcSubset
	ProtectProc ReloadSignal RemoveIPC RestrictAddressFamilies RestrictFileSystems RestrictNamespaces
	RestrictNetworkInterfaces RestrictRealtime RestrictSUIDSGID RootHash RootHashSignature RootImage
	RootImageOptions RootVerity RuntimeRandomizedExtraSec SecureBits SELinuxContext SetCredential
	SetCredentialEncrypted SmackProcessLabel SocketBindAllow SocketBindDeny StartupAllowedCPUs
	StartupAllowedMemoryNodes StartupBlockIOWeight StartupCPUShares StartupCPUWeight StartupIOWeight
	SystemCallArchitectures SystemCallErrorNumber SystemCallFilter SystemCallLog TimeoutStartFailureMode
	TimeoutStopFailureMode TimerSlackNSec TTYColumns TTYRows UtmpMode USBFunctionDescriptors USBFunctionStrings
	AllowedMemoryNodes DefaultMemoryLow DefaultMemoryMin MemoryZSwapMax NetClass StartupMemoryHigh
	CollectMode DeferAcceptSec FailureActionExitStatus IPTOS IPTTL JobTimeoutAction JobTimeoutRebootArgument
	KeepAliveIntervalSec KeepAliveProbes KeepAliveTimeSec Mark MessageQueueMaxMessages MessageQueueMessageSize
	OnSuccessJobMode OnTimezoneChange PassPacketInfo Priority RebootArgument SocketProtocol
	SuccessActionExitStatus TCPCongestion Timestamping WakeSystem`)

func set(words string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}
