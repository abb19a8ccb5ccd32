package systemctl

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/program"
)

// fake is a PID 1 with fixed units.
type fake struct {
	units   []control.Unit
	results map[string]control.Result
	asked   []control.Request
}

func (f *fake) Do(_ context.Context, req control.Request, each func(control.Response) error) error {
	f.asked = append(f.asked, req)
	r := control.Response{Done: true}
	switch req.Verb {
	case control.Show:
		for _, n := range req.Units {
			found := control.Unit{Name: n, Load: "not-found", Active: "inactive", Sub: "dead", Properties: map[string]string{"Id": n, "LoadState": "not-found"}}
			for _, u := range f.units {
				if u.Name == n {
					found = u
				}
			}
			r.Units = append(r.Units, found)
		}
	case control.ListUnits:
		r.Units = f.units
	case control.IsSystemRunning:
		r.State = "degraded"
	case control.ListJobs:
		r.Jobs = []control.Job{{ID: 12, Unit: "b.service", Type: "start", State: "running"}, {ID: 3, Unit: "long-name.service", Type: "stop", State: "waiting"}}
	case control.Start, control.Stop, control.Reload:
		for _, n := range req.Units {
			res := f.results[n]
			res.Unit = n
			r.Results = append(r.Results, res)
		}
	case control.DaemonReload, control.PowerOff:
	default:
		return control.Errorf(control.Denied, "no")
	}
	return each(r)
}

func machine(t *testing.T) (Machine, *fake) {
	f := &fake{
		units: []control.Unit{
			{Name: "b.service", Load: "loaded", Active: "failed", Sub: "failed", Description: "The B", Properties: map[string]string{
				"Id": "b.service", "Result": "exit-code", "ExecMainCode": "1", "ExecMainStatus": "3", "ExecMainPID": "77", "User": "",
				"InactiveEnterTimestamp": "Sat 2026-11-21 01:00:00 UTC", "InactiveEnterTimestampMonotonic": "10000000"}},
			{Name: "a.service", Load: "loaded", Active: "active", Sub: "running", Description: "The A", Properties: map[string]string{
				"Id": "a.service", "MainPID": "42", "TasksCurrent": "3", "MemoryCurrent": "1572864", "CPUUsageNSec": "2500000000",
				"FragmentPath": "/etc/systemd/system/a.service", "DropInPaths": "/etc/systemd/system/a.service.d/1.conf /etc/systemd/system/a.service.d/2.conf",
				"ActiveEnterTimestamp": "Sat 2026-11-21 01:00:10 UTC", "ActiveEnterTimestampMonotonic": "20000000", "ControlGroup": "/system.slice/a.service",
				"ExecStart": "{ one }\n{ two }"}},
			{Name: "x.socket", Load: "loaded", Active: "active", Sub: "listening", Description: "S"},
		},
		results: map[string]control.Result{
			"ok.service":    {Job: "done"},
			"fail.service":  {Job: "failed", Detail: "exit-code"},
			"often.service": {Job: "failed", Detail: "start-limit-hit"},
			"nope.service":  {Error: control.Errorf(control.NotFound, "Unit nope.service not found.")},
			"bad.service":   {Error: control.Errorf(control.BadSetting, "Unit bad.service has a bad unit file setting.")},
			"dep.service":   {Job: "dependency"},
			"noreload":      {Error: control.Errorf(control.NotApplicable, "Job type reload is not applicable for unit noreload.service.")},
		},
	}
	f.results["noreload.service"] = f.results["noreload"]
	root := t.TempDir()
	return Machine{Root: root, Client: f, Monotonic: func() time.Duration { return 95 * time.Second },
		Journal: func(unit string, n int) ([]string, error) {
			return []string{"Nov 21 01:00:10 box a[42]: hello"}, nil
		},
		Force: func(string, bool) error { return errors.New("forced") }}, f
}

func write(t *testing.T, root, path, text string) {
	t.Helper()
	at := filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestCommands runs testdata/commands.txt: files named by a command line, with
// the exit code on the first line and then what is printed, errors after a
// line "stderr:".
func TestCommands(t *testing.T) {
	const path = "testdata/commands.txt"
	a, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range a.Files {
		m, _ := machine(t)
		write(t, m.Root, "etc/systemd/system/a.service", "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n")
		write(t, m.Root, "etc/systemd/system/a.service.d/1.conf", "[Service]\nUser=x")
		write(t, m.Root, "etc/systemd/system/a.service.d/2.conf", "[Service]\nUser=y\n")
		write(t, m.Root, "usr/lib/systemd/system/s.target", "[Unit]\nDescription=s\n")
		write(t, m.Root, "proc/42/comm", "aprog\n")
		write(t, m.Root, "proc/42/cmdline", "/bin/aprog\x00-x\x00")
		write(t, m.Root, "sys/fs/cgroup/system.slice/a.service/cgroup.procs", "42\n")
		var out, errs bytes.Buffer
		code := m.Run(context.Background(), strings.Fields(f.Name), program.Stdio{Out: &out, Err: &errs})
		have := "exit " + string(rune('0'+code)) + "\n" + out.String()
		if errs.Len() > 0 {
			have += "stderr:\n" + errs.String()
		}
		have = strings.ReplaceAll(have, m.Root, "ROOT")
		if os.Getenv("UPDATE_TESTDATA") != "" {
			a.Files[i].Data = []byte(have)
			continue
		}
		if d := cmp.Diff(string(f.Data), have); d != "" {
			t.Errorf("%s (-want +have):\n%s", f.Name, d)
		}
	}
	if os.Getenv("UPDATE_TESTDATA") != "" {
		if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRequests(t *testing.T) {
	for line, want := range map[string]control.Request{
		"systemctl start --no-block ok":             {Verb: control.Start, Units: []string{"ok.service"}, Flags: control.Flags{NoBlock: true}},
		"systemctl --job-mode=fail stop ok.service": {Verb: control.Stop, Units: []string{"ok.service"}, Flags: control.Flags{Mode: "fail"}},
		"systemctl stop /mnt/a-b":                   {Verb: control.Stop, Units: []string{`mnt-a\x2db.mount`}},
		"poweroff":                                  {Verb: control.PowerOff},
		"shutdown -h now":                           {Verb: control.PowerOff},
		"shutdown -r now":                           {Verb: control.Reboot},
		"reboot -f":                                 {Verb: control.Reboot, Flags: control.Flags{Force: 1}},
	} {
		m, f := machine(t)
		m.Run(context.Background(), strings.Fields(line), program.Stdio{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}})
		if len(f.asked) == 2 && f.asked[1].Verb == control.Show {
			f.asked = f.asked[:1] // what to warn of
		}
		if len(f.asked) != 1 {
			t.Errorf("%s: asked %v", line, f.asked)
			continue
		}
		if d := cmp.Diff(want, f.asked[0]); d != "" {
			t.Errorf("%s (-want +have):\n%s", line, d)
		}
	}
}

func TestShorten(t *testing.T) {
	for _, test := range []struct {
		line  string
		width int
		want  string
	}{
		{"a line", 0, "a line"}, {"a line", 6, "a line"}, {"a line", 4, "a l…"}, {"├─1 ä", 4, "├─1…"},
	} {
		if got := shorten(test.line, test.width); got != test.want {
			t.Errorf("shorten(%q, %d) = %q, want %q", test.line, test.width, got, test.want)
		}
	}
}
