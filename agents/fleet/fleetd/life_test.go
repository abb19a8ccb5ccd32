package fleetd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/agent/units"
	"github.com/coracle-os/coracle/agents/fleet/api/client"
	"github.com/coracle-os/coracle/agents/fleet/api/schema"
	"github.com/coracle-os/coracle/agents/kv/pki"
	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/program"
)

const hello = "hello.service"

// TestLife is a machine's: a unit runs through everything that can happen to
// fleetd, and is stopped only by SIGTERM.
func TestLife(t *testing.T) {
	s := startStore(t)
	m := newMachine(t, s, "1111111111111111")
	m.start()
	m.told("WATCHDOG=1")
	m.here("region", "")
	if _, err := m.api.PutUnit(t.Context(), schema.Unit{Name: hello, DesiredState: "launched", Options: []schema.Option{{Section: "Service", Name: "ExecStart", Value: "/bin/sleep 9"}}}); err != nil {
		t.Fatal(err)
	}
	m.launched(hello)
	if got := m.init.asked(); got != "start "+hello {
		t.Errorf("PID 1 was asked to %s", got)
	}
	untouched := func(what string) {
		t.Helper()
		m.launched(hello)
		if got := m.init.asked(); got != "" {
			t.Errorf("%s: PID 1 was asked to %s", what, got)
		}
	}

	m.signal(syscall.SIGUSR1)
	m.await("the state as JSON", func() error {
		for line := range strings.Lines(m.out.String()) {
			var k known
			if json.Unmarshal([]byte(line), &k) == nil && k.Machine.ID == "1111111111111111" && len(k.Placements) == 1 && len(k.States) == 1 && k.Leader == k.Machine.ID {
				return nil
			}
		}
		return errors.New("it was not written")
	})

	pid := m.cmd.Process.Pid
	m.configure(s, "metadata=region=here\n")
	neverRefused := m.dialAllTheTime()
	m.signal(syscall.SIGHUP)
	m.told("READY=1")
	m.here("region", "here")
	neverRefused()
	untouched("SIGHUP")
	if !strings.Contains(m.out.String(), "Reloading configuration") || m.cmd.Process.Pid != pid {
		t.Error("it was not reloaded in its process")
	}

	m.configure(s, "agent_ttl=soon\n")
	m.signal(syscall.SIGHUP)
	m.await("a bad file is refused", func() error {
		if !strings.Contains(m.out.String(), "The configuration is not reloaded") {
			return errors.New("no word of it")
		}
		return nil
	})
	m.here("region", "here")

	m.configure(s, "metadata=region=there\n")
	m.kill()
	m.start()
	m.here("region", "there")
	untouched("SIGKILL")

	twin := newMachine(t, s, "1111111111111111")
	twin.start()
	twin.await("a second machine with the same id", func() error {
		if !strings.Contains(twin.out.String(), "1111111111111111") {
			return errors.New("its log does not say why")
		}
		_, err := twin.api.Machines(t.Context())
		if client.IsUnavailable(err) && err.Error() == "fleet server unable to communicate with etcd" {
			return nil
		}
		return fmt.Errorf("its API answers %v", err)
	})
	untouched("a second machine with its id")
	twin.kill()

	s.stop()
	m.await("the API without the KV", func() error {
		if _, err := m.api.Units(t.Context()); !client.IsUnavailable(err) {
			return fmt.Errorf("it answers %v", err)
		}
		return nil
	})
	s.start()
	m.here("region", "there")
	untouched("the KV was away")

	m.signal(syscall.SIGTERM)
	if err := m.cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, m.out)
	}
	m.cmd = nil
	if got := m.init.asked(); got != "stop "+hello {
		t.Errorf("SIGTERM: PID 1 was asked to %s", got)
	}
	if u := m.init.show(hello); u.Load != "not-found" {
		t.Errorf("after SIGTERM the unit is %+v", u)
	}
	other := newMachine(t, s, "2222222222222222")
	other.start()
	other.launched(hello) // the unit moves at once
	list, err := other.api.Machines(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != "2222222222222222" || list[0].PrimaryIP != "192.0.2.1" || list[0].Version != fleet.Version || list[0].CPU < 1000 || list[0].Memory == 0 {
		t.Errorf("machines: %+v, %v", list, err)
	}
}

// TestStart: what keeps fleetd from starting, and what people ask it.
func TestStart(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	id, boot, empty := write("id", "m\n"), write("boot", "b\n"), write("empty", "\n")
	good := paths{machineID: id, bootID: boot, memory: filepath.Join(dir, "agent.db"), proc: "/proc"}
	with := func(change func(*paths)) paths { p := good; change(&p); return p }
	for _, c := range []struct {
		args  string
		paths paths
		code  int
		want  string
	}{
		{"--version", good, 0, "fleetd version 1.0.0\n"},
		{"--help", good, 0, "Usage: fleetd [--config FILE]"},
		{"--colour", good, 2, "flag provided but not defined: -colour; see fleetd --help"},
		{"now", good, 2, `"now" is not a flag`},
		{"--config /nowhere/fleet.conf", good, 1, "read settings: open /nowhere/fleet.conf: no such file"},
		{"--config " + write("bad", "agent_ttl\n"), good, 1, `bad:1: "agent_ttl" is not a setting`},
		{"--agent_ttl soon", good, 1, `"soon" is not a time`},
		{"", with(func(p *paths) { p.machineID = dir + "/none" }), 1, "unable to determine local machine ID: open"},
		{"", with(func(p *paths) { p.machineID = empty }), 1, "unable to determine local machine ID"},
		{"", with(func(p *paths) { p.bootID = empty }), 1, "unable to determine the boot id"},
		{"", with(func(p *paths) { p.memory = id + "/agent.db" }), 1, "not a directory"},
		{"--etcd_cafile /nowhere/ca.crt", good, 1, "connect to the KV (etcd_cafile, etcd_certfile, etcd_keyfile)"},
	} {
		var out bytes.Buffer
		system := func(string) units.Init { return units.System{Control: control.Client{Path: dir + "/none"}, Root: dir} }
		code := start(t.Context(), append([]string{"fleetd"}, strings.Fields(c.args)...), c.paths, system, program.Stdio{Out: &out, Err: &out})
		if code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("fleetd %s: exit code %d, output:\n%s\nwant %d, %q", c.args, code, &out, c.code, c.want)
		}
	}
}

// TestFollowOwn: a fleetd that starts before the machine's etcd has certificates
// must not stay without.
func TestFollowOwn(t *testing.T) {
	own := pki.In(t.TempDir())
	write := func(text string) {
		t.Helper()
		for _, name := range []string{own.Certificate, own.Key, own.Authority} {
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, text := range []string{"first", "second"} {
		changed := make(chan struct{})
		go followOwn(t.Context(), own, authorityOf(own), time.Millisecond, func() { close(changed) })
		write(text)
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
			t.Fatalf("the %s authority is not seen", text)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	followOwn(ended, own, authorityOf(own), time.Millisecond, func() { t.Error("nothing has changed") })
}
