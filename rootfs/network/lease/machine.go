package lease

import (
	"time"
)

// State is where a client is.
type State string

// States, with the names of RFC 2131 where they are the same. SELECTING and
// REQUESTING are inside one Acquire.
const (
	Init      State = "init"
	Bound     State = "bound"
	Renewing  State = "renewing"  // asking the server of the lease
	Rebinding State = "rebinding" // asking every server
)

// Action is what to do next.
type Action string

// Actions.
const (
	Wait    Action = "wait"
	Acquire Action = "acquire" // discover, request
	Renew   Action = "renew"   // request from the server of the lease
	Rebind  Action = "rebind"  // request from anyone
	Confirm Action = "confirm" // ask whether the lease holds on this link
	Expire  Action = "expire"  // take the address away; the machine is in Init then
)

// Machine is a client of one interface. The zero Machine has no lease and asks
// at once.
type Machine struct {
	State State
	Lease Lease // valid unless State is Init

	confirm  bool          // ask whether the lease still holds
	seek     bool          // nobody knew: this may be another network
	failures int           // in a row
	next     time.Duration // not before this time, since boot
}

// Times between two questions.
const (
	firstRetry = time.Second
	lastRetry  = 64 * time.Second
	// leastRenewal is the time between two renewals that RFC 2131 allows.
	leastRenewal = 60 * time.Second
	// refused is the pause after a server took its offer back, so that two
	// servers that disagree are not asked in a busy loop.
	refused = 2 * time.Second
)

// Resume starts with a lease of before, if it has not ended.
func Resume(lease Lease, now time.Duration) Machine {
	if lease.Acquired > now || lease.ExpiresAt() <= now {
		return Machine{State: Init}
	}
	return Machine{State: Bound, Lease: lease}
}

// Next says what to do at the time now. With Wait, at is when to call Next
// again. With the questions it is until when an answer is of use: a renewal
// that takes longer than the lease lasts must not keep an expired address.
func (m *Machine) Next(now time.Duration) (action Action, at time.Duration) {
	if m.State == "" {
		m.State = Init
	}
	if m.State == Init {
		if now < m.next {
			return Wait, m.next
		}
		return Acquire, Forever
	}
	renew, rebind, expire := add(m.Lease.Acquired, m.Lease.Renew), add(m.Lease.Acquired, m.Lease.Rebind), m.Lease.ExpiresAt()
	switch {
	case now >= expire:
		*m = Machine{State: Init}
		return Expire, now
	case now >= rebind:
		return m.ask(Rebinding, Rebind, now, rebind, expire)
	case m.confirm:
		return Confirm, expire
	case m.seek && m.State == Bound && now >= m.next:
		return Acquire, expire
	case m.seek && m.State == Bound:
		return Wait, min(m.next, rebind)
	case now >= renew:
		return m.ask(Renewing, Renew, now, renew, rebind)
	}
	return Wait, renew
}

// ask begins or goes on with a state in which a server is asked from time to
// time until the phase ends.
func (m *Machine) ask(state State, action Action, now, begin, end time.Duration) (Action, time.Duration) {
	if m.State != state {
		m.State, m.failures, m.next = state, 0, begin
	}
	if now < m.next {
		return Wait, min(m.next, end)
	}
	return action, end
}

// Got takes the answer to Acquire, Renew or Rebind.
func (m *Machine) Got(lease Lease) { *m = Machine{State: Bound, Lease: lease} }

// Refused takes a server's no (DHCPNAK) at the time now. The address is lost
// if there was one; lost tells so.
func (m *Machine) Refused(now time.Duration) (lost bool) {
	lost = m.State != Init
	*m = Machine{State: Init, next: now + refused}
	return lost
}

// Failed takes note at the time now that nobody answered. Jitter is from 0 to 1;
// it spreads the questions of many machines that start together.
func (m *Machine) Failed(now time.Duration, jitter float64) {
	if m.confirm {
		m.confirm, m.seek, m.failures = false, true, 0
	}
	m.failures++
	switch m.State {
	case Renewing:
		m.next = now + pause(add(m.Lease.Acquired, m.Lease.Rebind)-now)
	case Rebinding:
		m.next = now + pause(m.Lease.ExpiresAt()-now)
	default:
		delay := lastRetry
		if m.failures < 7 {
			delay = firstRetry << (m.failures - 1)
		}
		m.next = now + time.Duration(float64(delay)*(0.9+0.2*jitter))
	}
}

// Question6 is how long one DHCPv6 question to renew or rebind is waited for:
// REN_TIMEOUT and REB_TIMEOUT of RFC 8415, section 7.6.
const Question6 = 10 * time.Second

// longest6 is the longest time from one such question to the next, REN_MAX_RT
// and REB_MAX_RT.
const longest6 = 600 * time.Second

// Failed6 is Failed for DHCPv6: a renewal is sent again after 10 s, 20 s, 40 s
// and so on, at most 600 s (RFC 8415, section 15). A new lease is asked for as
// with DHCPv4: a machine without an address must not wait for SOL_MAX_RT, an
// hour, when its server returns.
func (m *Machine) Failed6(now time.Duration, jitter float64) {
	m.Failed(now, jitter)
	if m.State != Renewing && m.State != Rebinding {
		return
	}
	interval := longest6
	if m.failures < 7 {
		interval = Question6 << (m.failures - 1)
	}
	m.next = now + time.Duration(float64(interval)*(0.9+0.2*jitter)) - Question6
}

// pause is half of what is left, but at least leastRenewal.
func pause(left time.Duration) time.Duration {
	return max(left/2, min(left, leastRenewal))
}

// Ask takes note at the time now that the owner wants the lease to be renewed.
func (m *Machine) Ask(now time.Duration) {
	m.next = 0
	if m.State == Bound {
		m.Lease.Renew = max(0, now-m.Lease.Acquired)
	}
}

// Failures is how many questions in a row nobody answered.
func (m *Machine) Failures() int { return m.failures }

// LinkUp takes note that the link came back: without a lease there is a new
// chance, and a lease may be of another network. It is asked whether it still
// holds (RFC 2131, section 3.2); without an answer it is kept, because a switch
// that restarts takes link and server away together, and a new one is asked for
// beside it, because servers that do not know it need not answer.
func (m *Machine) LinkUp() {
	if m.State == Init || m.State == "" {
		*m = Machine{State: Init}
		return
	}
	m.confirm = true
}
