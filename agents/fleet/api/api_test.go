package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/agents/fleet"
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

// TestPagesInBrowsers: what a page of anybody can have a browser send to an
// address of this machine changes nothing.
func TestPagesInBrowsers(t *testing.T) {
	l := newLab(t)
	for _, path := range []string{"/rebalance", "/plan", "/units/a.service/rollback"} {
		if code, body := l.send("POST", "/fleet/v1"+path, "{}", http.Header{"Content-Type": {"text/plain"}}); code != 415 {
			t.Errorf("%s: %d %s", path, code, body)
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
