package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/agent/memory"
	"github.com/coracle-os/coracle/agents/fleet/agent/store"
	"github.com/coracle-os/coracle/agents/fleet/registry"
	"github.com/coracle-os/coracle/agents/fleet/registry/layout"
)

// kv is a real etcd in this process, on an address that stays when it is begun
// again.
type kv struct {
	t      *testing.T
	config *embed.Config
	etcd   *embed.Etcd
	client *clientv3.Client
	*registry.Registry
}

func freeURL(t *testing.T) url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return url.URL{Scheme: "http", Host: l.Addr().String()}
}

func newKV(t *testing.T) *kv {
	t.Helper()
	c := embed.NewConfig()
	c.Name, c.Dir = "m0", filepath.Join(t.TempDir(), "etcd")
	peer, client := freeURL(t), freeURL(t)
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.InitialCluster = "m0=" + peer.String()
	c.LogLevel, c.LogOutputs = "panic", []string{filepath.Join(t.TempDir(), "log")}
	c.UnsafeNoFsync, c.TickMs, c.ElectionMs = true, 20, 200
	k := &kv{t: t, config: c}
	k.start()
	t.Cleanup(k.stop)
	k.client = k.dial()
	k.Registry = registry.New(k.client, "", 0)
	return k
}

func (k *kv) start() {
	k.t.Helper()
	e, err := embed.StartEtcd(k.config)
	if err != nil {
		k.t.Fatal(err)
	}
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(time.Minute):
		k.t.Fatal("etcd is not ready")
	}
	k.etcd = e
}

func (k *kv) stop() {
	if k.etcd != nil {
		k.etcd.Close()
		k.etcd = nil
	}
}

func (k *kv) dial() *clientv3.Client {
	k.t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{k.config.AdvertiseClientUrls[0].String()}, DialTimeout: time.Second, Logger: zap.NewNop()})
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { c.Close() })
	return c
}

// place gives a machine a token, as the engine does; content may be "" for one
// that is there.
func (k *kv) place(machine, unit, content string, state fleet.JobState) {
	k.t.Helper()
	raw := "[Service]\nExecStart=" + content + "\n"
	hash := layout.HashOf(raw)
	value, err := layout.EncodeContent(raw)
	if err != nil {
		k.t.Fatal(err)
	}
	k.put(k.Keys.Content(hash), value)
	k.put(k.Keys.Placement(machine, unit), layout.EncodePlacement(fleet.Placement{Hash: hash, State: state}))
}

func (k *kv) put(key, value string) {
	k.t.Helper()
	if _, err := k.client.Put(context.Background(), key, value); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kv) has(key string) bool {
	k.t.Helper()
	r, err := k.client.Get(context.Background(), key)
	if err != nil {
		k.t.Fatal(err)
	}
	return len(r.Kvs) > 0
}

func (k *kv) published(machine, unit string) string {
	k.t.Helper()
	r, err := k.client.Get(context.Background(), k.Keys.State(machine, unit))
	if err != nil {
		k.t.Fatal(err)
	}
	if len(r.Kvs) == 0 {
		return ""
	}
	s, err := layout.DecodeState(layout.Name{First: machine, Second: unit}, r.Kvs[0].Value)
	if err != nil {
		k.t.Fatal(err)
	}
	return s.Load + " " + s.Active + " " + s.Sub
}

// box is a machine with an agent that can be killed and begun again.
type box struct {
	t       *testing.T
	kv      *kv
	machine fleet.Machine
	init    *fakeInit
	memory  string
	ttl     time.Duration
	ahead   atomic.Int64 // by what its boot clock is ahead

	agent  *Agent
	cancel context.CancelFunc
	done   chan error
}

func (k *kv) box(id string) *box {
	k.t.Helper()
	return &box{t: k.t, kv: k, machine: fleet.Machine{ID: id, BootID: "boot-" + id, PublicIP: id, Version: "1", CPU: 1000, Memory: 1 << 30},
		init: newFakeInit(), memory: filepath.Join(k.t.TempDir(), "agent.db"), ttl: 6 * time.Second}
}

func (b *box) start() *box {
	b.t.Helper()
	m, err := memory.Open(b.memory)
	if err != nil {
		b.t.Fatal(err)
	}
	client := b.kv.dial()
	machine := b.machine
	b.agent = New(Config{Machine: func() fleet.Machine { return machine }, TTL: b.ttl, Init: b.init, Memory: m, StopLimit: time.Second,
		Store: store.Store{Registry: registry.New(client, "", time.Second), ID: machine.ID}, Log: slog.New(slog.NewTextHandler(b.t.Output(), nil)),
		Clock: func() time.Duration { return bootClock() + time.Duration(b.ahead.Load()) }})
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel, b.done = cancel, make(chan error, 1)
	a, done := b.agent, b.done
	go func() {
		err := a.Run(ctx)
		m.Close()
		done <- err
	}()
	b.t.Cleanup(func() { b.stop() })
	return b
}

// stop ends the agent as SIGTERM does.
func (b *box) stop() error {
	if b.cancel == nil {
		return nil
	}
	b.cancel()
	b.cancel = nil
	return <-b.done
}

// crash ends the agent as SIGKILL does.
func (b *box) crash() {
	b.agent.Abandon()
	<-b.done
	b.cancel = nil
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func (b *box) registered() {
	b.t.Helper()
	eventually(b.t, b.machine.ID+" is registered", func() bool { return b.agent.Registered() == nil })
}

func (b *box) awaitActive(unit, active string) {
	b.t.Helper()
	eventually(b.t, unit+" is "+active+" on "+b.machine.ID, func() bool { return b.init.active(unit) == active })
}

func TestLifeOfAUnit(t *testing.T) {
	t.Parallel()
	k := newKV(t)
	b := k.box("m1").start()
	b.registered()
	k.place("m1", "a.service", "1", fleet.Launched)
	eventually(t, "a.service is published as running", func() bool { return k.published("m1", "a.service") == "loaded active running" })
	k.place("m1", "b.service", "1", fleet.Loaded)
	eventually(t, "b.service is published as loaded", func() bool { return k.published("m1", "b.service") == "loaded inactive dead" })
	k.place("m1", "a.service", "2", fleet.Launched) // new content
	eventually(t, "a.service has new content", func() bool {
		f, _ := b.init.Files()
		return strings.Contains(f["a.service"], "=2") && b.init.active("a.service") == "active"
	})
	b.init.set("a.service", "failed", "failed")
	eventually(t, "the failure is published", func() bool { return k.published("m1", "a.service") == "loaded failed failed" })
	k.place("m1", "b.service", "1", fleet.Launched)
	b.awaitActive("b.service", "active")
	k.place("m1", "b.service", "1", fleet.Loaded)
	b.awaitActive("b.service", "inactive")
	for _, unit := range []string{"a.service", "b.service"} {
		k.place("m1", unit, "2", fleet.Inactive)
		eventually(t, unit+" is given back", func() bool { return !k.has(k.Keys.Placement("m1", unit)) && k.published("m1", unit) == "" })
	}
	want := strings.Fields("load:a reload start:a load:b reload stop:a unload:a load:a reload start:a start:b stop:b unload:a reload unload:b reload")
	var got []string
	for _, line := range b.init.did() {
		got = append(got, strings.ReplaceAll(strings.TrimSuffix(line, ".service"), " ", ":"))
	}
	if !slices.Equal(got, want) {
		t.Errorf("PID 1 was asked\n%q, want\n%q", got, want)
	}
}

// Tokens that come in one transaction have one revision.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	k := newKV(t)
	b := k.box("m1").start()
	b.registered()
	k.place("other", "a.service", "1", fleet.Launched) // for the content
	var ops []clientv3.Op
	value := layout.EncodePlacement(fleet.Placement{Hash: layout.HashOf("[Service]\nExecStart=1\n"), State: fleet.Launched})
	for n := range 5 {
		ops = append(ops, clientv3.OpPut(k.Keys.Placement("m1", fmt.Sprintf("u%d.service", n)), value))
	}
	if _, err := k.client.Txn(context.Background()).Then(ops...).Commit(); err != nil {
		t.Fatal(err)
	}
	for n := range 5 {
		b.awaitActive(fmt.Sprintf("u%d.service", n), "active")
	}
}

// A unit whose start is refused does not keep others from starting, and is
// tried again.
func TestOneFails(t *testing.T) {
	t.Parallel()
	k := newKV(t)
	b := k.box("m1").start()
	b.init.mu.Lock()
	b.init.failing["a.service"] = true
	b.init.mu.Unlock()
	k.put(k.Keys.Placement("m1", "garbage.service"), "{")
	k.put(k.Keys.Placement("m1", "nothing.service"), layout.EncodePlacement(fleet.Placement{Hash: strings.Repeat("0", 40), State: fleet.Launched}))
	for _, unit := range []string{"a.service", "b.service"} {
		k.place("m1", unit, "1", fleet.Launched)
	}
	b.awaitActive("b.service", "active")
	b.init.mu.Lock()
	b.init.failing["a.service"] = false
	b.init.mu.Unlock()
	b.awaitActive("a.service", "active")
}

// TestRestart kills the agent and begins it again: the lease is the same and no
// unit was touched, even one that had ended by itself.
func TestRestart(t *testing.T) {
	t.Parallel()
	k := newKV(t)
	b := k.box("m1").start()
	for _, unit := range []string{"a.service", "b.service"} {
		k.place("m1", unit, "1", fleet.Launched)
		b.awaitActive(unit, "active")
	}
	b.init.set("b.service", "inactive", "dead")
	eventually(t, "the end is published", func() bool { return k.published("m1", "b.service") == "loaded inactive dead" })
	lease, before := b.agent.lease, len(b.init.did())
	b.crash()
	b.start()
	b.registered()
	k.place("m1", "c.service", "1", fleet.Launched)
	b.awaitActive("c.service", "active")
	if got := b.init.did()[before:]; !slices.Equal(got, []string{"load c.service", "reload", "start c.service"}) {
		t.Errorf("PID 1 was asked %q", got)
	}
	if b.agent.lease != lease {
		t.Errorf("the lease is %x, was %x", b.agent.lease, lease)
	}
	b.machine.BootID = "another"
	b.crash()
	b.init = newFakeInit()
	b.start()
	for _, unit := range []string{"a.service", "b.service", "c.service"} {
		b.awaitActive(unit, "active")
	}
}

// TestLeave is SIGTERM.
func TestLeave(t *testing.T) {
	t.Parallel()
	k := newKV(t)
	b := k.box("m1").start()
	b.init.mu.Lock()
	b.init.stubborn["b.service"] = true
	b.init.mu.Unlock()
	for _, unit := range []string{"a.service", "b.service"} {
		k.place("m1", unit, "1", fleet.Launched)
		b.awaitActive(unit, "active")
	}
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	r, err := k.client.Get(context.Background(), k.Keys.Prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range r.Kvs {
		if strings.Contains(string(kv.Key), "m1") {
			t.Errorf("%s is left", kv.Key)
		}
	}
	if f, _ := b.init.Files(); len(f) > 0 || b.init.active("a.service") != "inactive" || b.init.active("b.service") != "failed" {
		t.Errorf("PID 1 has %q, a is %s, b is %s", f, b.init.active("a.service"), b.init.active("b.service"))
	}
}

// TestLeaveWithoutStore is SIGTERM while the store is away: units stop all the
// same, and it is no failure.
func TestLeaveWithoutStore(t *testing.T) {
	t.Parallel()
	k := newKV(t)
	b := k.box("m1").start()
	k.place("m1", "a.service", "1", fleet.Launched)
	b.awaitActive("a.service", "active")
	k.stop()
	if err := b.stop(); err != nil {
		t.Error(err)
	}
	if f, _ := b.init.Files(); len(f) > 0 || b.init.active("a.service") != "inactive" {
		t.Errorf("PID 1 has %q, a.service is %s", f, b.init.active("a.service"))
	}
}

// TestSameID is two machines with one machine id.
func TestSameID(t *testing.T) {
	t.Parallel()
	k := newKV(t)
	first, second := k.box("m1").start(), k.box("m1")
	first.registered()
	k.place("m1", "a.service", "1", fleet.Launched)
	first.awaitActive("a.service", "active")
	second.machine.BootID, second.machine.PublicIP = "other", "10.0.0.2"
	second.start()
	eventually(t, "the second one says why it is not there", func() bool { return errors.Is(second.agent.Registered(), store.ErrTaken) })
	if got := second.init.did(); len(got) > 0 {
		t.Errorf("the second one did %q", got)
	}
	if err := first.agent.Registered(); err != nil {
		t.Errorf("the first one: %v", err)
	}
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	second.registered()
}

// TestStoreLost stops the whole store for longer than the TTL: no unit stops.
func TestStoreLost(t *testing.T) {
	t.Parallel()
	k := newKV(t)
	b := k.box("m1").start()
	k.place("m1", "a.service", "1", fleet.Launched)
	b.awaitActive("a.service", "active")
	b.registered()
	eventually(t, "the members are known", func() bool {
		b.agent.mu.Lock()
		defer b.agent.mu.Unlock()
		return len(b.agent.remembered.Members) == 1
	})
	k.stop()
	lost := b.agent.cfg.Clock()
	eventually(t, "the lease would have ended", func() bool { return b.agent.cfg.Clock() > lost+b.ttl+time.Second })
	k.start()
	eventually(t, "it was renewed", func() bool {
		b.agent.mu.Lock()
		defer b.agent.mu.Unlock()
		return b.agent.evidence.Sent > lost+b.ttl
	})
	if got := b.init.did(); !slices.Equal(got, []string{"load a.service", "reload", "start a.service"}) {
		t.Errorf("PID 1 was asked %q", got)
	}
}

// TestPaused lets the machine's clock pass the end of the lease in one step, as
// for a virtual machine that was suspended: tokens that are there still hold.
func TestPaused(t *testing.T) {
	t.Parallel()
	for _, taken := range []bool{false, true} {
		t.Run(fmt.Sprint("taken ", taken), func(t *testing.T) {
			t.Parallel()
			k := newKV(t)
			b := k.box("m1").start()
			k.place("m1", "a.service", "1", fleet.Launched)
			b.awaitActive("a.service", "active")
			b.registered()
			old := b.agent.lease
			// The store ends the lease while the machine does not run.
			if taken {
				if _, err := k.client.Delete(context.Background(), k.Keys.Placement("m1", "a.service")); err != nil {
					t.Fatal(err)
				}
			}
			b.ahead.Store(int64(2 * b.ttl))
			if _, err := k.client.Revoke(context.Background(), clientv3.LeaseID(old)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it has another lease", func() bool {
				b.agent.mu.Lock()
				defer b.agent.mu.Unlock()
				return b.agent.lease != old && b.agent.object != 0
			})
			want := []string{"load a.service", "reload", "start a.service"}
			if taken {
				want = append(want, "stop a.service", "unload a.service", "reload")
			}
			eventually(t, "PID 1 is as wanted", func() bool { return slices.Equal(b.init.did(), want) })
		})
	}
}
