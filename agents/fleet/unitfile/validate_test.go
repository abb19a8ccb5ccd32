package unitfile

import (
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	for section, want := range map[string]string{
		"":                                   "",
		"MachineMetadata=a=b\nGlobal=true":   "",
		"MachineID=abc":                      "",
		"MachineID=abc\nMachineMetadata=a=b": "",
		"MachineOf=foo.service\nConflicts=bar.service":               "",
		"MachineOf=foo.service\nReplaces=bar.service":                "",
		"MachineOf=foo.service\nConflicts=foo*":                      `unresolvable requirements: peer "foo.service" matches conflict "foo*"`,
		"MachineOf=foo.service\nX-Conflicts=bar.service foo.service": `unresolvable requirements: peer "foo.service" matches conflict "foo.service"`,
		"MachineOf=foo.service\nConflicts=[":                         "",
		"MachineOf=foo.service\nReplaces=foo*":                       `unresolvable requirements: peer "foo.service" matches replace "foo*"`,
		"MachineID=abc\nMachineOf=foo.service\nConflicts=foo*":       `unresolvable requirements: peer "foo.service" matches conflict "foo*"`,
		"MachineID=abc\nMachineOf=foo.service":                       "MachineID cannot be used with Peers",
		"X-ConditionMachineID=abc\nX-ConditionMachineOf=foo":         "MachineID cannot be used with Peers",
		"MachineID=abc\nConflicts=foo*":                              "MachineID cannot be used with Conflicts",
		"MachineID=abc\nGlobal=true":                                 "MachineID cannot be used with Global",
		"MachineID=abc\nGlobal=false":                                "",
		"MachineID=abc\nReplaces=foo*":                               "MachineID cannot be used with Replaces",
		"Global=true\nMachineOf=foo.service":                         "Global cannot be used with Peers",
		"Global=true\nReplaces=foo*":                                 "Global cannot be used with Replaces",
		"Global=true\nConflicts=foo*":                                "",
		"Conflicts=foo*\nReplaces=bar*":                              "Conflicts cannot be used with Replaces",
		"Global=true\nReplicas=2":                                    "Global cannot be used with Replicas: it already is one copy on every machine",
		"Global=true\nSpreadOver=rack":                               "Global cannot be used with SpreadOver: it already is one copy on every machine",
		"MachineID=abc\nReplicas=2":                                  "MachineID cannot be used with Replicas: name.service has one copy on a machine; use a template name@.service for more",
		"MachineID=abc\nReplicas=1":                                  "",
	} {
		err := parse(t, "[X-Fleet]\n"+section+"\n").Validate("a.service")
		if (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%q: %v, want %q", section, err, want)
		}
	}
	if err := parse(t, "[X-Fleet]\nMachineID=abc\nReplicas=2\n").Validate("a@.service"); err != nil {
		t.Errorf("a template's instances on one machine: %v", err)
	}
}

func TestValidateName(t *testing.T) {
	bad := map[string]string{
		"":                                    "unit name cannot be empty",
		strings.Repeat("a", 249) + ".service": "unit name exceeds maximum length (256)",
		"foo":                                 `unit name must contain "."`,
		"foo.":                                `unit name cannot end in "."`,
		"bar.foo":                             `invalid unit type: "foo"`,
		"foo.service.":                        `unit name cannot end in "."`,
		"foo.Service":                         `invalid unit type: "Service"`,
		"foo.service ":                        `invalid unit type: "service "`,
		"foo@.mount":                          `invalid unit type for template: "mount"`,
		"foo@1.slice":                         `invalid unit type for template: "slice"`,
		"fo%o.service":                        `invalid character '%' in unit name`,
		"fo o.service":                        `invalid character ' ' in unit name`,
		"fo/o.service":                        `invalid character '/' in unit name`,
		"fo\no.service":                       `invalid character '\n' in unit name`,
		"fo\x00o.service":                     `invalid character '\x00' in unit name`,
		"föo.service":                         `invalid character 'ö' in unit name`,
		"fo$o.service":                        `invalid character '$' in unit name`,
		"@foo.service":                        `unit name cannot start in "@"`,
		"@.service":                           `unit name cannot start in "@"`,
	}
	for name, want := range bad {
		if err := ValidateName(name); err == nil || err.Error() != want {
			t.Errorf("ValidateName(%q): %v, want %s", name, err, want)
		}
	}
	for _, name := range []string{
		"foo.service", "foo.socket", "foo.path", "foo.timer", "foo.mount", "foo.automount", "foo.device", "foo.swap",
		"foo.target", "foo.slice", "foo.scope", "foo.snapshot", "foo.busname", "foo@.service", "foo@bar.timer", "foo@b@z.path",
		"a:b_c.d-e\\x20.service", ".service", strings.Repeat("a", 248) + ".service",
	} {
		if err := ValidateName(name); err != nil {
			t.Errorf("ValidateName(%q): %v", name, err)
		}
	}
}

func TestCompleteName(t *testing.T) {
	for argument, want := range map[string]string{
		"foo": "foo.service", "foo.service": "foo.service", "x.target": "x.target.service", "/etc/units/foo.timer": "foo.timer",
		"foo.link": "foo.link.service", "dir/foo@1": "foo@1.service", "a.automount": "a.automount", "b.swap": "b.swap.service",
	} {
		if got := CompleteName(argument); got != want {
			t.Errorf("CompleteName(%q) = %q, want %q", argument, got, want)
		}
	}
}
