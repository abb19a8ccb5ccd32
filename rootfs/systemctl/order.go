package systemctl

import (
	"slices"
	"strings"

	"github.com/coracle-os/coracle/rootfs/unit/name"
)

// The order in which systemd 252 shows properties, whatever the order in which
// they are asked for: scripts that use --value count lines. The first ones
// depend on the type of the unit.
var firstShown = map[string]string{
	"service": `Type ExitType Restart PIDFile NotifyAccess RestartUSec RestartSteps RestartMaxDelayUSec TimeoutStartUSec TimeoutStopUSec TimeoutAbortUSec
	TimeoutStartFailureMode TimeoutStopFailureMode RuntimeMaxUSec RuntimeRandomizedExtraUSec WatchdogUSec WatchdogTimestamp WatchdogTimestampMonotonic
	RootDirectoryStartOnly PermissionsStartOnly RemainAfterExit GuessMainPID RestartPreventExitStatus RestartForceExitStatus SuccessExitStatus MainPID
	ControlPID BusName FileDescriptorStoreMax NFileDescriptorStore StatusText StatusErrno Result ReloadResult CleanResult USBFunctionDescriptors
	USBFunctionStrings UID GID NRestarts OOMPolicy ExecMainStartTimestamp ExecMainStartTimestampMonotonic ExecMainExitTimestamp
	ExecMainExitTimestampMonotonic ExecMainPID ExecMainCode ExecMainStatus ExecCondition ExecConditionEx ExecStartPre ExecStartPreEx ExecStart ExecStartEx
	ExecStartPost ExecStartPostEx ExecReload ExecReloadEx ExecStop ExecStopEx ExecStopPost ExecStopPostEx`,
	"socket": `BindIPv6Only Backlog TimeoutUSec BindToDevice SocketUser SocketGroup SocketMode DirectoryMode Accept FlushPending Writable KeepAlive KeepAliveTimeUSec
	KeepAliveIntervalUSec KeepAliveProbes DeferAcceptUSec NoDelay Priority ReceiveBuffer SendBuffer IPTOS IPTTL PipeSize FreeBind Transparent Broadcast
	PassCredentials PassSecurity PassPacketInfo Timestamping RemoveOnStop Listen Symlinks Mark MaxConnections MaxConnectionsPerSource
	MessageQueueMaxMessages MessageQueueMessageSize TCPCongestion ReusePort SmackLabel SmackLabelIPIn SmackLabelIPOut ControlPID Result NConnections
	NAccepted NRefused FileDescriptorName SocketProtocol TriggerLimitIntervalUSec TriggerLimitBurst UID GID`,
	"mount": `Where What Options Type TimeoutUSec ControlPID DirectoryMode SloppyOptions LazyUnmount ForceUnmount ReadWriteOnly Result UID GID`,
	"timer": `Unit TimersMonotonic TimersCalendar OnClockChange OnTimezoneChange NextElapseUSecRealtime NextElapseUSecMonotonic LastTriggerUSec
	LastTriggerUSecMonotonic Result AccuracyUSec RandomizedDelayUSec FixedRandomDelay Persistent WakeSystem RemainAfterElapse`,
	"path":      `Unit Paths MakeDirectory DirectoryMode Result TriggerLimitIntervalUSec TriggerLimitBurst`,
	"automount": `Where ExtraOptions DirectoryMode Result TimeoutIdleUSec`,
}

// thenShown are of all types.
const thenShown = `Slice ControlGroup ControlGroupId MemoryCurrent MemoryAvailable CPUUsageNSec EffectiveCPUs EffectiveMemoryNodes TasksCurrent IPIngressBytes
	IPIngressPackets IPEgressBytes IPEgressPackets IOReadBytes IOReadOperations IOWriteBytes IOWriteOperations Delegate DelegateControllers CPUAccounting
	CPUWeight StartupCPUWeight CPUShares StartupCPUShares CPUQuotaPerSecUSec CPUQuotaPeriodUSec AllowedCPUs StartupAllowedCPUs AllowedMemoryNodes
	StartupAllowedMemoryNodes IOAccounting IOWeight StartupIOWeight BlockIOAccounting BlockIOWeight StartupBlockIOWeight MemoryAccounting DefaultMemoryLow
	DefaultMemoryMin MemoryMin MemoryLow MemoryHigh MemoryMax MemorySwapMax MemoryLimit DevicePolicy TasksAccounting TasksMax IPAccounting IPAddressAllow
	IPAddressDeny IPIngressFilterPath IPEgressFilterPath DisableControllers ManagedOOMSwap ManagedOOMMemoryPressure ManagedOOMMemoryPressureLimit
	ManagedOOMPreference RestrictNetworkInterfaces Environment EnvironmentFiles PassEnvironment UnsetEnvironment UMask LimitCPU LimitCPUSoft LimitFSIZE
	LimitFSIZESoft LimitDATA LimitDATASoft LimitSTACK LimitSTACKSoft LimitCORE LimitCORESoft LimitRSS LimitRSSSoft LimitNOFILE LimitNOFILESoft LimitAS
	LimitASSoft LimitNPROC LimitNPROCSoft LimitMEMLOCK LimitMEMLOCKSoft LimitLOCKS LimitLOCKSSoft LimitSIGPENDING LimitSIGPENDINGSoft LimitMSGQUEUE
	LimitMSGQUEUESoft LimitNICE LimitNICESoft LimitRTPRIO LimitRTPRIOSoft LimitRTTIME LimitRTTIMESoft WorkingDirectory RootDirectory RootImage RootHash
	RootHashPath RootHashSignature RootHashSignaturePath RootVerity ExtensionDirectories ExtensionImages MountImages OOMScoreAdjust CoredumpFilter Nice
	IOSchedulingClass IOSchedulingPriority CPUSchedulingPolicy CPUSchedulingPriority CPUAffinity CPUAffinityFromNUMA NUMAPolicy NUMAMask TimerSlackNSec
	CPUSchedulingResetOnFork NonBlocking StandardInput StandardInputFileDescriptorName StandardInputData StandardOutput StandardOutputFileDescriptorName
	StandardError StandardErrorFileDescriptorName TTYPath TTYReset TTYVHangup TTYVTDisallocate TTYRows TTYColumns SyslogPriority SyslogIdentifier
	SyslogLevelPrefix SyslogLevel SyslogFacility LogLevelMax LogRateLimitIntervalUSec LogRateLimitBurst LogExtraFields LogNamespace SecureBits
	CapabilityBoundingSet AmbientCapabilities User Group DynamicUser RemoveIPC SetCredential SetCredentialEncrypted LoadCredential LoadCredentialEncrypted
	SupplementaryGroups PAMName ReadWritePaths ReadOnlyPaths InaccessiblePaths ExecPaths NoExecPaths ExecSearchPath MountFlags PrivateTmp PrivateDevices
	ProtectClock ProtectKernelTunables ProtectKernelModules ProtectKernelLogs ProtectControlGroups PrivateNetwork PrivateUsers PrivateMounts PrivateIPC
	ProtectHome ProtectSystem SameProcessGroup UtmpIdentifier UtmpMode SELinuxContext AppArmorProfile SmackProcessLabel IgnoreSIGPIPE NoNewPrivileges
	SystemCallFilter SystemCallArchitectures SystemCallErrorNumber SystemCallLog Personality LockPersonality RestrictAddressFamilies
	RuntimeDirectoryPreserve RuntimeDirectoryMode RuntimeDirectory StateDirectoryMode StateDirectory CacheDirectoryMode CacheDirectory LogsDirectoryMode
	LogsDirectory ConfigurationDirectoryMode ConfigurationDirectory TimeoutCleanUSec MemoryDenyWriteExecute RestrictRealtime RestrictSUIDSGID
	RestrictNamespaces RestrictFileSystems BindPaths BindReadOnlyPaths TemporaryFileSystem MountAPIVFS KeyringMode ProtectProc ProcSubset ProtectHostname
	NetworkNamespacePath IPCNamespacePath KillMode KillSignal RestartKillSignal FinalKillSignal SendSIGKILL SendSIGHUP WatchdogSignal Id Names Following
	Requires Requisite Wants BindsTo PartOf Upholds RequiredBy RequisiteOf WantedBy BoundBy UpheldBy ConsistsOf Conflicts ConflictedBy Before After
	OnSuccess OnSuccessOf OnFailure OnFailureOf Triggers TriggeredBy PropagatesReloadTo ReloadPropagatedFrom PropagatesStopTo StopPropagatedFrom
	JoinsNamespaceOf SliceOf RequiresMountsFor Documentation Description AccessSELinuxContext LoadState ActiveState FreezerState SubState FragmentPath
	SourcePath DropInPaths UnitFileState UnitFilePreset StateChangeTimestamp StateChangeTimestampMonotonic InactiveExitTimestamp
	InactiveExitTimestampMonotonic ActiveEnterTimestamp ActiveEnterTimestampMonotonic ActiveExitTimestamp ActiveExitTimestampMonotonic
	InactiveEnterTimestamp InactiveEnterTimestampMonotonic CanStart CanStop CanReload CanIsolate CanClean CanFreeze Job StopWhenUnneeded RefuseManualStart
	RefuseManualStop AllowIsolate DefaultDependencies OnSuccessJobMode OnFailureJobMode IgnoreOnIsolate NeedDaemonReload Markers JobTimeoutUSec
	JobRunningTimeoutUSec JobTimeoutAction JobTimeoutRebootArgument ConditionResult AssertResult ConditionTimestamp ConditionTimestampMonotonic
	AssertTimestamp AssertTimestampMonotonic Conditions Asserts LoadError Transient Perpetual StartLimitIntervalUSec StartLimitBurst StartLimitAction
	FailureAction FailureActionExitStatus SuccessAction SuccessActionExitStatus RebootArgument InvocationID CollectMode Refs ActivationDetails`

// inOrder sorts names of properties of a unit as they are shown; those that
// systemd does not have come last.
func inOrder(unitName string, keys []string) []string {
	order := map[string]int{}
	for i, k := range strings.Fields(firstShown[name.Kind(unitName)] + " " + thenShown) {
		order[k] = i + 1
	}
	keys = slices.Clone(keys)
	slices.SortStableFunc(keys, func(a, b string) int {
		switch x, y := order[a], order[b]; {
		case x == y:
			return strings.Compare(a, b)
		case x == 0:
			return 1
		case y == 0:
			return -1
		default:
			return x - y
		}
	})
	return slices.Compact(keys)
}
