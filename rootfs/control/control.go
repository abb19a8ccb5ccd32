// Package control is the conversation between PID 1 and the programs that ask
// it for something (systemctl, the provisioner): requests and responses as
// JSON, one per line, over the Unix socket at SocketPath.
//
// One connection carries one request and a stream of responses; the last one
// has Done set. Peers are told apart by the kernel (SO_PEERCRED): uid 0 may
// change things, everybody may read. systemd's own protocol is D-Bus, which
// needs a broker; nothing outside Coracle speaks to this socket.
package control

import (
	"context"
	"fmt"
	"time"
)

// SocketPath is where PID 1 listens.
const SocketPath = "/run/systemd/private"

// MaxLine bounds one request or response, in bytes.
const MaxLine = 8 << 20

// Verb is what is asked for.
type Verb string

// The verbs. Those after Watch change something and need uid 0.
const (
	Show            Verb = "show"              // Units; none means the manager itself
	ListUnits       Verb = "list-units"        // Units: patterns; Flags.All
	ListJobs        Verb = "list-jobs"         //
	IsSystemRunning Verb = "is-system-running" //
	Watch           Verb = "watch"             // Units: patterns; goes on until the peer hangs up

	Start            Verb = "start" // Units; Flags.NoBlock, Mode
	Stop             Verb = "stop"
	Restart          Verb = "restart"
	TryRestart       Verb = "try-restart"
	Reload           Verb = "reload"
	ReloadOrRestart  Verb = "reload-or-restart"
	TryReloadRestart Verb = "try-reload-or-restart"
	Isolate          Verb = "isolate"
	Kill             Verb = "kill"         // Units; Flags.Signal, KillWhom
	ResetFailed      Verb = "reset-failed" // Units; none means all
	Cancel           Verb = "cancel"       // Jobs by number in Units; none means all
	DaemonReload     Verb = "daemon-reload"
	DaemonReexec     Verb = "daemon-reexec"     // ends when the new copy of PID 1 answers
	WaitJobs         Verb = "wait-jobs"         // Jobs by number in Units; what Start and its like go on with after Again
	SetEnvironment   Verb = "set-environment"   // Units: NAME=value
	UnsetEnvironment Verb = "unset-environment" // Units: NAME, or NAME=value for that value only
	PowerOff         Verb = "poweroff"          // Flags.Force: 1 kills at once, 2 does not even sync
	Reboot           Verb = "reboot"
	Halt             Verb = "halt"
)

// ReadOnly tells if every user may ask for the verb.
func (v Verb) ReadOnly() bool {
	return v == Show || v == ListUnits || v == ListJobs || v == IsSystemRunning || v == Watch
}

// Request is one request. Unit names are complete, with their type.
type Request struct {
	Verb  Verb     `json:"verb"`
	Units []string `json:"units,omitempty"`
	Flags Flags    `json:"flags,omitzero"`
}

// Flags change what a verb does.
type Flags struct {
	NoBlock  bool   `json:"noBlock,omitempty"`  // answer when the jobs are queued
	All      bool   `json:"all,omitempty"`      // list-units: inactive ones too
	Mode     string `json:"mode,omitempty"`     // transaction.Mode; "" is "replace"
	Signal   string `json:"signal,omitempty"`   // "SIGTERM", "TERM" or "15"; "" is SIGTERM
	KillWhom string `json:"killWhom,omitempty"` // "main", "control" or "all"; "" is "all"
	Force    int    `json:"force,omitempty"`
}

// Response is one of the answers to a request. Warnings may come in any of
// them; which of the others do depends on the verb.
type Response struct {
	Units    []Unit   `json:"units,omitempty"`   // show, list-units; may be spread over responses
	Jobs     []Job    `json:"jobs,omitempty"`    // list-jobs; before an Again those that have yet to end
	Results  []Result `json:"results,omitempty"` // one for each unit of the request, as they come
	Synced   bool     `json:"synced,omitempty"`  // watch: all units have been told once; from here on changes
	State    string   `json:"state,omitempty"`   // is-system-running: "running", "degraded", "starting", ...
	Warnings []string `json:"warnings,omitempty"`
	Error    *Error   `json:"error,omitempty"` // the request as a whole failed
	Done     bool     `json:"done,omitempty"`
}

// Unit is what is told about a unit. Properties has every property that
// "systemctl show" prints, in its format; list-units leaves it out, and watch
// the description and the job too. To watch, a unit that PID 1 does not hold
// in memory (any more) has an empty Load.
type Unit struct {
	Name   string `json:"name"`
	Load   string `json:"load"`   // unit.LoadState
	Active string `json:"active"` // transaction.State
	Sub    string `json:"sub"`    // "running", "exited", "dead", "listening", ...
	// Since is when the unit came to be Active, by the machine's clock; the
	// zero time is since it was loaded. Only watch tells it.
	Since       time.Time         `json:"since,omitzero"`
	Description string            `json:"description,omitempty"`
	Job         *Job              `json:"job,omitempty"`
	Properties  map[string]string `json:"properties,omitempty"`
}

// Job is a queued job.
type Job struct {
	ID    int    `json:"id"`
	Unit  string `json:"unit"`
	Type  string `json:"type"`  // transaction.Type
	State string `json:"state"` // "waiting" or "running"
}

// Result tells how the job for one unit of a request ended.
type Result struct {
	Unit string `json:"unit"` // as in the request
	// Job is "done", "canceled", "timeout", "failed", "dependency", "skipped",
	// "invalid", "assert", "unsupported" or "collected"; "queued" with NoBlock;
	// "" with an Error.
	Job string `json:"job,omitempty"`
	// Detail is the service's Result property if the job failed
	// ("exit-code", "timeout", "start-limit-hit", ...).
	Detail string `json:"detail,omitempty"`
	Error  *Error `json:"error,omitempty"` // no job was made
}

// Code is the machine-readable part of an Error.
type Code string

// The codes.
const (
	NotFound      Code = "not-found"     // no such unit
	NotLoaded     Code = "not-loaded"    // stop and kill of a unit that nobody knows
	Masked        Code = "masked"        // the unit is masked
	BadSetting    Code = "bad-setting"   // the unit's file is refused
	LoadError     Code = "load-error"    // the unit's file cannot be read
	Refused       Code = "refused"       // RefuseManualStart= and the like
	NotApplicable Code = "inapplicable"  // the unit cannot do that (reload without ExecReload)
	NotActive     Code = "not-active"    // reload of an inactive unit
	Conflict      Code = "conflict"      // the transaction contradicts itself or queued jobs
	Cycle         Code = "cycle"         // the transaction's order is cyclic
	Denied        Code = "denied"        // the peer is not root
	BadRequest    Code = "bad-request"   // it cannot be understood
	ShuttingDown  Code = "shutting-down" // the machine goes down
	Busy          Code = "busy"          // too many watch already
	Again         Code = "again"         // PID 1 is executed anew; ask the new copy
	Internal      Code = "internal"      // a fault of PID 1, contained
)

// Error is an error that crosses the socket.
type Error struct {
	Code Code   `json:"code"`
	Text string `json:"text"` // as systemctl prints it: "Unit a.service not found."
}

func (e *Error) Error() string { return e.Text }

// Errorf makes an Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

// Peer is who asks.
type Peer struct {
	PID, UID, GID int
}

// Handler answers requests; the Server calls it from one goroutine for each
// connection. ctx ends when the peer hangs up. An error is sent as the last
// response; without one, an empty response with Done is.
type Handler interface {
	Handle(ctx context.Context, peer Peer, req Request, send func(Response) error) error
}
