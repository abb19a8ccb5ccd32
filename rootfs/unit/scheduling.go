package unit

import "time"

// Scheduling is how the kernel is to treat the processes of a unit;
// systemd.exec(5), "Scheduling". Nil parts are left as they are.
type Scheduling struct {
	Policy      *int // SCHED_* number of Linux
	Priority    int  // of a real-time policy
	ResetOnFork bool
	IOClass     *int   // 1 real-time, 2 best-effort, 3 idle
	IOPriority  *int   // 0 to 7
	CPUs        []int  // that they may run on; nil: all
	TimerSlack  *int64 // nanoseconds
	CoreDump    *int   // bits of what a core dump holds; core(5)
}

// Credential is one LoadCredential= or SetCredential= line.
type Credential struct {
	ID   string
	Path string // absolute, or a name in a credential store; "" for SetCredential=
	Data string // of SetCredential=
}

// TriggerDefault is the trigger limit of path units that set none.
var TriggerDefault = StartLimit{Interval: 2 * time.Second, Burst: 200}
