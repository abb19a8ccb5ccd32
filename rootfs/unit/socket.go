package unit

import "time"

// ListenKind is the kind of something that a socket unit listens on; its text
// is the setting's name without "Listen".
type ListenKind string

// The kinds of listener.
const (
	ListenStream           ListenKind = "Stream"
	ListenDatagram         ListenKind = "Datagram"
	ListenSequentialPacket ListenKind = "SequentialPacket"
	ListenFIFO             ListenKind = "FIFO"
	ListenSpecial          ListenKind = "Special"
	ListenNetlink          ListenKind = "Netlink"
)

// Listen is one Listen...= line.
type Listen struct {
	Kind ListenKind
	// Network is "unix" (Address a path, or "@name" for the abstract name
	// space), "ip4" or "ip6" (Address "host:port"), "ip" (Address ":port",
	// bound on [::] and so on IPv4 too), or "" for FIFO, Special and Netlink.
	Network string
	Address string
}

// Socket is the [Socket] section. File descriptors are passed in the order of
// Listen.
type Socket struct {
	Listen             []Listen
	SocketMode         int // 0666 unless set
	SocketUser         string
	SocketGroup        string
	DirectoryMode      int // 0755 unless set
	Accept             bool
	FileDescriptorName string // the unit's name unless set ("connection" with Accept)
	Service            string // the service that is started; a template's name with Accept
	Symlinks           []string
	RemoveOnStop       bool
	MaxConnections     int // 64 unless set
	MaxConnectionsPer  int
	Backlog            int
	KeepAlive          bool
	NoDelay            bool
	FreeBind           bool
	ReusePort          bool
	Transparent        bool
	Broadcast          bool
	PassCredentials    bool
	PassSecurity       bool
	BindIPv6Only       string // "default", "both", "ipv6-only"
	BindToDevice       string
	ReceiveBuffer      uint64 // bytes; 0: the kernel's
	SendBuffer         uint64
	PipeSize           uint64
	Writable           bool
	FlushPending       bool
	IPTOS, IPTTL       int // 0: the kernel's, as all of these
	Priority, Mark     int
	DeferAccept        time.Duration
	KeepAliveTime      time.Duration
	KeepAliveInterval  time.Duration
	KeepAliveProbes    int
	TCPCongestion      string
	TriggerLimit       StartLimit // 2 s and 20, or 200 with Accept
	Timeout            time.Duration

	ExecStartPre, ExecStartPost, ExecStopPre, ExecStopPost []Command

	ExecContext
	Kill
}

// Mount is the [Mount] section.
type Mount struct {
	What, Where, FSType, Options string
	SloppyOptions, LazyUnmount   bool
	ReadWriteOnly, ForceUnmount  bool
	DirectoryMode                int
	Timeout                      time.Duration
	ExecContext
	Kill
}

// Automount is the [Automount] section.
type Automount struct {
	Where         string
	DirectoryMode int
	TimeoutIdle   time.Duration // 0: never
}

// Timer is the [Timer] section.
type Timer struct {
	OnActive, OnBoot, OnStartup, OnUnitActive, OnUnitInactive []time.Duration

	OnCalendar       []string // expressions that package calendar can read
	OnClockChange    bool
	AccuracySec      time.Duration
	RandomizedDelay  time.Duration
	FixedRandomDelay bool
	Persistent       bool // only with OnCalendar
	RemainAfterEnd   bool
	Unit             string
}

// Path is the [Path] section.
type Path struct {
	Watch         []PathWatch
	MakeDirectory bool
	DirectoryMode int
	Unit          string
	TriggerLimit  StartLimit // TriggerDefault unless set
}

// PathWatch is one PathExists=, PathExistsGlob=, PathChanged=, PathModified=
// or DirectoryNotEmpty= line; Kind is the setting's name.
type PathWatch struct {
	Kind, Path string
}
