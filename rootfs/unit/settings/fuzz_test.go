package settings

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
)

// FuzzUnit reads any text as a unit of several kinds: no panic, always a
// state, and every warning has its file.
func FuzzUnit(f *testing.F) {
	for _, s := range []string{
		"[Unit]\nDescription=a\nAfter=b.service c@%i.service\n[Service]\nType=notify\nExecStart=-/bin/a \"b c\" 'd' ; @/bin/x y\nEnvironment=\"A=1 2\" B=\nLimitNOFILE=1:2\n",
		"[Socket]\nListenStream=/run/x\nListenStream=[::1]:5\nAccept=yes\n[Install]\nWantedBy=sockets.target\n",
		"[Service\n", "[Service]\nExecStart=/bin/a \\\n# c\n  b \\", "\ufeff[Unit]\r\nDescription=%\r\n", "[Mount]\nWhere=/a\nWhat=b\n",
		"[Timer]\nOnCalendar=daily\nOnBootSec=5\nOnBootSec=\n", "[Service]\nExecStart=/a \\x41\\q\\101 ${A} $B $$\nSuccessExitStatus=1 TERM SIGRTMIN+3 300\nCPUShares=5\nCPUQuota=1%\n",
		"[Unit]\nConditionPathExists=|!/a\nAssertPathExists=\nRequiresMountsFor=/a/b c\n[X-Y]\na=b\n", strings.Repeat("[Unit]\nWants=", 50),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, n := range []string{"a-b@c.service", "a.socket", "a.mount", "a.timer", "a.path", "a.slice"} {
			u := New(n)
			Apply(u, "/x", []byte(text), specifier.Expander{Name: n})
			Finish(u)
			if u.LoadState != unit.Loaded && u.LoadError == "" {
				t.Errorf("%s is %s without a reason", n, u.LoadState)
			}
			for _, w := range u.Warnings {
				if w.Path != "/x" || w.Text == "" {
					t.Errorf("warning %+v", w)
				}
			}
		}
	})
}

// FuzzCommands reads any text as a command line.
func FuzzCommands(f *testing.F) {
	for _, s := range []string{"/bin/a b c", "-@/bin/a \"b\\\"c\" ; : ;/x", "/a \\; ;", "!!/a '$B' ${C} $$", "/a %%i %n", "/a \"unclosed", "- /a", "/a \\", "/a \\x00\\u0041"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		list, _, _ := ParseCommands(line, specifier.Expander{Name: "a.service"})
		for _, c := range list {
			if len(c.Args) == 0 || c.Path == "" || strings.HasPrefix(c.Path, "/") && strings.HasSuffix(c.Path, "/") && c.Path != "/" {
				t.Errorf("%q gives %+v", line, c)
			}
			if got := c.Expand([]string{"A=x y", "B=\"p q\" r"}); len(got) == 0 || got[0] != c.Args[0] {
				t.Errorf("%q expands to %q", line, got)
			}
		}
	})
}

func TestCommands(t *testing.T) {
	for line, want := range map[string][]unit.Command{
		"-/bin/a":               {{Path: "/bin/a", Args: []string{"/bin/a"}, IgnoreFailure: true}},
		"@/bin//a b c":          {{Path: "/bin/a", Args: []string{"b", "c"}}},
		"+:/bin/a $X":           {{Path: "/bin/a", Args: []string{"/bin/a", "$X"}, FullPrivilege: true, NoEnv: true}},
		"!!a":                   {{Path: "a", Args: []string{"a"}, AmbientSetuid: true}},
		"/a x ; /b ';' ; \\; y": {{Path: "/a", Args: []string{"/a", "x"}}, {Path: "/b", Args: []string{"/b", ";"}}},
		`/a \x41"b c"d 'e\sf'`:  {{Path: "/a", Args: []string{"/a", "Ab cd", "e f"}}},
		"/a \\;":                {{Path: "/a", Args: []string{"/a", ";"}}},
	} {
		have, _, _ := ParseCommands(line, specifier.Expander{Name: "a.service"})
		if d := cmp.Diff(want, have); d != "" {
			t.Errorf("%q (-want +have):\n%s", line, d)
		}
	}
	for _, line := range []string{"a/b c", "/bin/ x", "--/a", "${X}/a", "/a %z", "@/a", "- /a"} {
		if have, _, err := ParseCommands(line, specifier.Expander{Name: "a.service"}); err == nil && len(have) > 0 {
			t.Errorf("%q gives %+v, want a refusal", line, have)
		}
	}
}

func TestExpand(t *testing.T) {
	env := []string{"V=a b", "E=", "Q='x y' z", "V=later wins"}
	c := unit.Command{Args: []string{"$V", "$V", "${V}", "p${V}s", "p$V", "$E", "${E}", "$Q", "$$V", "$", "a$", "${V:-x}", "${V", "$(f)", "${a${V}"}}
	want := []string{"$V", "later", "wins", "later wins", "plater winss", "p$V", "", "x y", "z", "$V", "a$", "${V:-x}", "${V", ""}
	if d := cmp.Diff(want, c.Expand(env)); d != "" {
		t.Errorf("(-want +have):\n%s", d)
	}
}
