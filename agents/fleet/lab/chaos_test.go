package lab

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// chaos is a lab under attack.
type chaos struct {
	*lab
	random *rand.Rand
	units  int
}

const globalUnit = "everywhere.service"

func isGlobal(unit string) bool { return unit == globalUnit }

// fault is something that goes wrong for a while.
type fault struct {
	name  string
	moves bool // units may be started again, here or elsewhere
	run   func(c *chaos)
}

func (c *chaos) wait(d time.Duration) { time.Sleep(d) }

func (c *chaos) anyMachine() *machine { return c.machines[c.random.IntN(len(c.machines))] }

// leader is the member that leads the store.
func (c *chaos) leader() *member {
	var found *member
	c.eventually(20*time.Second, func() string {
		for _, m := range c.members {
			r, err := c.client.Status(c.t.Context(), "http://"+m.address+":2379")
			if err == nil && r.Leader == r.Header.MemberId {
				found = m
				return ""
			}
		}
		return "the store has no leader"
	})
	return found
}

func faults() []fault {
	each := func(c *chaos, f func(*member)) {
		for _, m := range c.members {
			f(m)
		}
	}
	return []fault{
		{"kill fleetd", false, func(c *chaos) {
			c.anyMachine().signal("SIGKILL")
			c.wait(time.Second)
		}},
		{"freeze fleetd until the watchdog ends it", false, func(c *chaos) {
			c.anyMachine().signal("SIGSTOP")
			c.wait(3 * time.Second)
		}},
		{"kill the store's leader", false, func(c *chaos) {
			m := c.leader()
			m.kill()
			c.wait(ttl)
			m.start()
		}},
		{"cut a machine off for longer than its lease", true, func(c *chaos) {
			m := c.anyMachine()
			c.cable(m.name, "down")
			c.wait(ttl + 3*time.Second)
			c.cable(m.name, "up")
		}},
		{"the whole store is away for longer than the leases", false, func(c *chaos) {
			each(c, (*member).kill)
			c.wait(ttl + 3*time.Second)
			each(c, (*member).start)
		}},
		{"cut power and start again at once", true, func(c *chaos) {
			m := c.anyMachine()
			m.cutPower()
			m.powerOn()
		}},
		{"freeze the store's leader", false, func(c *chaos) {
			m := c.leader()
			m.signal(unix.SIGSTOP)
			// It ends the leases of all when it goes on; the engine waits.
			c.wait(ttl + time.Second)
			m.signal(unix.SIGCONT)
		}},
		{"cut a machine off for a moment", false, func(c *chaos) {
			m := c.anyMachine()
			c.cable(m.name, "down")
			c.wait(time.Second)
			c.cable(m.name, "up")
		}},
		{"cut power for longer than the lease", true, func(c *chaos) {
			m := c.anyMachine()
			m.cutPower()
			c.wait(ttl + 2*time.Second)
			m.powerOn()
		}},
		{"freeze the whole store for longer than the leases", true, func(c *chaos) {
			each(c, func(m *member) { m.signal(unix.SIGSTOP) })
			c.wait(ttl + 3*time.Second)
			each(c, func(m *member) { m.signal(unix.SIGCONT) })
		}},
		{"cut the store's leader off", false, func(c *chaos) {
			m := c.leader()
			c.cable(m.name, "down")
			c.wait(ttl)
			c.cable(m.name, "up")
		}},
	}
}

// missing tells which unit does not run as it should at this moment.
func (c *chaos) missing() string {
	count := map[string]int{}
	for _, i := range c.running() {
		count[i.unit]++
	}
	for n := range c.units {
		unit := fmt.Sprintf("u%d.service", n)
		if count[unit] != 1 {
			return fmt.Sprintf("%s runs %d times", unit, count[unit])
		}
	}
	if n := count[globalUnit]; n != len(c.machines) {
		return fmt.Sprintf("the global unit runs on %d machines", n)
	}
	return ""
}

// settled waits until all is as it should be.
func (c *chaos) settled() {
	c.t.Helper()
	c.wait(2 * stale) // what ran until now must not count
	c.eventually(time.Minute, func() string {
		for _, m := range c.machines {
			if problem := m.absent(); problem != "" {
				return problem
			}
		}
		return c.missing()
	})
}

// round lets one fault happen and checks what the units say.
func (c *chaos) round(n int, f fault) {
	c.t.Helper()
	before := c.running()
	begin := time.Now()
	f.run(c)
	c.settled()
	c.t.Logf("round %d: %s (%s)", n, f.name, time.Since(begin).Round(100*time.Millisecond))
	after := map[string]bool{}
	for _, i := range c.running() {
		after[i.machine+i.unit+i.id] = true
	}
	for _, i := range before {
		if !f.moves && !after[i.machine+i.unit+i.id] {
			c.t.Errorf("round %d, %s: %v was stopped\n%s", n, f.name, i, c.said(i.machine))
		}
	}
}

// said is the end of what the fleetd of a machine has logged.
func (l *lab) said(machine string) []byte {
	for _, m := range l.machines {
		if b, err := os.ReadFile(filepath.Join(m.dir, "fleetd.log")); err == nil && m.name == machine {
			return b[max(0, len(b)-3000):]
		}
	}
	return nil
}

// rounds is how many the unit tests of every change can afford: each fault
// once, about two minutes in all.
const rounds = 11

// TestChaos lets the parts of a cluster fail one after another. Every unit that
// can run does; none ever runs twice; and none is stopped but where its machine
// was cut off or lost its power.
func TestChaos(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := &chaos{lab: newLab(t, 3, 3), random: rand.New(rand.NewPCG(seed, 1)), units: 6}
	for n := range c.units {
		c.submit(fmt.Sprintf("u%d.service", n), "")
	}
	c.submit(globalUnit, "[X-Fleet]\nGlobal=true\n")
	c.settled()
	all := faults()
	for n := range rounds {
		if n%len(all) == 0 {
			c.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		}
		c.round(n, all[n%len(all)])
	}
	longest, what := twice(c.instances(), isGlobal)
	if longest > 0 {
		t.Errorf("a unit ran twice for %s: %s", longest, what)
	}
}
