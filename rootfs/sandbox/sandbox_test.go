package sandbox

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/unit"
)

func TestNew(t *testing.T) {
	if p := New(unit.Sandbox{}, nil, nil); !p.Zero() {
		t.Errorf("of nothing: %+v", p)
	}
	p := New(unit.Sandbox{ProtectSystem: "strict", ProtectHome: "yes", ReadWritePaths: []string{"-/srv/x"}, ReadOnlyPaths: []string{"/var/a/"},
		InaccessiblePaths: []string{"/var/a"}, PrivateDevices: true, DropCapabilities: 1}, nil, []string{"/var/lib/own"})
	want := Plan{Rules: []Rule{{"/", Read, true}, {"/dev", Write, true}, {"/home", Hidden, true}, {"/proc", Write, true}, {"/root", Hidden, true},
		{"/run/user", Hidden, true}, {"/srv/x", Write, true}, {"/sys", Write, true}, {"/var/a", Hidden, false}, {"/var/lib/own", Write, true}},
		Devices: true, Drop: 1 | 1<<27 | 1<<17}
	if len(p.Programs) != 1 { // PrivateDevices= takes system calls away, too
		t.Errorf("%d seccomp programs", len(p.Programs))
	}
	p.Programs = nil
	if d := cmp.Diff(want, p); d != "" {
		t.Errorf("(-want +have):\n%s", d)
	}
	p = New(unit.Sandbox{PrivateTmp: true, ProtectSystem: "strict"}, []string{"/a", "/b"}, nil)
	for path, want := range map[string]Access{"/usr/x": Read, "/tmp": Write, "/tmp/x": Write, "/tmpx": Read, "/var/tmp/x": Write, "/var": Read, "/proc/1": Write} {
		if r, ok := at(p.Rules, path); !ok || r.Access != want {
			t.Errorf("%s: %+v, want %s", path, r, want)
		}
	}
	if d := cmp.Diff([]string{"/a", "/b"}, p.Private); d != "" {
		t.Error(d)
	}
}
