package kv

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"
)

// register is one key: what is asked for and what came of it.
type request struct {
	key   string
	write bool
	value string
}

// registers is a store of single values, as a linearizable one must behave.
func registers() porcupine.Model {
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			byKey := map[string][]porcupine.Operation{}
			for _, o := range history {
				byKey[o.Input.(request).key] = append(byKey[o.Input.(request).key], o)
			}
			var parts [][]porcupine.Operation
			for _, p := range byKey {
				parts = append(parts, p)
			}
			return parts
		},
		Init: func() any { return "" },
		Step: func(state, input, output any) (bool, any) {
			r := input.(request)
			if r.write {
				return true, r.value
			}
			return output.(string) == state.(string), state
		},
	}
}

// chaos is a cluster under attack and the people who use it meanwhile.
type chaos struct {
	t        *testing.T
	lab      *network
	random   *rand.Rand
	machines []*machineUnderTest
	running  []process
	clients  []*clientv3.Client
	env      string
	begin    time.Time

	mu      sync.Mutex
	history []porcupine.Operation
	failed  int // operations without an answer
}

func newChaos(t *testing.T, members int, seed uint64) *chaos {
	t.Helper()
	c := &chaos{t: t, lab: newLab(t), random: rand.New(rand.NewPCG(seed, uint64(members))), begin: time.Now()}
	cluster := ""
	for n := 1; n <= members; n++ {
		m := c.lab.machine(n)
		c.machines = append(c.machines, m)
		cluster += fmt.Sprintf(",m%d=%s", n, m.peer())
		// A disk of its own, that can be full.
		if err := os.MkdirAll(m.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", m.dir, "tmpfs", 0, "size=300m"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(m.dir, unix.MNT_DETACH) })
	}
	c.env = "ETCD_INITIAL_CLUSTER=" + cluster[1:]
	c.running = make([]process, members)
	for i, m := range c.machines {
		c.start(i)
		c.clients = append(c.clients, m.client(m.endpoint()))
	}
	return c
}

func (c *chaos) start(i int) {
	c.running[i] = c.machines[i].etcd(c.env, fmt.Sprintf("ETCD_NAME=m%d", i+1), "ETCD_LOG_LEVEL=error",
		"ETCD_HEARTBEAT_INTERVAL=50", "ETCD_ELECTION_TIMEOUT=500")
}

// fault is something that happens to one member, and its end.
type fault struct {
	name        string
	begin, heal func(c *chaos, i int)
}

func faults() []fault {
	filler := func(c *chaos, i int) string { return filepath.Join(c.machines[i].dir, "filler") }
	restart := func(c *chaos, i int) {
		c.running[i].kill()
		c.start(i)
	}
	return []fault{
		{"kill", func(c *chaos, i int) { c.running[i].kill() }, restart},
		{"pause", func(c *chaos, i int) { c.running[i].Cmd.Process.Signal(unix.SIGSTOP) },
			func(c *chaos, i int) { c.running[i].Cmd.Process.Signal(unix.SIGCONT) }},
		{"cut off", func(c *chaos, i int) { c.machines[i].Plug(false) }, func(c *chaos, i int) { c.machines[i].Plug(true) }},
		{"full disk", func(c *chaos, i int) {
			exec.Command("dd", "if=/dev/zero", "of="+filler(c, i), "bs=1M").Run() // until it is full
		}, func(c *chaos, i int) {
			os.Remove(filler(c, i))
			restart(c, i)
		}},
	}
}

// use reads and writes two keys of this round through one member until stop.
func (c *chaos) use(client, member, round int, random *rand.Rand, stop <-chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(random.IntN(20)) * time.Millisecond):
		}
		r := request{key: fmt.Sprintf("%d/%d", round, random.IntN(2)), write: random.IntN(2) == 0, value: fmt.Sprintf("%d.%d.%d", round, client, n)}
		c.do(client, member, r)
	}
}

func (c *chaos) do(client, member int, r request) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Second)
	defer cancel()
	o := porcupine.Operation{ClientId: client, Input: r, Call: time.Since(c.begin).Nanoseconds()}
	var err error
	if r.write {
		_, err = c.clients[member].Put(ctx, r.key, r.value)
		o.Output = ""
	} else {
		var resp *clientv3.GetResponse
		if resp, err = c.clients[member].Get(ctx, r.key); err == nil {
			o.Output = ""
			if len(resp.Kvs) == 1 {
				o.Output = string(resp.Kvs[0].Value)
			}
		}
	}
	o.Return = time.Since(c.begin).Nanoseconds()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.failed++
		if !r.write {
			return // it has seen nothing
		}
		o.Return = 1 << 62 // it may come into effect at any time, or never
	}
	c.history = append(c.history, o)
}

// round lets one fault happen while people work.
func (c *chaos) round(n int) {
	c.t.Helper()
	all := faults()
	f := all[c.random.IntN(len(all))]
	victims := c.random.Perm(len(c.machines))[:1+c.random.IntN((len(c.machines)-1)/2)]
	if f.name == "kill" && c.random.IntN(5) == 0 { // the whole cluster loses power
		victims = c.random.Perm(len(c.machines))
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		member, random := c.random.IntN(len(c.machines)), rand.New(rand.NewPCG(uint64(n), uint64(i)))
		wg.Go(func() { c.use(i, member, n, random, stop) })
	}
	pause := func() { time.Sleep(time.Duration(100+c.random.IntN(500)) * time.Millisecond) }
	pause()
	for _, v := range victims {
		f.begin(c, v)
	}
	pause()
	for _, v := range victims {
		f.heal(c, v)
	}
	for i := range c.machines { // everybody serves again before the next
		eventually(c.t, 30*time.Second, func() string {
			select {
			case <-c.running[i].Done: // as etcd.service would
				c.start(i)
			default:
			}
			ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Second)
			defer cancel()
			if _, err := c.clients[i].Get(ctx, "any"); err != nil {
				return fmt.Sprintf("round %d, %s of %v: member %d does not serve: %v", n, f.name, victims, i+1, err)
			}
			return ""
		})
	}
	close(stop)
	wg.Wait()
}

// TestChaos lets members crash, hang, be cut off and fill their disks while
// people read and write: the store stays linearizable, no acknowledged write is
// lost, and all members have the same content in the end.
func TestChaos(t *testing.T) {
	for _, size := range []struct{ members, rounds int }{{3, 50}, {5, 15}} {
		t.Run(fmt.Sprint(size.members), func(t *testing.T) {
			t.Parallel()
			seed := uint64(time.Now().UnixNano())
			c := newChaos(t, size.members, seed)
			for n := range size.rounds {
				c.round(n)
			}
			t.Logf("seed %d: %d operations, %d without an answer", seed, len(c.history), c.failed)
			if result := porcupine.CheckOperationsTimeout(registers(), c.history, time.Minute); result != porcupine.Ok {
				t.Errorf("linearizable: %s", result)
			}
			c.agree()
		})
	}
}

// agree waits until all members have applied the same, and compares it.
func (c *chaos) agree() {
	c.t.Helper()
	eventually(c.t, 30*time.Second, func() string {
		var hashes []uint32
		for i, m := range c.machines {
			ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Second)
			defer cancel()
			h, err := c.clients[i].HashKV(ctx, m.endpoint(), 0)
			if err != nil {
				return err.Error()
			}
			hashes = append(hashes, h.Hash)
		}
		for _, h := range hashes {
			if h != hashes[0] {
				return fmt.Sprintf("the members' content differs: %x", hashes)
			}
		}
		return ""
	})
}
