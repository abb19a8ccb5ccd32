package unit

import (
	"syscall"
	"time"
)

// ServiceType says when a service's start is done.
type ServiceType string

// The service types.
const (
	Simple  ServiceType = "simple"
	Exec    ServiceType = "exec"
	Oneshot ServiceType = "oneshot"
	Notify  ServiceType = "notify"
	Forking ServiceType = "forking"
	Idle    ServiceType = "idle"
)

// Restart says after which ends a service is started again.
type Restart string

// The values of Restart=.
const (
	RestartNo         Restart = "no"
	RestartOnSuccess  Restart = "on-success"
	RestartOnFailure  Restart = "on-failure"
	RestartOnAbnormal Restart = "on-abnormal"
	RestartOnAbort    Restart = "on-abort"
	RestartOnWatchdog Restart = "on-watchdog"
	RestartAlways     Restart = "always"
)

// NotifyAccess says whose notifications count.
type NotifyAccess string

// The values of NotifyAccess=.
const (
	NotifyNone NotifyAccess = "none"
	NotifyMain NotifyAccess = "main"
	NotifyExec NotifyAccess = "exec"
	NotifyAll  NotifyAccess = "all"
)

// Service is the [Service] section. All durations may be timespan.Infinity,
// which means no limit; 0 is never "no limit" for the three timeouts.
type Service struct {
	Type            ServiceType
	ExitOfGroup     bool // it has ended when its last process has, not the main one (ExitType=cgroup)
	RemainAfterExit bool
	GuessMainPID    bool
	PIDFile         string // absolute
	NotifyAccess    NotifyAccess

	ExecCondition []Command
	ExecStartPre  []Command
	ExecStart     []Command
	ExecStartPost []Command
	ExecReload    []Command
	ExecStop      []Command
	ExecStopPost  []Command

	Restart                  Restart
	RestartSec               time.Duration // 100 ms unless set
	RestartSteps             int           // restarts until the pause is RestartMaxDelay; 0: it does not grow
	RestartMaxDelay          time.Duration // timespan.Infinity unless set
	TimeoutStart             time.Duration
	TimeoutStop              time.Duration
	TimeoutAbort             time.Duration // as TimeoutStop unless set
	TimeoutStartFailure      string        // "terminate", "abort" or "kill"
	TimeoutStopFailure       string        // the same
	RuntimeMax               time.Duration
	Watchdog                 time.Duration // 0: off
	SuccessExitStatus        ExitStatuses  // beyond 0, HUP, INT, TERM, PIPE
	RestartPreventExitStatus ExitStatuses
	RestartForceExitStatus   ExitStatuses
	RootDirectoryStartOnly   bool
	PermissionsStartOnly     bool
	NonBlocking              bool
	FileDescriptorStoreMax   int
	OOMPolicy                string // "stop", "continue", "kill"
	Sockets                  []string

	ExecContext
	Kill
}

// Default time limits, as DefaultTimeoutStartSec= and its relatives.
const (
	DefaultTimeout    = 90 * time.Second
	DefaultRestartSec = 100 * time.Millisecond
)

// ExitStatuses is a set of exit codes and signals.
type ExitStatuses struct {
	Codes   []int
	Signals []syscall.Signal
}

// ExecContext is what is set up around every command of a unit.
type ExecContext struct {
	Environment         []string // NAME=value, later ones win
	EnvironmentFiles    []EnvironmentFile
	PassEnvironment     []string
	UnsetEnvironment    []string
	User                string // name or number; "" means root
	Group               string
	SupplementaryGroups []string
	DynamicUser         bool // a user that is there only while the unit runs

	WorkingDirectory         string // absolute, "~" for the user's home, or "" for /
	WorkingDirectoryOptional bool   // leading "-": a missing one is no error
	RootDirectory            string
	UMask                    int // 0022 unless set
	Limits                   []Limit
	Nice                     *int
	OOMScoreAdjust           *int
	NoNewPrivileges          bool
	Scheduling               *Scheduling // nil: as PID 1
	SearchPath               []string    // where programs are looked for; nil: SearchPath of this package
	Credentials              []Credential
	Sandbox                  Sandbox

	RuntimeDirectory         []string // relative to /run; of this and the next three, NAME:LINK makes a link, too
	RuntimeDirectoryMode     int
	RuntimeDirectoryPreserve string   // "no", "yes", "restart"
	StateDirectory           []string // relative to /var/lib
	StateDirectoryMode       int
	CacheDirectory           []string // relative to /var/cache
	CacheDirectoryMode       int
	LogsDirectory            []string // relative to /var/log
	LogsDirectoryMode        int
	ConfigurationDirectory   []string // relative to /etc
	ConfigurationMode        int

	StandardInput    Stream
	StandardOutput   Stream
	StandardError    Stream
	TTYPath          string // "" means /dev/console
	TTYReset         bool
	TTYVHangup       bool
	TTYVTDisallocate bool

	SyslogIdentifier  string // "" means the command's name
	SyslogLevel       int    // 0 to 7; 6 (info) unless set
	SyslogFacility    int    // 3 (daemon) unless set
	SyslogLevelPrefix bool   // true unless set
	UtmpIdentifier    string
	IgnoreSIGPIPE     bool // true unless set
}

// EnvironmentFile is one EnvironmentFile= line; the path may hold a glob.
type EnvironmentFile struct {
	Path     string
	Optional bool // leading "-"
}

// StreamKind says where a standard stream goes or comes from.
type StreamKind string

// The stream kinds. StreamInherit of standard input is /dev/null, of standard
// output the input's, of standard error the output's.
const (
	StreamInherit        StreamKind = "inherit"
	StreamNull           StreamKind = "null"
	StreamTTY            StreamKind = "tty"
	StreamTTYForce       StreamKind = "tty-force"
	StreamTTYFail        StreamKind = "tty-fail"
	StreamJournal        StreamKind = "journal"
	StreamJournalConsole StreamKind = "journal+console"
	StreamKmsg           StreamKind = "kmsg"
	StreamKmsgConsole    StreamKind = "kmsg+console"
	StreamSocket         StreamKind = "socket"
	StreamFD             StreamKind = "fd"
	StreamFile           StreamKind = "file"     // written from the start, not truncated
	StreamAppend         StreamKind = "append"   // output only
	StreamTruncate       StreamKind = "truncate" // output only
	StreamData           StreamKind = "data"     // input only
)

// Stream is a value of StandardInput=, StandardOutput= or StandardError=.
type Stream struct {
	Kind StreamKind
	Path string // for file, append, truncate
	Name string // for fd: the descriptor's name
	Data []byte // for data: StandardInputText= and StandardInputData=
}

// LimitInfinity is the value of a limit that is not one (RLIM_INFINITY).
const LimitInfinity = ^uint64(0)

// Limit is one Limit...= setting.
type Limit struct {
	Name       string // "NOFILE", ...
	Resource   int    // RLIMIT_* number of Linux on x86-64
	Soft, Hard uint64 // LimitInfinity for infinity
}

// KillMode says which processes are signalled at a stop.
type KillMode string

// The values of KillMode=.
const (
	KillControlGroup KillMode = "control-group"
	KillMixed        KillMode = "mixed"
	KillProcess      KillMode = "process"
	KillNone         KillMode = "none"
)

// Kill is the part of a unit that says how it is stopped; systemd.kill(5).
type Kill struct {
	KillMode          KillMode
	KillSignal        syscall.Signal // SIGTERM unless set
	RestartKillSignal syscall.Signal // as KillSignal unless set
	FinalKillSignal   syscall.Signal // SIGKILL unless set
	WatchdogSignal    syscall.Signal // SIGABRT unless set
	SendSIGKILL       bool
	SendSIGHUP        bool
}

// Value is a number of a cgroup setting. Set is false if the unit does not
// say; Infinity is written "max".
type Value struct {
	Set       bool
	Infinity  bool
	N         uint64
	Permyriad bool // N is in 1/10000 of all of it (memory, tasks)
}

// Cgroup holds resource control settings in cgroup v2 terms: the loader has
// turned the old CPUShares=, MemoryLimit= and BlockIOWeight= into these.
type Cgroup struct {
	CPUWeight     Value // cpu.weight, 1 to 10000
	CPUQuota      Value // microseconds per 100 ms for cpu.max
	MemoryMax     Value // bytes
	MemoryHigh    Value
	MemoryLow     Value
	MemoryMin     Value
	MemorySwapMax Value
	TasksMax      Value // pids.max
	IOWeight      Value // io.weight, 1 to 10000
	AllowedCPUs   string

	// The old settings as written, for "systemctl show" only.
	CPUShares, MemoryLimit, BlockIOWeight Value

	Delegate bool
}
