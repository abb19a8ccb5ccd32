package reset

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/initrd/reset"
	"github.com/coracle-os/coracle/rootfs/program"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args string
		want request
		err  bool
	}{
		{"", request{}, false},
		{"-y", request{yes: true}, false},
		{"-keep /var/lib/docker /home/core -y", request{keep: []string{"/var/lib/docker", "/home/core"}, yes: true}, false},
		{"-n -keep /a -keep /b", request{keep: []string{"/a", "/b"}, later: true}, false},
		{"/home", request{}, true},
		{"-z", request{}, true},
	} {
		got, err := parse(strings.Fields(c.args), io.Discard)
		if (err != nil) != c.err {
			t.Errorf("%q: error %v", c.args, err)
		}
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(request{})); err == nil && diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.args, diff)
		}
	}
}

func TestAsk(t *testing.T) {
	for answer, want := range map[string]error{"yes\n": nil, "yes": nil, "\n": errNo, "y\n": errNo, "": errNo} {
		var out strings.Builder
		err := ask([]string{"/home/core"}, program.Stdio{In: strings.NewReader(answer), Out: &out})
		if !errors.Is(err, want) || !strings.Contains(out.String(), "but /home/core") {
			t.Errorf("answer %q: %v after %q", answer, err, out.String())
		}
	}
}

func TestPlaces(t *testing.T) {
	resolve := func(path string) (string, error) {
		if strings.HasPrefix(path, "/home/") {
			path = "/var" + path
		}
		return path, nil
	}
	got, err := places([]string{"/home/core", "/etc/ssh", "/var/home/core"}, resolve)
	if diff := cmp.Diff([]string{"home/core", "lib/coracle/etc/upper/ssh"}, got); diff != "" || err != nil {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
	if _, err := places([]string{"/usr/bin"}, resolve); !errors.Is(err, reset.ErrOutside) {
		t.Errorf("/usr/bin: %v", err)
	}
}
