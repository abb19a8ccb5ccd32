package layout

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/agents/fleet"
)

func TestKeys(t *testing.T) {
	k := NewKeys("")
	for _, test := range []struct {
		key, want string
		kind      Kind
		name      Name
	}{
		{k.Content("abc"), "/_coreos.com/fleet/unit/abc", Content, Name{First: "abc"}},
		{k.Job("a.service"), "/_coreos.com/fleet/job/a.service", Job, Name{First: "a.service"}},
		{k.Placement("m", "a.service"), "/_coreos.com/fleet/schedule/m/a.service", Placement, Name{"m", "a.service"}},
		{k.State("m", "a.service"), "/_coreos.com/fleet/states/m/a.service", State, Name{"m", "a.service"}},
		{k.Machine("m"), "/_coreos.com/fleet/machines/m/object", Machine, Name{First: "m"}},
		{k.Metadata("m", "a.b"), "/_coreos.com/fleet/machines/m/metadata/a.b", Metadata, Name{"m", "a.b"}},
		{k.Drain("m"), "/_coreos.com/fleet/machines/m/drain", Drain, Name{First: "m"}},
		{k.Leader(), "/_coreos.com/fleet/lease/engine-leader", Leader, Name{}},
		{k.EngineVersion(), "/_coreos.com/fleet/engine/version", EngineVersion, Name{}},
		{k.Job(""), "/_coreos.com/fleet/job/", Unknown, Name{}},
		{k.Prefix + "job/a/b", "/_coreos.com/fleet/job/a/b", Unknown, Name{}},
		{k.Prefix + "schedule//a", "/_coreos.com/fleet/schedule//a", Unknown, Name{}},
		{"/elsewhere", "/elsewhere", Unknown, Name{}},
	} {
		if test.key != test.want {
			t.Errorf("the key is %q, want %q", test.key, test.want)
		}
		if kind, name := k.Parse(test.key); kind != test.kind || name != test.name {
			t.Errorf("Parse(%q) is %v, %v, want %v, %v", test.key, kind, name, test.kind, test.name)
		}
	}
	for prefix, want := range map[string]string{"": DefaultPrefix, "/": DefaultPrefix, "a": "/a/", "/a/b/": "/a/b/"} {
		if got := NewKeys(prefix).Prefix; got != want {
			t.Errorf("NewKeys(%q) is %q, want %q", prefix, got, want)
		}
	}
}

// TestValues: what is written is read, and looks as other programs may expect.
func TestValues(t *testing.T) {
	hash := HashOf("[Service]\nExecStart=/bin/sleep 100\n")
	if hash != "1c6fb6f3684bafb0c173d8b8b957ceff031180c1" { // fleet's own
		t.Errorf("hash %s", hash)
	}
	unit := fleet.Unit{Name: "a.service", Hash: hash, Desired: fleet.Launched, Rollout: &fleet.Rollout{Parallel: 2, WaitHealthy: time.Minute, Previous: hash}}
	placement := fleet.Placement{Machine: "m", Unit: "a.service", Hash: hash, State: fleet.Inactive}
	machine := fleet.Machine{ID: "m", BootID: "b", PublicIP: "10.0.0.1", Metadata: map[string]string{"k": "v"}, Version: "1", CPU: 1, Memory: 2}
	state := fleet.UnitState{Machine: "m", Unit: "a.service", Hash: hash, Load: "loaded", Active: "active", Sub: "running", Since: time.Unix(1e9, 5).UTC()}
	for _, test := range []struct {
		value, text string
		want        any
		read        func([]byte) (any, error)
	}{
		{EncodeJob(unit), `{"Name":"a.service","Hash":"` + hash + `","DesiredState":"launched","Rollout":{"Parallel":2,"WaitHealthy":"1m0s","Previous":"` + hash + `"}}`,
			unit, func(b []byte) (any, error) { return DecodeJob("a.service", b) }},
		{EncodePlacement(placement), `{"Hash":"` + hash + `","State":"inactive"}`,
			placement, func(b []byte) (any, error) { return DecodePlacement(Name{"m", "a.service"}, b) }},
		{EncodeMachine(machine), `{"ID":"m","BootID":"b","PublicIP":"10.0.0.1","Metadata":{"k":"v"},"Version":"1","CPU":1,"Memory":2}`,
			machine, func(b []byte) (any, error) { return DecodeMachine("m", b) }},
		{EncodeState(state), `{"Hash":"` + hash + `","Load":"loaded","Active":"active","Sub":"running","Since":"2001-09-09T01:46:40.000000005Z"}`,
			state, func(b []byte) (any, error) { return DecodeState(Name{"m", "a.service"}, b) }},
		{EncodeDrain(Drained{Reason: "r", BootID: "b"}), `{"Reason":"r","BootID":"b"}`,
			Drained{Reason: "r", BootID: "b"}, func(b []byte) (any, error) { return DecodeDrain(b) }},
		{EncodeEngine(Engine{"m", 1}), `{"MachineID":"m","Version":1}`,
			Engine{"m", 1}, func(b []byte) (any, error) { return DecodeEngine(b) }},
	} {
		if test.value != test.text {
			t.Errorf("written %s, want %s", test.value, test.text)
		}
		got, err := test.read([]byte(test.value))
		if err != nil {
			t.Errorf("%s: %v", test.value, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", test.value, diff)
		}
	}
}

// FuzzValues: no value brings a reader down, and what is read can be written
// and read again.
func FuzzValues(f *testing.F) {
	hash := HashOf("")
	f.Add("a.service", `{"Name":"a.service","Hash":"`+hash+`","DesiredState":"loaded","Rollout":{"Parallel":1,"WaitHealthy":"1s"}}`)
	f.Add(hash, `{"Raw":""}`)
	f.Add("m", `{"ID":"m","CPU":1}`)
	f.Add("m", `{"Hash":"`+hash+`","Load":"loaded","Active":"active","Since":"9999-12-31T23:59:59-01:00"}`)
	f.Fuzz(func(t *testing.T, name, value string) {
		b, n := []byte(value), Name{name, name}
		again(t, b, func(b []byte) (fleet.Unit, error) { return DecodeJob(name, b) }, EncodeJob)
		again(t, b, func(b []byte) (fleet.Placement, error) { return DecodePlacement(n, b) }, EncodePlacement)
		again(t, b, func(b []byte) (fleet.Machine, error) { return DecodeMachine(name, b) }, EncodeMachine)
		again(t, b, func(b []byte) (fleet.UnitState, error) { return DecodeState(n, b) }, EncodeState)
		again(t, b, DecodeDrain, EncodeDrain)
		again(t, b, DecodeEngine, EncodeEngine)
		if raw, err := DecodeContent(name, b); err == nil {
			if text, err := EncodeContent(raw); err != nil || HashOf(raw) != name {
				t.Errorf("%q, %v", text, err)
			}
		}
		NewKeys(name).Parse(value)
	})
}

func again[V any](t *testing.T, value []byte, read func([]byte) (V, error), write func(V) string) {
	t.Helper()
	first, err := read(value)
	if err != nil {
		return
	}
	text := write(first)
	second, err := read([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("%s: (-first +second)\n%s", text, diff)
	}
}
