package fleet

import "testing"

func TestSplitName(t *testing.T) {
	for _, test := range []struct {
		name, prefix, instance, suffix, template string
		templated                                bool
	}{
		{"web.service", "web", "", ".service", "", false},
		{"web@.service", "web", "", ".service", "", true},
		{"web@1.service", "web", "1", ".service", "web@.service", true},
		{"foo@bar@baz.service", "foo", "bar@baz", ".service", "foo@.service", true},
		{"a.b@c.d.timer", "a.b", "c.d", ".timer", "a.b@.timer", true},
		{"nodot", "nodot", "", "", "", false},
	} {
		prefix, instance, suffix, templated := SplitName(test.name)
		if prefix != test.prefix || instance != test.instance || suffix != test.suffix || templated != test.templated {
			t.Errorf("SplitName(%q) = %q, %q, %q, %v", test.name, prefix, instance, suffix, templated)
		}
		if got := TemplateOf(test.name); got != test.template {
			t.Errorf("TemplateOf(%q) = %q, want %q", test.name, got, test.template)
		}
	}
}

func TestFind(t *testing.T) {
	s := Snapshot{Units: []Unit{{Name: "a.service"}, {Name: "c.service"}}, Machines: []Machine{{ID: "1"}, {ID: "3"}}}
	if s.Unit("c.service") != &s.Units[1] || s.Unit("b.service") != nil {
		t.Error("Unit finds the wrong one")
	}
	if s.Machine("1") != &s.Machines[0] || s.Machine("2") != nil {
		t.Error("Machine finds the wrong one")
	}
}
