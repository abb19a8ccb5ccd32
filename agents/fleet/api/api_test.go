package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/api/client"
	"github.com/coracle-os/coracle/agents/fleet/api/schema"
	"github.com/coracle-os/coracle/agents/fleet/unitfile"
)

// errorBody is what an error looks like.
func errorBody(code int, message string) string {
	data, _ := json.Marshal(map[string]any{"error": map[string]any{"code": code, "message": message}})
	return string(data)
}

// TestRequests sends the requests of fleet's own clients and tests, in order,
// to one server; what fleet 1.0 answered is the measure.
func TestRequests(t *testing.T) {
	const two = `{"desiredState":"loaded","options":[{"section":"X-Fleet","name":"Replicas","value":"2"},{"section":"Service","name":"ExecStart","value":"/x"}]}`
	l := newLab(t)
	for i, c := range []struct {
		method, path, body string
		code               int
		want               string // the body; of an error its message
	}{
		// Empty collections.
		{"GET", "/fleet/v1/units", "", 200, `{}`},
		{"GET", "/fleet/v1/state", "", 200, `{}`},
		{"GET", "/fleet/v1/machines", "", 200, `{}`},
		{"GET", "/v1-alpha/units", "", 200, `{}`},
		// What is not there.
		{"GET", "/", "", 405, ""}, {"GET", "/fleet/v1", "", 405, ""}, {"PUT", "/v1-alpha", "", 405, ""},
		{"GET", "/fleet/v1/", "", 404, ""}, {"GET", "/fleet/v1/units/", "", 404, ""}, {"GET", "/fleet/v1/machines/", "", 404, ""},
		{"GET", "/fleet/v2/units", "", 404, ""}, {"GET", "/fleet/v1x", "", 404, ""}, {"GET", "/fleet", "", 404, ""}, {"GET", "/fleet/v1/bogus", "", 404, ""},
		{"GET", "/fleet/v1/units/a/b", "", 404, ""}, {"GET", "/fleet/v1//units", "", 404, ""}, {"GET", "/metrics", "", 404, ""},
		// Other methods.
		{"POST", "/fleet/v1/units", "{}", 405, "only GET supported against this resource"},
		{"HEAD", "/fleet/v1/units", "", 405, ""},
		{"POST", "/fleet/v1/units/a.service", "{}", 405, "only GET, PUT and DELETE supported against this resource"},
		{"PUT", "/fleet/v1/machines", "[]", 405, "only GET and PATCH supported against this resource"},
		{"DELETE", "/fleet/v1/state", "", 405, "only GET supported against this resource"},
		{"PUT", "/fleet/v1/state/a.service", "{}", 405, "only GET supported against this resource"},
		{"POST", "/fleet/v1/discovery", "{}", 405, "only GET supported against this resource"},
		{"GET", "/fleet/v1/plan", "", 405, "only POST supported against this resource"},
		{"GET", "/fleet/v1/machines/m/drain", "", 405, "only PUT and DELETE supported against this resource"},
		// Units.
		{"GET", "/fleet/v1/units/a.service", "", 404, "unit does not exist"},
		{"DELETE", "/fleet/v1/units/a.service", "", 404, "unit does not exist"},
		{"GET", "/fleet/v1/state/a.service", "", 404, "unit state does not exist"},
		{"PUT", "/fleet/v1/units/a.service", `{"desiredState":"launched"}`, 409, "unit does not exist and options field empty"},
		{"PUT", "/fleet/v1/units/a.service", `{"desiredState":"launched","options":[]}`, 409, "unit does not exist and options field empty"},
		{"PUT", "/fleet/v1/units/a.service", `{"name":"b.service"}`, 400, `name in URL "a.service" differs from unit name in request body "b.service"`},
		{"PUT", "/fleet/v1/units/a.service", `{"name":`, 400, "unable to decode body: unexpected EOF"},
		{"PUT", "/fleet/v1/units/a.service", `{"options":1}`, 400, "unable to decode body: json: cannot unmarshal number into Go struct field Unit.options of type []unitfile.Option"},
		{"PUT", "/fleet/v1/units/a.bogus", unit("/x"), 400, `invalid unit type: "bogus"`},
		{"PUT", "/fleet/v1/units/a", unit("/x"), 400, `unit name must contain "."`},
		{"PUT", "/fleet/v1/units/@.service", unit("/x"), 400, `unit name cannot start in "@"`},
		{"PUT", "/fleet/v1/units/a%25.service", unit("/x"), 400, `invalid character '%' in unit name`},
		{"PUT", "/fleet/v1/units/a.service", strings.Replace(unit("/x"), "inactive", "running", 1), 400, `invalid desiredState "running": use inactive, loaded or launched`},
		{"PUT", "/fleet/v1/units/a.service", `{"options":[{"section":"X-Fleet","name":"MachineID","value":"a"},{"section":"X-Fleet","name":"Global","value":"true"}]}`, 400, "MachineID cannot be used with Global"},
		{"PUT", "/fleet/v1/units/a.service", unit("/x"), 201, ""},
		{"GET", "/fleet/v1/units/a.service", "", 200, `{"name":"a.service","options":[{"section":"Service","name":"ExecStart","value":"/x"}],"desiredState":"inactive","currentState":"inactive"}`},
		{"PUT", "/fleet/v1/units/a.service", unit("/x"), 204, ""},
		{"PUT", "/fleet/v1/units/a.service", `{"options":[{"section":"Service","name":"ExecStart","value":"/y"}]}`, 409, "must provide DesiredState to update existing unit"},
		{"PUT", "/fleet/v1/units/a.service", `{"name":"a.service","desiredState":"loaded"}`, 204, ""},
		{"PUT", "/v1-alpha/units/a.service", `{"desiredState":"bogus"}`, 400, `invalid desiredState "bogus": use inactive, loaded or launched`},
		{"GET", "/fleet/v1/units", "", 200, `{"units":[{"name":"a.service","options":[{"section":"Service","name":"ExecStart","value":"/x"}],"desiredState":"loaded","currentState":"inactive","reason":"there is no machine in the cluster"}]}`},
		{"PUT", "/fleet/v1/units/a.service", unit("/y"), 201, ""},
		{"GET", "/fleet/v1/units/a.service", "", 200, `{"name":"a.service","options":[{"section":"Service","name":"ExecStart","value":"/y"}],"desiredState":"inactive","currentState":"inactive"}`},
		{"DELETE", "/fleet/v1/units/a.service", "", 204, ""},
		{"DELETE", "/fleet/v1/units/a.service", "", 404, "unit does not exist"},
		// No state given is inactive.
		{"PUT", "/fleet/v1/units/n.service", `{"options":[{"section":"A","name":"B","value":"C"}]}`, 201, ""},
		{"GET", "/fleet/v1/units/n.service", "", 200, `{"name":"n.service","options":[{"section":"A","name":"B","value":"C"}],"desiredState":"inactive","currentState":"inactive"}`},
		{"DELETE", "/fleet/v1/units/n.service", "", 204, ""},
		// Escapes in names.
		{"PUT", `/fleet/v1/units/a%5Cx2d@b.service`, unit("/x"), 201, ""},
		{"GET", `/fleet/v1/units/a%5Cx2d@b.service`, "", 200, `{"name":"a\\x2d@b.service","options":[{"section":"Service","name":"ExecStart","value":"/x"}],"desiredState":"inactive","currentState":"inactive"}`},
		{"DELETE", `/fleet/v1/units/a%5Cx2d@b.service`, "", 204, ""},
		// Templates.
		{"PUT", "/fleet/v1/units/x@.service", strings.Replace(unit("/x"), "inactive", "launched", 1), 400, `cannot activate template "x@.service"`},
		{"PUT", "/fleet/v1/units/x@.service", unit("/x"), 201, ""},
		{"PUT", "/fleet/v1/units/x@.service", `{"desiredState":"loaded"}`, 400, `cannot activate template "x@.service"`},
		{"PUT", "/fleet/v1/units/x@.service", two, 201, ""},
		{"GET", "/fleet/v1/units/x@2.service", "", 200, `{"name":"x@2.service","options":[{"section":"X-Fleet","name":"Replicas","value":"2"},{"section":"Service","name":"ExecStart","value":"/x"}],"desiredState":"loaded","currentState":"inactive","reason":"there is no machine in the cluster","template":"x@.service"}`},
		{"GET", "/fleet/v1/units/x@3.service", "", 404, "unit does not exist"},
		{"DELETE", "/fleet/v1/units/x@2.service", "", 409, `unit "x@2.service" is a copy that Replicas= of "x@.service" makes: change or destroy that one`},
		{"POST", "/fleet/v1/units/x@.service/rollback", "", 409, `unit "x@.service" has no rollout to go back from`},
		{"POST", "/fleet/v1/units/y.service/rollback", "", 404, "unit does not exist"},
		{"DELETE", "/fleet/v1/units/x@.service", "", 204, ""},
		// Machines that are not there.
		{"PUT", "/fleet/v1/machines/m/drain", `{"reason":"r"}`, 404, "machine does not exist"},
		{"DELETE", "/fleet/v1/machines/m/drain", "", 204, ""},
		// Plans.
		{"POST", "/fleet/v1/plan", `{}`, 400, "no unit to plan: units is empty"},
		{"POST", "/fleet/v1/plan", `{"units":[{"name":"p.service"}]}`, 409, `unit "p.service" does not exist and has no options`},
		{"POST", "/fleet/v1/plan", `{"units":[{"name":"p"}]}`, 400, `unit name must contain "."`},
		{"POST", "/fleet/v1/rebalance?dry_run=maybe", "", 400, `dry_run "maybe" is neither 1 nor 0`},
		{"POST", "/fleet/v1/rebalance?dry_run=1", "", 200, `{}`},
		{"POST", "/fleet/v1/rebalance", "", 200, `{}`},
		{"GET", "/fleet/v1/units", "", 200, `{}`},
	} {
		code, body := l.do(c.method, c.path, c.body)
		want := c.want
		if c.code >= 400 && c.method != "HEAD" {
			want = errorBody(c.code, c.want)
		}
		if code != c.code || body != want {
			t.Errorf("%d: %s %s %s:\ngot  %d %s\nwant %d %s", i, c.method, c.path, c.body, code, body, c.code, want)
		}
	}
}

func TestContentType(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		values []string
		code   int
		want   string
	}{
		{nil, 415, "expected 1 Content-Type, got 0"},
		{[]string{"application/json", "application/json"}, 415, "expected 1 Content-Type, got 2"},
		{[]string{"text/plain"}, 415, "only acceptable Content-Type is application/json"},
		{[]string{""}, 415, "only acceptable Content-Type is application/json"},
		{[]string{"application/json"}, 201, ""},
		{[]string{"application/json; charset=UTF-8"}, 204, ""},
	} {
		code, body := l.send("PUT", "/fleet/v1/units/a.service", unit("/x"), http.Header{"Content-Type": c.values})
		want := ""
		if c.want != "" {
			want = errorBody(c.code, c.want)
		}
		if code != c.code || body != want {
			t.Errorf("%q: got %d %s, want %d %s", c.values, code, body, c.code, want)
		}
	}
}

// TestBadUnits: whatever comes, the answer is 400 or 413 with a reason, and
// nothing is stored.
func TestBadUnits(t *testing.T) {
	l := newLab(t)
	option := func(section, name, value string) string {
		data, _ := json.Marshal(map[string]any{"desiredState": "launched", "options": []map[string]string{{"section": section, "name": name, "value": value}}})
		return string(data)
	}
	many := func(n int) string {
		var options []string
		for range n {
			options = append(options, `{"section":"Service","name":"Environment","value":"`+strings.Repeat("x", 1000)+`"}`)
		}
		return `{"options":[` + strings.Join(options, ",") + `]}`
	}
	for _, c := range []struct {
		name, body string
		code       int
		want       string
	}{
		{"a megabyte of lines", many(1000), 400, "unit file too large"},
		{"ten megabytes", many(10000), 413, "unable to decode body"},
		{"a line of a megabyte", option("Service", "ExecStart", strings.Repeat("x", 1<<20)), 400, "large"},
		{"a long line", option("Service", "ExecStart", strings.Repeat("x", 2100)), 400, "line too long (max 2048 bytes)"},
		{"NUL in a value", option("Service", "ExecStart", "/x\x00"), 400, "NUL"},
		{"NUL in the JSON", "{\"options\":\x00}", 400, "unable to decode body"},
		{"a line that smuggles another", option("Service", "ExecStart", "/x\nUser=root"), 400, "newline"},
		{"a section in a value", option("Service", "A", "x\n[Socket]\nB=1"), 400, "newline"},
		{"an empty name", option("Service", "", "x"), 400, "both must have a name"},
		{"an empty section", option("", "A", "x"), 400, "both must have a name"},
		{"a bracket in a section", option("A]\n[B", "A", "x"), 400, ""},
		{"not UTF-8", "{\"options\":[{\"section\":\"A\",\"name\":\"B\",\"value\":\"\xff\n\"}]}", 400, ""},
		{"a list", `[]`, 400, "unable to decode body"},
		{"nothing", ` `, 400, "unable to decode body: EOF"},
		{"a resource that is none", option("X-Fleet", "Memory", "lots"), 400, "Memory"},
		{"a rollout of nothing", `{"desiredState":"launched","rollout":{"parallel":0}}`, 400, "invalid rollout"},
	} {
		code, body := l.do("PUT", "/fleet/v1/units/a.service", c.body)
		if code != c.code || !strings.Contains(body, c.want) {
			t.Errorf("%s: got %d %.300s, want %d with %q", c.name, code, body, c.code, c.want)
		}
	}
	if _, body := l.do("GET", "/fleet/v1/units", ""); body != "{}" {
		t.Errorf("there are units: %.300s", body)
	}
}

func TestPatchMachines(t *testing.T) {
	l := newLab(t)
	l.machine(fleet.Machine{ID: "m1", BootID: "b", Metadata: map[string]string{"own": "1", "zone": "a"}})
	for _, c := range []struct {
		body string
		code int
		want string // the error, or the metadata afterwards
	}{
		{`[{"op":"add","path":"/m1/metadata/disk","value":{"value":"ssd"}}]`, 204, `{"disk":"ssd","own":"1","zone":"a"}`},
		{`[{"op":"replace","path":"/m1/metadata/zone","value":"b"}]`, 204, `{"disk":"ssd","own":"1","zone":"b"}`},
		{`[{"op":"remove","path":"/m1/metadata/zone"},{"op":"add","path":"/m1/metadata/A_b.c-1","value":"x"}]`, 204, `{"A_b.c-1":"x","disk":"ssd","own":"1"}`},
		{`[{"op":"add","path":"/m1/metadata/q","value":"1"},{"op":"add","path":"/m1/metadata/q","value":"2"},{"op":"remove","path":"/m1/metadata/A_b.c-1"}]`, 204, `{"disk":"ssd","own":"1","q":"2"}`},
		{`[{"op":"add","path":"/unknown/metadata/k","value":"v"}]`, 204, `{"disk":"ssd","own":"1","q":"2"}`},
		{`[]`, 204, `{"disk":"ssd","own":"1","q":"2"}`},
		// All are looked at before the first is made.
		{`[{"op":"remove","path":"/m1/metadata/disk"},{"op":"noop","path":"/m1/metadata/own"}]`, 400, "invalid op: expect add, remove, or replace"},
		{`[{"op":"add","path":"/m1/foo","value":"x"}]`, 400, "machine metadata path invalid"},
		{`[{"op":"add","path":"/m1/metadata/a/b","value":"x"}]`, 400, "machine metadata path invalid"},
		{`[{"op":"add","path":"/m1/metadata/a b","value":"x"}]`, 400, "machine metadata path invalid"},
		{`[{"op":"add","path":"/m1/metadata/a"}]`, 400, "invalid value: add and replace require a value"},
		{`[{"op":"add","path":"/m1/metadata/a","value":""}]`, 400, "invalid value: add and replace require a value"},
		{`[{"op":"replace","path":"/m1/metadata/a","value":{}}]`, 400, "invalid value: add and replace require a value"},
		{`{"op":"add"}`, 400, "unable to decode body: json: cannot unmarshal object into Go value of type []api.patch"},
		{`[{"op":"add","path":"/m1/metadata/a","value":7}]`, 400, "unable to decode body: json: cannot unmarshal number into Go struct field patch.Value of type string"},
	} {
		code, body := l.do("PATCH", "/fleet/v1/machines", c.body)
		if c.code != 204 {
			if code != c.code || body != errorBody(c.code, c.want) {
				t.Errorf("%s: got %d %s, want %d %q", c.body, code, body, c.code, c.want)
			}
			continue
		}
		_, machines := l.do("GET", "/fleet/v1/machines", "")
		if want := `{"machines":[{"id":"m1","metadata":` + c.want + `}]}`; code != 204 || body != "" || machines != want {
			t.Errorf("%s: got %d %s, then\n%s, want\n%s", c.body, code, body, machines, want)
		}
	}
}

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
	s, err := startStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l = newLabOn(t, s, func(o *Options) { o.Timeout = 100 * time.Millisecond })
	s.etcd.Server.HardStop()
	s.etcd.Close()
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/fleet/v1/units", ""}, {"GET", "/fleet/v1/units/a.service", ""}, {"GET", "/fleet/v1/machines", ""}, {"GET", "/fleet/v1/state", ""},
		{"PUT", "/fleet/v1/units/a.service", `{"desiredState":"loaded"}`}, {"DELETE", "/fleet/v1/units/a.service", ""},
		{"PATCH", "/fleet/v1/machines", `[{"op":"remove","path":"/m/metadata/k"}]`},
	} {
		if code, body := l.do(c.method, c.path, c.body); code != 503 || body != want {
			t.Errorf("without the KV: %s %s: %d %s", c.method, c.path, code, body)
		}
	}
	_, err = l.client.Units(t.Context())
	if !client.IsUnavailable(err) {
		t.Errorf("client: %v", err)
	}
	s.client.Close()
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
