package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/api/client"
	"github.com/coracle-os/coracle/agents/fleet/api/schema"
	"github.com/coracle-os/coracle/agents/fleet/unitfile"
	"github.com/coracle-os/coracle/agents/kv/kvtest"
)

// TestCurrentState: what is computed of placement and state.
func TestCurrentState(t *testing.T) {
	for _, c := range []struct {
		placed fleet.JobState // "" is not
		active string         // "" is no state
		want   string
	}{
		{"", "", "inactive"},
		{fleet.Launched, "", "inactive on m1"},
		{fleet.Launched, "active", "launched on m1"},
		{fleet.Launched, "failed", "launched on m1"}, // a crashed unit stays launched
		{fleet.Launched, "inactive", "launched on m1"},
		{fleet.Loaded, "inactive", "loaded on m1"},
		{fleet.Loaded, "failed", "loaded on m1"},
		{fleet.Loaded, "active", "launched on m1"},       // not stopped yet
		{fleet.Loaded, "deactivating", "launched on m1"}, // nor here
		{fleet.Inactive, "inactive", "loaded on m1"},     // not unloaded yet
		{fleet.Inactive, "active", "launched on m1"},
		{fleet.Inactive, "", "inactive on m1"},
	} {
		l := newLab(t)
		l.machine(fleet.Machine{ID: "m1"})
		l.do("PUT", "/fleet/v1/units/a.service", unit("/x"))
		if c.placed != "" {
			l.place("a.service", "m1", c.placed, c.active)
		}
		u, err := l.client.Unit(t.Context(), "a.service")
		if err != nil {
			t.Fatal(err)
		}
		got := u.CurrentState
		if u.MachineID != "" {
			got += " on " + u.MachineID
		}
		if got != c.want {
			t.Errorf("placed %q and %q: %s, want %s", c.placed, c.active, got, c.want)
		}
	}
}

func TestCopies(t *testing.T) {
	l := newLab(t)
	put := func(name string, options ...string) {
		t.Helper()
		var list []string
		for _, o := range options {
			k, v, _ := strings.Cut(o, "=")
			list = append(list, fmt.Sprintf(`{"section":"X-Fleet","name":%q,"value":%q}`, k, v))
		}
		if code, body := l.do("PUT", "/fleet/v1/units/"+name, `{"desiredState":"launched","options":[`+strings.Join(list, ",")+`]}`); code != 201 {
			t.Fatal(name, code, body)
		}
	}
	for _, id := range []string{"m1", "m2", "m3"} {
		l.machine(fleet.Machine{ID: id, CPU: 4000, Memory: 1 << 30})
	}
	put("g.service", "Global=true")
	put("r.service", "Replicas=2", "CPU=500m", "Memory=1M")
	put("t@.service", "Replicas=2")
	l.place("g.service", "m1", fleet.Launched, "active")
	l.place("r.service", "m1", fleet.Launched, "active")
	l.place("r.service", "m2", fleet.Launched, "failed")
	l.place("t@1.service", "m3", fleet.Launched, "active")
	got := map[string]string{}
	units, err := l.client.Units(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range units {
		got[u.Name] = fmt.Sprintf("%s %q", u.CurrentState, u.MachineID)
		if u.Replicas != nil {
			got[u.Name] += fmt.Sprintf(" %+v", *u.Replicas)
		}
	}
	want := map[string]string{
		"g.service":  `inactive ""`, // global units always are
		"r.service":  `launched "" {Wanted:2 Placed:2 Active:1 Machines:[m1 m2]}`,
		"t@.service": `inactive "" {Wanted:2 Placed:1 Active:1 Machines:[m3]}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("units (-want +got):\n%s", diff)
	}
	copied, err := l.client.Unit(t.Context(), "t@1.service")
	if err != nil || copied.MachineID != "m3" || copied.CurrentState != "launched" || copied.Template != "t@.service" {
		t.Errorf("a copy: %+v, %v", copied, err)
	}
	machines, err := l.client.Machines(t.Context())
	if err != nil || len(machines) != 3 || machines[0].CPUUsed != 500 || machines[0].MemoryUsed != 1<<20 || machines[0].Units != 2 {
		t.Errorf("machines: %+v, %v", machines, err)
	}
	left, err := l.client.Left(t.Context(), "m1")
	if diff := cmp.Diff([]string{"r.service"}, left); diff != "" || err != nil {
		t.Errorf("left on m1: %v\n%s", err, diff)
	}
}

func TestStates(t *testing.T) {
	l := newLab(t)
	l.machine(fleet.Machine{ID: "m1"})
	l.machine(fleet.Machine{ID: "m2"})
	for _, at := range []string{"b.service m2", "a.service m2", "a.service m1"} {
		name, machine, _ := strings.Cut(at, " ")
		l.place(name, machine, fleet.Launched, "active")
	}
	for _, c := range []struct{ unit, machine, want string }{
		{"", "", "a.service/m1 a.service/m2 b.service/m2"},
		{"a.service", "", "a.service/m1 a.service/m2"},
		{"", "m2", "a.service/m2 b.service/m2"},
		{"a.service", "m2", "a.service/m2"},
		{"c.service", "", ""},
	} {
		states, err := l.client.States(t.Context(), c.unit, c.machine)
		var got []string
		for _, s := range states {
			got = append(got, s.Name+"/"+s.MachineID)
		}
		if strings.Join(got, " ") != c.want || err != nil {
			t.Errorf("unit %q on %q: %q, %v; want %q", c.unit, c.machine, got, err, c.want)
		}
	}
	_, body := l.do("GET", "/fleet/v1/state/b.service", "")
	want := `{"name":"b.service","hash":"11f6ad8ec52a2984abaafd7c3b516503785c2072","machineID":"m2","systemdLoadState":"loaded","systemdActiveState":"active","systemdSubState":"x","since":"2023-11-14T22:13:20Z"}`
	if body != want { // the hash is `printf x | sha1sum`
		t.Errorf("state:\n%s\nwant\n%s", body, want)
	}
}

func TestRolloutAndRollback(t *testing.T) {
	l := newLab(t)
	put := func(name, exec, rollout string) {
		t.Helper()
		body := strings.Replace(unit(exec), "{", `{"rollout":`+rollout+",", 1)
		if code, answer := l.do("PUT", "/fleet/v1/units/"+name, body); code != 201 {
			t.Fatal(name, code, answer)
		}
	}
	for _, name := range []string{"w@1.service", "w@2.service", "v.service"} {
		put(name, "/old", "null")
		put(name, "/new", `{"parallel":2,"waitHealthySeconds":60}`)
	}
	u, err := l.client.Unit(t.Context(), "w@1.service")
	if err != nil || u.Rollout == nil || u.Rollout.Parallel != 2 || u.Rollout.WaitHealthySeconds != 60 || len(u.Rollout.Previous) != 40 {
		t.Fatalf("rollout: %+v, %v", u.Rollout, err)
	}
	// The same content again only changes how.
	if code, _ := l.do("PUT", "/fleet/v1/units/w@1.service", `{"desiredState":"inactive","rollout":{"parallel":1,"waitHealthySeconds":5}}`); code != 204 {
		t.Error(code)
	}
	if u, err = l.client.Unit(t.Context(), "w@1.service"); err != nil || u.Rollout.Parallel != 1 || len(u.Rollout.Previous) != 40 {
		t.Errorf("rollout: %+v, %v", u.Rollout, err)
	}
	if err := l.client.Rollback(t.Context(), "w@2.service"); err != nil {
		t.Fatal(err)
	}
	units, err := l.client.Units(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, u := range units {
		got[u.Name] = u.Options[0].Value
	}
	if diff := cmp.Diff(map[string]string{"w@1.service": "/old", "w@2.service": "/old", "v.service": "/new"}, got); diff != "" {
		t.Errorf("after the rollback of the group (-want +got):\n%s", diff)
	}
	if err := l.client.Rollback(t.Context(), "w@1.service"); err != nil {
		t.Error("forth again:", err)
	}
}

func TestDrain(t *testing.T) {
	l := newLab(t)
	l.machine(fleet.Machine{ID: "m1", BootID: "first"})
	draining := func() string {
		t.Helper()
		m, err := l.client.Machines(t.Context())
		if err != nil || len(m) != 1 {
			t.Fatal(m, err)
		}
		return m[0].Draining
	}
	if err := l.client.Drain(t.Context(), "m1", "new disk", false); err != nil || draining() != "new disk" {
		t.Errorf("drained: %q, %v", draining(), err)
	}
	if err := l.client.EndDrain(t.Context(), "m1"); err != nil || draining() != "" {
		t.Errorf("drain ended: %q, %v", draining(), err)
	}
	if err := l.client.Drain(t.Context(), "m1", "", true); err != nil || draining() != "drained" {
		t.Errorf("drained until it reboots: %q, %v", draining(), err)
	}
	l.machine(fleet.Machine{ID: "m1", BootID: "second"})
	if got := draining(); got != "" {
		t.Errorf("after the reboot it is drained: %q", got)
	}
	if err := l.client.Drain(t.Context(), "m2", "", true); !client.IsNotFound(err) {
		t.Errorf("a machine that is not there: %v", err)
	}
	l.machine(fleet.Machine{ID: "m1"})
	if code, body := l.do("PUT", "/fleet/v1/machines/m1/drain", `{"untilReboot":true}`); code != 409 || !strings.Contains(body, "boot id") {
		t.Errorf("without a boot id: %d %s", code, body)
	}
}

// TestNotReady: two machines with one id, or a KV that is away.
func TestNotReady(t *testing.T) {
	const want = `{"error":{"code":503,"message":"fleet server unable to communicate with etcd"}}`
	l := newLab(t, func(o *Options) { o.Ready = func() error { return errors.New("the id is taken") } })
	for _, path := range []string{"/fleet/v1/units", "/fleet/v1/discovery", "/", "/bogus"} {
		if code, body := l.do("GET", path, ""); code != 503 || body != want {
			t.Errorf("GET %s: %d %s", path, code, body)
		}
	}
	members := kvtest.Start(t, kvtest.Config(t, 0, t.TempDir()))
	l = newLabOn(t, members[0].Config().ListenClientUrls[0].String(), func(o *Options) { o.Timeout = 100 * time.Millisecond })
	members[0].Server.HardStop()
	members[0].Close()
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/fleet/v1/units", ""}, {"GET", "/fleet/v1/units/a.service", ""}, {"GET", "/fleet/v1/machines", ""}, {"GET", "/fleet/v1/state", ""},
		{"PUT", "/fleet/v1/units/a.service", `{"desiredState":"loaded"}`}, {"DELETE", "/fleet/v1/units/a.service", ""},
		{"PATCH", "/fleet/v1/machines", `[{"op":"remove","path":"/m/metadata/k"}]`},
	} {
		if code, body := l.do(c.method, c.path, c.body); code != 503 || body != want {
			t.Errorf("without the KV: %s %s: %d %s", c.method, c.path, code, body)
		}
	}
	if _, err := l.client.Units(t.Context()); !client.IsUnavailable(err) {
		t.Errorf("client: %v", err)
	}
}

func TestDiscovery(t *testing.T) {
	l := newLab(t)
	for prefix, version := range map[string]string{"/fleet/v1": "v1", "/v1-alpha": "v1-alpha"} {
		_, body := l.do("GET", prefix+"/discovery", "")
		var d struct {
			Kind, ID, BasePath string
			Schemas            map[string]any
			Resources          map[string]struct {
				Methods map[string]struct{ HTTPMethod, Path string }
			}
		}
		if err := json.Unmarshal([]byte(body), &d); err != nil {
			t.Fatal(err)
		}
		if d.Kind != "discovery#restDescription" || d.ID != "fleet:"+version || d.BasePath != prefix+"/" {
			t.Errorf("%s: %q, %q, %q", prefix, d.Kind, d.ID, d.BasePath)
		}
		for _, ref := range strings.Split(body, `"$ref":"`)[1:] {
			if name, _, _ := strings.Cut(ref, `"`); d.Schemas[name] == nil {
				t.Errorf("there is no schema %q", name)
			}
		}
		// What the document says is there.
		for _, r := range d.Resources {
			for name, m := range r.Methods {
				path := strings.NewReplacer("{unitName}", "a.service", "{machineID}", "m").Replace(m.Path)
				if code, body := l.do(m.HTTPMethod, prefix+"/"+path, ""); code == 405 || code == 404 && strings.Contains(body, `"message":""`) {
					t.Errorf("%s: %s %s: %d", name, m.HTTPMethod, path, code)
				}
			}
		}
	}
}

// TestPlanAndRebalance: what would be done, and units that really are to move.
func TestPlanAndRebalance(t *testing.T) {
	l := newLab(t)
	for _, id := range []string{"m1", "m2"} {
		l.machine(fleet.Machine{ID: id, CPU: 1000, Memory: 1 << 30})
	}
	p, err := l.client.Plan(t.Context(), []schema.Unit{
		{Name: "a.service", Options: []schema.Option{{Section: "X-Fleet", Name: "MachineID", Value: "m2"}}},
		{Name: "b.service", Options: []schema.Option{{Section: "X-Fleet", Name: "CPU", Value: "2"}}},
	})
	if err != nil || len(p.Tasks) != 1 || p.Tasks[0].Kind != "Place" || p.Tasks[0].MachineID != "m2" || p.Tasks[0].Reason == "" || p.Unplaced["b.service"] == "" {
		t.Errorf("plan: %+v, %v", p, err)
	}
	if units, err := l.client.Units(t.Context()); len(units) != 0 || err != nil {
		t.Errorf("a plan made units: %+v, %v", units, err)
	}
	for i := range 4 { // all of them came while m2 was away
		name := fmt.Sprintf("u%d.service", i)
		if code, body := l.do("PUT", "/fleet/v1/units/"+name, strings.Replace(unit("/x"), "inactive", "launched", 1)); code != 201 {
			t.Fatal(code, body)
		}
		file, err := unitfile.FromOptions([]unitfile.Option{{Section: "Service", Name: "ExecStart", Value: "/x"}})
		if err != nil {
			t.Fatal(err)
		}
		l.placeHash(name, "m1", file.Hash(), fleet.Launched, "active")
	}
	dry, err := l.client.Rebalance(t.Context(), true)
	if err != nil || len(dry.Tasks) != 2 {
		t.Fatalf("rebalance, to look: %+v, %v", dry, err)
	}
	if n := l.released(); n != 0 {
		t.Errorf("looking released %d units", n)
	}
	real, err := l.client.Rebalance(t.Context(), false)
	if diff := cmp.Diff(dry, real); diff != "" || err != nil {
		t.Errorf("rebalance: %v\n%s", err, diff)
	}
	if n := l.released(); n != 2 {
		t.Errorf("%d units are released, want 2", n)
	}
	// What was seen is not any more: nothing is touched.
	seen := fleet.Placement{Unit: "u3.service", Machine: "m1", Hash: strings.Repeat("0", 40), State: fleet.Launched}
	if _, err := l.registry.Release(t.Context(), []fleet.Placement{seen}); err != nil || l.released() != 2 {
		t.Errorf("a placement that changed: %d released, %v", l.released(), err)
	}
}
