package name

import "testing"

func TestParts(t *testing.T) {
	for _, c := range []struct{ name, kind, prefix, instance, template string }{
		{"a.service", "service", "a", "", ""},
		{"a@b.c@d.service", "service", "a", "b.c@d", "a@.service"},
		{"a@.socket", "socket", "a", "", ""},
		{"-.slice", "slice", "-", "", ""},
	} {
		i, _ := Instance(c.name)
		if Kind(c.name) != c.kind || Prefix(c.name) != c.prefix || i != c.instance || Template(c.name) != c.template || !Valid(c.name) {
			t.Errorf("%s: %s, %s, %s, %s, %v", c.name, Kind(c.name), Prefix(c.name), i, Template(c.name), Check(c.name))
		}
	}
	for _, bad := range []string{"", "a", ".service", "@a.service", "a b.service", "a/b.service", "a.foo", "ä.service"} {
		if Valid(bad) {
			t.Errorf("%q is taken as valid", bad)
		}
	}
}

func TestMangle(t *testing.T) {
	for in, want := range map[string]string{"a": "a.service", "a.socket": "a.socket", "/mnt/x-y": `mnt-x\x2dy.mount`,
		"/dev/sda1": "dev-sda1.device", "a b.mount": `a\x20b.mount`, "a@b": "a@b.service"} {
		if have := Mangle(in, "service"); have != want {
			t.Errorf("Mangle(%q) = %q, want %q", in, have, want)
		}
	}
}

// FuzzEscape checks that what is escaped can be unescaped again.
func FuzzEscape(f *testing.F) {
	for _, s := range []string{"a-b", ".x", "/", "a/b", "ü\x00", `\x2d`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		back, err := Unescape(Escape(s))
		if err != nil || back != s {
			t.Errorf("Unescape(Escape(%q)) = %q, %v", s, back, err)
		}
	})
}
