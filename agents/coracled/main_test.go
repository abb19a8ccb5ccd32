package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/rootfs/program"
)

func TestRunPicksByName(t *testing.T) {
	for _, c := range []struct {
		args     []string
		code     int
		out, err string
	}{
		{[]string{"/usr/bin/etcd", "--version"}, 0, "etcd Version: 3.7.3", ""},
		{[]string{"coracled", "etcd", "--version"}, 0, "etcd Version: 3.7.3", ""},
		{[]string{"/usr/bin/etcdutl", "version"}, 0, "", ""},
		{[]string{"/usr/bin/fleetd", "--version"}, 0, "fleetd version 1.0.0", ""},
		{[]string{"coracled"}, 0, "Names: ", ""},
		{[]string{"coracled", "fortune"}, 127, "", `no program "fortune"`},
	} {
		var out, errOut bytes.Buffer
		code := run(context.Background(), c.args, program.Stdio{Out: &out, Err: &errOut})
		if code != c.code || !strings.Contains(out.String(), c.out) || !strings.Contains(errOut.String(), c.err) {
			t.Errorf("%q: exit code %d, output %q, %q", c.args, code, out.String(), errOut.String())
		}
	}
}
