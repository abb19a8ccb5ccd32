package unitfile

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/agents/fleet"
)

func TestRequirements(t *testing.T) {
	for _, test := range []struct {
		about, name, section string
		want                 fleet.Requirements
		warnings             []string // beginnings
	}{
		{"nothing", "a.service", "", fleet.Requirements{}, nil},
		{"peers", "a.service", "MachineOf=b.service\nX-ConditionMachineOf=\"c.service\" \"d.service\"",
			fleet.Requirements{MachineOf: []string{"c.service", "d.service", "b.service"}}, nil},
		{"peers without quotes are one", "a.service", "MachineOf=b.service c.service",
			fleet.Requirements{MachineOf: []string{"b.service c.service"}}, []string{"MachineOf=b.service c.service is one name"}},
		{"conflicts", "a.service", "X-Conflicts=*bar*\nConflicts=b.* c.*\nConflicts=\"d\" \"e\"\nConflicts=[",
			fleet.Requirements{Conflicts: []string{"*bar*", "b.*", "c.*", "d", "e", "["}}, []string{"Conflicts=[ is not a pattern"}},
		{"replaces", "a.service", "Replaces=b.service\nReplaces=c.*",
			fleet.Requirements{Replaces: []string{"b.service", "c.*"}}, nil},
		{"first machine wins", "a.service", `MachineID="123" "456"`, fleet.Requirements{MachineID: "123"}, nil},
		{"machine by its alias", "a.service", "X-ConditionMachineBootID=1\nX-ConditionMachineID=2", fleet.Requirements{MachineID: "2"}, nil},
		{"machine by its name", "a.service", "X-ConditionMachineID=2\nMachineID=3", fleet.Requirements{MachineID: "3"}, nil},
		{"machine by its boot id", "a.service", "X-ConditionMachineBootID=1", fleet.Requirements{MachineID: "1"}, nil},
		{"empty machine", "a.service", "MachineID=", fleet.Requirements{}, []string{"MachineID= is empty"}},
		{"metadata", "a.service", "MachineMetadata=\"a=b\" \"c=d\"\nMachineMetadata=a=e\nX-ConditionMachineMetadata=f=g",
			fleet.Requirements{Metadata: map[string][]string{"a": {"b", "e"}, "c": {"d"}, "f": {"g"}}}, nil},
		{"metadata that says nothing", "a.service", "MachineMetadata=a=b c=d\nMachineMetadata=a=\nMachineMetadata==b\nMachineMetadata=a",
			fleet.Requirements{}, []string{"MachineMetadata=a=b c=d is not", "MachineMetadata=a= is not", "MachineMetadata==b is not", "MachineMetadata=a is not"}},
		{"last global wins", "a.service", "Global=no\nGlobal=TRUE", fleet.Requirements{Global: true}, nil},
		{"global that is not", "a.service", "Global=true\nGlobal=false", fleet.Requirements{}, nil},
		{"global that is nothing", "a.service", "Global=truth", fleet.Requirements{}, nil},
		{"unknown", "a.service", "Bogus=1\nglobal=true\nBogus=2", fleet.Requirements{Unknown: []string{"Bogus", "global"}},
			[]string{`unrecognized requirement in [X-Fleet] section: "Bogus"`, `unrecognized requirement in [X-Fleet] section: "global"`}},
		{"specifiers", "ssh@2.service", `Conflicts=%n %N %p %i x%px`,
			fleet.Requirements{Conflicts: []string{"ssh@2.service", "ssh@2", "ssh", "2", "xsshx"}}, nil},
		{"specifiers without an instance", "ssh.service", `MachineOf="%n" "%N" "%p" "%i"`,
			fleet.Requirements{MachineOf: []string{"ssh.service", "ssh", "ssh", ""}}, nil},
		{"specifiers of a name without a dot", "ssh", `MachineOf=%n%N%p%i`, fleet.Requirements{MachineOf: []string{"%n%N%p%i"}}, nil},
		{"added", "a.service", "CPU=0.5\nMemory=2G\nReplicas=3\nSpreadOver=rack\nMaxPerMachine=2\nFence=no",
			fleet.Requirements{CPU: 500, Memory: 2 << 30, Replicas: 3, SpreadOver: "rack", MaxPerMachine: 2, NoFence: true}, nil},
		{"added, the last counts", "a.service", "CPU=2\nCPU=500m\nMemory=1G\nMemory=\nFence=no\nFence=yes\nFence=yes",
			fleet.Requirements{CPU: 500}, nil},
	} {
		t.Run(test.about, func(t *testing.T) {
			got, warnings, err := parse(t, "[X-Fleet]\n"+test.section+"\n[Other]\nGlobal=true\n").Requirements(test.name)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if len(warnings) != len(test.warnings) {
				t.Fatalf("warnings: %q", warnings)
			}
			for i, want := range test.warnings {
				if !strings.HasPrefix(warnings[i], want) {
					t.Errorf("warning %q, want %q", warnings[i], want)
				}
			}
		})
	}
}

func TestGlobal(t *testing.T) {
	for value, want := range map[string]bool{
		"true": true, "yes": true, "1": true, "on": true, "t": true, "On": true, "YES": true, "T": true,
		"": false, "no": false, "0": false, "false": false, "y": false, "truee": false, "2": false,
	} {
		req, _, err := parse(t, "[X-Fleet]\nGlobal="+value+"\n").Requirements("a.service")
		if err != nil || req.Global != want {
			t.Errorf("Global=%s is %v, %v", value, req.Global, err)
		}
	}
}

func TestMultiValue(t *testing.T) {
	for value, want := range map[string][]string{
		`"bar" "ping" "pong"`: {"bar", "ping", "pong"},
		`"bar"`:               {"bar"},
		``:                    {""},
		`""`:                  {""},
		`"bar`:                {`"bar`},
		`bar"`:                {`bar"`},
		`foo\"bar`:            {`foo\"bar`},
		`"bar" "`:             {"bar", ""},
		`"foo\"bar"`:          {`foo\bar`},
		`"a b" "c"`:           {"a b", "c"},
	} {
		if diff := cmp.Diff(want, multiValue(value)); diff != "" {
			t.Errorf("%s: %s", value, diff)
		}
	}
}

func TestAdded(t *testing.T) {
	for text, want := range map[string]int64{"0.5": 500, "500m": 500, "2": 2000, "0.125": 125, "1.5": 1500, "0": 0, "64": 64000} {
		if got, err := parseCPU(text); got != want || err != nil {
			t.Errorf("CPU=%s is %d, %v", text, got, err)
		}
	}
	for line, want := range map[string]string{
		"CPU=x":           `CPU= in section [X-Fleet]: "x" is not a number of processors: write for example "2", "0.5" or "500m"`,
		"CPU=-1":          `"-1" is not a number of processors`,
		"CPU=1.":          `"1." is not a number of processors`,
		"CPU=.5":          `".5" is not a number of processors`,
		"CPU=1.2345":      `"1.2345" is not a number of processors`,
		"CPU=1.x":         `"1.x" is not a number of processors`,
		"CPU=1e3":         `"1e3" is not a number of processors`,
		"CPU=99999999":    `"99999999" is not a number of processors`,
		"CPU=inf":         `"inf" is not a number of processors`,
		"Memory=lots":     `Memory= in section [X-Fleet]: parse size "lots": write a number with K, M, G or T`,
		"Memory=infinity": `parse size "infinity"`,
		"Memory=-1":       `parse size "-1"`,
		"Memory=9E":       `parse size "9E": it is larger than 8 EiB`,
		"Replicas=0":      `"0" is not a number from 1 to 10000 (for no copy at all, stop the unit)`,
		"Replicas=10001":  `"10001" is not a number from 1 to 10000`,
		"MaxPerMachine=0": `MaxPerMachine= in section [X-Fleet]: "0" is not a number`,
		"SpreadOver=a=b":  `SpreadOver= in section [X-Fleet]: "a=b" is not a key of machines' metadata`,
		"Fence=maybe":     `Fence= in section [X-Fleet]: "maybe" is neither yes nor no`,
	} {
		f := parse(t, "[X-Fleet]\n"+line+"\n")
		if err := f.Validate("a.service"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
}

func TestExpand(t *testing.T) {
	f := parse(t, "[X-Fleet]\nMachineMetadata=\"host=%i\" \"%p=x\"\nConflicts=%p@*.service\nMachineOf=db@%i.service\nReplaces=%n\nReplicas=3\n")
	template, _, err := f.Requirements("web@.service")
	if err != nil {
		t.Fatal(err)
	}
	want, _, err := f.Requirements("web@2.service")
	if err != nil {
		t.Fatal(err)
	}
	if want.MachineOf[0] != "db@2.service" || template.MachineOf[0] != "db@%i.service" {
		t.Errorf("MachineOf: %q, %q", want.MachineOf, template.MachineOf)
	}
	if diff := cmp.Diff(want, Expand(template, "web@2.service")); diff != "" {
		t.Error(diff)
	}
}
