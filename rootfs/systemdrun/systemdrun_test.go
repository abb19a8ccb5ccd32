package systemdrun

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/program"
)

// fake is a PID 1 whose service ends with 3.
type fake struct{ asked []string }

func (f *fake) Do(_ context.Context, req control.Request, each func(control.Response) error) error {
	f.asked = append(f.asked, string(req.Verb)+" "+strings.Join(req.Units, " "))
	switch req.Verb {
	case control.Start:
		return each(control.Response{Results: []control.Result{{Unit: req.Units[0], Job: "done"}}})
	case control.Show:
		return each(control.Response{Units: []control.Unit{{Active: "failed", Properties: map[string]string{"ExecMainCode": "1", "ExecMainStatus": "3"}}}})
	}
	return nil
}

func run(t *testing.T, root string, args ...string) (int, string, *fake) {
	t.Helper()
	f := &fake{}
	var out, errs bytes.Buffer
	code := Machine{Root: root, Client: f}.Run(context.Background(), append([]string{"systemd-run"}, args...), program.Stdio{Out: &out, Err: &errs})
	return code, errs.String(), f
}

func TestService(t *testing.T) {
	root := t.TempDir()
	args := []string{"--unit=a", "-p", "CPUWeight=5", "--wait", "-G", "--uid=core", "-E", "A=1 %", "/bin/echo", "-n", "a b", "$X", "100%"}
	code, errs, f := run(t, root, args...)
	if code != 3 || errs != "Running as unit: a.service\n" {
		t.Errorf("%d, %q", code, errs)
	}
	if d := cmp.Diff([]string{"start a.service", "show a.service", "reset-failed a.service"}, f.asked); d != "" {
		t.Error(d)
	}
	b, err := os.ReadFile(filepath.Join(root, Directory, "a.service"))
	want := "[Unit]\nDescription=/bin/echo -n a b $X 100%%\n[Service]\nUser=core\nEnvironment=\"A=1 %%\"\n" +
		"ExecStart=\"/bin/echo\" \"-n\" \"a b\" \"$$X\" \"100%%\"\nCPUWeight=5\n"
	if d := cmp.Diff(want, string(b)); d != "" || err != nil {
		t.Errorf("%v (-want +have):\n%s", err, d)
	}
	if code, errs, _ := run(t, root, "--unit=a", "/bin/true"); code != 1 || !strings.Contains(errs, "already loaded") {
		t.Errorf("a second one: %d, %q", code, errs)
	}
}

func TestTimer(t *testing.T) {
	root := t.TempDir()
	_, errs, f := run(t, root, "--unit=b", "--on-active=5min", "--timer-property=AccuracySec=1s", "/bin/true")
	if errs != "Running timer as unit: b.timer\nWill run service as unit: b.service\n" || f.asked[0] != "start b.timer" {
		t.Errorf("%q, %q", errs, f.asked)
	}
	b, _ := os.ReadFile(filepath.Join(root, Directory, "b.timer"))
	if d := cmp.Diff("[Timer]\nRemainAfterElapse=no\nOnActiveSec=5min\nAccuracySec=1s\n", string(b)); d != "" {
		t.Error(d)
	}
}

func TestErrors(t *testing.T) {
	for args, want := range map[string]string{"": "no command", "--scope sh": "--scope is not supported", "--user sh": "--uid", "--pty --no-block sh": "--no-block", "--pipe --on-boot=1 sh": "timer", "-p x /bin/true": "NAME=VALUE", "--wait --on-boot=1 /bin/true": "--wait"} {
		if code, errs, _ := run(t, t.TempDir(), strings.Fields(args)...); code != 1 || !strings.Contains(errs, want) {
			t.Errorf("%q: %d, %q", args, code, errs)
		}
	}
}
