// Package fence decides whether a machine that cannot renew its lease may go on
// running its units: values in, one decision out. It is for the agent, which
// asks and acts.
//
// # The bound
//
// The key-value store ends a lease no earlier than TTL after a renewal that it
// took was sent. All times here are of the machine's boot clock, which a
// changed wall clock does not touch and which runs on while the machine
// sleeps; so a lease cannot have ended before Sent + TTL. A machine that is cut
// off begins to stop its units at Sent + TTL - Budget and kills what is left
// at Sent + TTL - Margin. Nobody starts a unit elsewhere before Sent + TTL.
// Hence a unit does not run twice, as long as
//
//   - the processes of a killed unit are gone within Margin,
//   - this machine's clock and that of the store's leader do not drift apart by
//     more than the rest of Margin in one TTL,
//   - the agent runs: one that hangs is ended and begun again by PID 1's
//     watchdog, and decides again from what it has written down. If it cannot
//     run for longer than Budget, units run twice for as long as that lasts
//     beyond Sent + TTL, and no longer than it takes to stop them after that.
//
// # A store that is lost is not a machine that is cut off
//
// Leases end by the word of a leader that has a quorum, and a new leader gives
// every lease its full TTL again. So when a majority of the members answer, or
// refuse as a live host does, and none of them knows a leader, nobody can take
// the units away. A leader that the others have lost notices after one election
// timeout, and those after another; therefore such answers count only when they
// have been the same for Hold, which must be above two election timeouts (1 s
// each by default). From then on the machine is as safe as if it had renewed
// Hold before the last of these answers.
//
// A member that hangs has not answered: a leader that was frozen together with
// the others may lead on, and has counted the time. A store that hangs as a whole
// for TTL - Budget is therefore as if the machine were cut off.
//
// A leader of the store that alone was frozen for longer than TTL, and goes on
// when another leads already, ends leases that its successor had renewed (etcd
// 3.7). The machine sees its registration vanish and registers again at once,
// and the engine waits for a moment before it moves what a machine had (package
// engine, losses).
//
// What fencing cannot see through: a packet filter that refuses connections in
// the name of live members looks like members that are down.
package fence

import (
	"fmt"
	"time"
)

// Params are the times of one machine's lease.
type Params struct {
	TTL    time.Duration // of the lease
	Budget time.Duration // before its end units are told to stop
	Margin time.Duration // before its end they are killed
	Hold   time.Duration // how long the store must be seen without a leader
}

// For gives the times for a TTL: of 30 s, units are told to stop after 20 s and
// killed after 27 s; a store is lost when it was for 8 s.
func For(ttl time.Duration) Params {
	return Params{TTL: ttl, Budget: ttl / 3, Margin: ttl / 10, Hold: ttl * 4 / 15}
}

// Answer is what one voting member of the store did when it was asked.
type Answer int

// The answers.
const (
	Unreached Answer = iota // nothing came back, or it hangs
	NoLeader                // it knows no leader, or its host refuses
	Leads                   // it knows a leader
)

// Verdict is what the members' answers come to.
type Verdict int

// The verdicts.
const (
	CutOff   Verdict = iota // too few could be reached to say
	NoQuorum                // a majority is there and none works
	Works                   // one knows a leader
)

// Judge counts the answers of all voting members.
func Judge(answers []Answer) Verdict {
	none := 0
	for _, a := range answers {
		switch a {
		case Leads:
			return Works
		case NoLeader:
			none++
		}
	}
	if len(answers) > 0 && none > len(answers)/2 {
		return NoQuorum
	}
	return CutOff
}

// Evidence is what is known about the lease. Times are since the machine's
// boot; the zero value knows of no renewal.
type Evidence struct {
	Sent time.Duration // when the last renewal was sent that the store took

	verdict Verdict
	asked   bool
	begin   time.Duration // of the answers without a leader, the first
	last    time.Duration // and the last
	safe    time.Duration // what lost stores have shown so far
}

// Renewed notes a renewal by the time at which it was sent.
func (e *Evidence) Renewed(sent time.Duration) {
	e.Sent = max(e.Sent, sent)
	e.asked = false
}

// Asked notes a verdict on questions that were sent at the time.
func (e *Evidence) Asked(at time.Duration, v Verdict, p Params) {
	if v == NoQuorum && !(e.asked && e.verdict == NoQuorum && at-e.last <= p.Hold) {
		e.begin = at
	}
	e.asked, e.verdict = true, v
	if v != NoQuorum {
		return
	}
	e.last = at
	if e.last-e.begin >= p.Hold {
		e.safe = max(e.safe, e.last-p.Hold)
	}
}

// Basis is the time up to which the lease is known to have lived.
func (e *Evidence) Basis() time.Duration { return max(e.Sent, e.safe) }

// Action is what the machine has to do about its fenced units.
type Action int

// The actions.
const (
	Keep Action = iota // let them run
	Stop               // tell them to stop
	Kill               // end those that still run
)

// String is the action as a word, for logs.
func (a Action) String() string { return [...]string{"keep", "stop", "kill"}[a] }

// Decision is what to do and until when that holds.
type Decision struct {
	Action Action
	Reason string        // for people
	Next   time.Duration // when the decision changes if nothing is heard until then; 0 is never
}

// Decide tells what to do at a time since boot.
func Decide(e *Evidence, p Params, now time.Duration) Decision {
	stop, kill := e.Basis()+p.TTL-p.Budget, e.Basis()+p.TTL-p.Margin
	why := func() string {
		since := (now - e.Sent).Round(100 * time.Millisecond)
		switch {
		case !e.asked:
			return fmt.Sprintf("the lease was not renewed for %s", since)
		case e.verdict == Works:
			return fmt.Sprintf("the key-value store works but did not renew the lease for %s", since)
		case e.verdict == NoQuorum:
			return fmt.Sprintf("the lease was not renewed for %s, and the key-value store has not been without a leader for long enough", since)
		}
		return fmt.Sprintf("the machine is cut off: the lease was not renewed for %s and fewer than a majority of the key-value store's members can be reached", since)
	}
	switch {
	case now >= kill:
		return Decision{Action: Kill, Reason: why()}
	case now >= stop:
		return Decision{Action: Stop, Reason: why(), Next: kill}
	case e.asked && e.verdict == NoQuorum && e.safe > e.Sent:
		return Decision{Reason: "the key-value store has no leader: nobody can take the units away", Next: stop}
	}
	return Decision{Reason: "the lease lives", Next: stop}
}
