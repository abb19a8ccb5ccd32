package fence

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	for _, test := range []struct {
		name    string
		answers []Answer
		want    Verdict
	}{
		{"nobody is known", nil, CutOff},
		{"the only one is silent", []Answer{Unreached}, CutOff},
		{"the only one is down", []Answer{NoLeader}, NoQuorum},
		{"one of three is down, two silent", []Answer{NoLeader, Unreached, Unreached}, CutOff},
		{"two of three are down", []Answer{NoLeader, Unreached, NoLeader}, NoQuorum},
		{"two of three are down, one leads", []Answer{NoLeader, Leads, NoLeader}, Works},
		{"half of four", []Answer{NoLeader, NoLeader, Unreached, Unreached}, CutOff},
		{"one follows, the rest is silent", []Answer{Unreached, Unreached, Leads}, Works},
	} {
		if got := Judge(test.answers); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

const s = time.Second

func TestDecide(t *testing.T) {
	p := For(30 * s)
	for _, test := range []struct {
		name string
		tell func(e *Evidence)
		now  time.Duration
		want Action
		why  string
		next time.Duration
	}{
		{"renewed", func(e *Evidence) {}, 119 * s, Keep, "lives", 120 * s},
		{"never heard of", func(e *Evidence) { *e = Evidence{} }, 119 * s, Kill, "not renewed for 1m59s", 0},
		{"silence", func(e *Evidence) {}, 120 * s, Stop, "not renewed for 20s", 127 * s},
		{"silence for long", func(e *Evidence) {}, 127 * s, Kill, "not renewed for 27s", 0},
		{"cut off", func(e *Evidence) { e.Asked(110*s, CutOff, p) }, 121 * s, Stop, "cut off", 127 * s},
		{"works without us", func(e *Evidence) { e.Asked(110*s, Works, p) }, 121 * s, Stop, "works but", 127 * s},
		{"lost, but only just", func(e *Evidence) { e.Asked(115*s, NoQuorum, p); e.Asked(119*s, NoQuorum, p) }, 121 * s, Stop, "not been without a leader", 127 * s},
		{"lost", func(e *Evidence) { every(e, p, 110*s, 200*s, NoQuorum) }, 201 * s, Keep, "nobody can take", 212 * s},
		{"lost with a gap", func(e *Evidence) { every(e, p, 110*s, 114*s, NoQuorum); every(e, p, 123*s, 126*s, NoQuorum) }, 127 * s, Kill, "", 0},
		{"lost, answered in between", func(e *Evidence) {
			every(e, p, 110*s, 114*s, NoQuorum)
			e.Asked(115*s, Works, p)
			every(e, p, 116*s, 121*s, NoQuorum)
		}, 122 * s, Stop, "", 127 * s},
		{"back after being lost", func(e *Evidence) { every(e, p, 110*s, 200*s, NoQuorum); e.Asked(201*s, Works, p) }, 211 * s, Keep, "lives", 212 * s},
		{"back, does not renew", func(e *Evidence) { every(e, p, 110*s, 200*s, NoQuorum); e.Asked(201*s, Works, p) }, 212 * s, Stop, "works but", 219 * s},
		{"cut off after it was lost", func(e *Evidence) { every(e, p, 110*s, 200*s, NoQuorum); e.Asked(201*s, CutOff, p) }, 219 * s, Kill, "cut off", 0},
		{"renewed again", func(e *Evidence) { e.Asked(110*s, CutOff, p); e.Renewed(121 * s); e.Renewed(90 * s) }, 122 * s, Keep, "lives", 141 * s},
	} {
		e := Evidence{Sent: 100 * s}
		test.tell(&e)
		got := Decide(&e, p, test.now)
		if got.Action != test.want || !strings.Contains(got.Reason, test.why) || got.Next != test.next {
			t.Errorf("%s: %+v (%s), want %s, %q, next %s", test.name, got, got.Action, test.want, test.why, test.next)
		}
	}
}

// every notes the same verdict each second.
func every(e *Evidence, p Params, from, to time.Duration, v Verdict) {
	for at := from; at <= to; at += s {
		e.Asked(at, v, p)
	}
}

// TestNeverLate lets stores and networks do at random what they can, by a model
// of leases of its own: a lease ends TTL after its last renewal was taken or
// after a leader was elected, and only while there is a leader. However the
// machine's questions fall, it has killed its units before.
func TestNeverLate(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		p := For(30 * s)
		const election = s
		tick := 250 * time.Millisecond
		e := Evidence{Sent: 0}
		end, leader, reach := p.TTL, true, true
		var lostAt time.Duration // when members stopped hearing of their leader
		for now := tick; now < 300*s; now += tick {
			if r.IntN(60) == 0 {
				reach = !reach
			}
			if r.IntN(40) == 0 {
				if leader {
					lostAt = now
				} else if now-lostAt >= 2*election {
					end = now + p.TTL // a new leader
				} // else the old one never noticed
				leader = !leader
			}
			if leader && reach && r.IntN(4) == 0 && now < end {
				e.Renewed(now)
				end = now + p.TTL
			} else if reach && r.IntN(2) == 0 {
				if leader {
					e.Asked(now, Works, p)
				} else {
					e.Asked(now, NoQuorum, p)
				}
			} else if r.IntN(2) == 0 {
				e.Asked(now, CutOff, p)
			}
			if leader && now >= end {
				if d := Decide(&e, p, now-p.Margin); d.Action != Kill {
					t.Fatalf("seed %d: the lease ended at %s and the machine decides to %s: %s", seed, end, d.Action, d.Reason)
				}
				break
			}
		}
	}
}
