package systemdanalyze

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/rootfs/unit/calendar"
)

// fake is a PID 1 whose boot took 9 s, 2 s of them in the kernel.
type fake struct{ finish string }

func (f fake) Do(_ context.Context, req control.Request, each func(control.Response) error) error {
	unit := func(name, begin, end, after string) control.Unit {
		return control.Unit{Name: name, Properties: map[string]string{"InactiveExitTimestampMonotonic": begin, "ActiveEnterTimestampMonotonic": end, "After": after}}
	}
	units := []control.Unit{
		unit("multi-user.target", "9000000", "9000000", "slow.service quick.service never.service"),
		unit("slow.service", "3000000", "8500000", "basic.target"),
		unit("quick.service", "3000000", "3020000", "basic.target"),
		unit("a<b.service", "3000000", "3000500", ""),
		unit("basic.target", "2500000", "2500000", ""),
		unit("never.service", "0", "0", ""),
	}
	switch {
	case req.Verb == control.Show && len(req.Units) == 0:
		return each(control.Response{Units: []control.Unit{{Properties: map[string]string{"UserspaceTimestampMonotonic": "2000000", "FinishTimestampMonotonic": f.finish}}}})
	case req.Verb == control.Show, req.Verb == control.ListUnits:
		return each(control.Response{Units: units})
	}
	return errors.New("no such verb")
}

var now = time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)

func run(t *testing.T, m Machine, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	if m.Client == nil {
		m.Client = fake{"9000000"}
	}
	m.Zones, m.Now = calendar.Zones{Local: time.UTC, Load: time.LoadLocation}, now
	code = m.Run(context.Background(), append([]string{"systemd-analyze"}, args...), program.Stdio{Out: &o, Err: &e})
	return code, o.String(), e.String()
}

func TestBoot(t *testing.T) {
	for args, want := range map[string]string{
		"":      "Startup finished in 2s (kernel) + 7s (userspace) = 9s \nmulti-user.target reached after 7s in userspace.\n",
		"blame": "5.500s slow.service\n  20ms quick.service\n     0 a<b.service\n",
		"critical-chain": "The time when unit became active or started is printed after the \"@\" character.\n" +
			"The time the unit took to start is printed after the \"+\" character.\n\n" +
			"multi-user.target @7s\n└─slow.service @1s +5.500s\n  └─basic.target @500ms\n",
		"critical-chain --fuzz=1min quick": "The time when unit became active or started is printed after the \"@\" character.\n" +
			"The time the unit took to start is printed after the \"+\" character.\n\n" +
			"quick.service @1s +20ms\n└─basic.target @500ms\n",
	} {
		code, out, errs := run(t, Machine{}, strings.Fields(args)...)
		if d := cmp.Diff(want, out); d != "" || code != 0 {
			t.Errorf("%q: %d %s (-want +have):\n%s", args, code, errs, d)
		}
	}
	if code, _, errs := run(t, Machine{Client: fake{"0"}}, "blame"); code != 1 || !strings.Contains(errs, "not yet finished") {
		t.Errorf("before the end of the boot: %d, %s", code, errs)
	}
}

// TestPlot checks that the picture is XML and has every unit that started.
func TestPlot(t *testing.T) {
	code, out, _ := run(t, Machine{}, "plot")
	d := xml.NewDecoder(strings.NewReader(out))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"slow.service (5.500s)", "a&lt;b.service", "multi-user.target"} {
		if !strings.Contains(out, want) || code != 0 {
			t.Errorf("no %s in %d %s", want, code, out)
		}
	}
}

// TestAgainstSystemd compares the output with that of Debian's program.
func TestAgainstSystemd(t *testing.T) {
	for _, args := range [][]string{
		{"timespan", "1h 30min", "1.5", "infinity"}, {"timespan", "5 bananas"},
		{"calendar", "--base-time", "2026-03-28 12:00:00 UTC", "--iterations", "3", "daily", "*-*-* 00:00:00", "2016-02-30", "Mon 7:00 Asia/Kolkata"},
		{"calendar", "--base-time=2026-03-28", "nonsense"},
	} {
		cmd := exec.Command("systemd-analyze", args...)
		cmd.Env = append(os.Environ(), "TZ=UTC")
		b, err := cmd.Output()
		if errors.Is(err, exec.ErrNotFound) {
			t.Fatalf("%v: install the Debian package systemd", err)
		}
		code, out, errs := run(t, Machine{}, args...)
		if (code != 0) != (err != nil) || (errs != "") != (err != nil) {
			t.Errorf("%q: code %d, systemd: %v", args, code, err)
		}
		if d := cmp.Diff(undated(string(b)), undated(out)); d != "" {
			t.Errorf("%q (-systemd +ours):\n%s", args, d)
		}
	}
}

// undated leaves out what depends on the present time.
func undated(s string) string {
	var keep []string
	for _, line := range strings.Split(s, "\n") {
		if !strings.Contains(line, "From now: ") {
			keep = append(keep, line)
		}
	}
	return strings.Join(keep, "\n")
}

func TestVerify(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"home/good.service": "[Service]\nExecStart=/usr/bin/prog\n", "home/key.service": "[Service]\nExecStart=/usr/bin/prog\nWrong=1\n",
		"home/prog.service": "[Unit]\nRequires=missing.service\n[Service]\nExecStart=/usr/bin/none\n", "home/bad.service": "[Service]\nType=simple\n",
		"home/t@.service": "[Service]\nExecStart=/usr/bin/prog %i\n", "usr/bin/prog": "", "usr/lib/systemd/system/sysinit.target": "[Unit]\nDescription=x\n",
	} {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range map[string]struct {
		code int
		text string
	}{"good.service": {0, ""}, "t@.service": {0, ""}, "key.service": {0, "key.service:3: Unknown key name 'Wrong' in section 'Service', ignoring."},
		"prog.service": {1, "Command /usr/bin/none is not executable"}, "bad.service": {1, "Service has no ExecStart="}, "gone.service": {1, "no such file"}} {
		code, _, errs := run(t, Machine{Root: root}, "verify", filepath.Join(root, "home", file))
		if code != want.code || !strings.Contains(errs, want.text) || want.text == "" && errs != "" {
			t.Errorf("%s: %d, %q, want %d and %q", file, code, errs, want.code, want.text)
		}
	}
}

func TestUsage(t *testing.T) {
	for args, want := range map[string]string{"calendar": "Too few", "wrong": "Unknown command verb wrong.", "--wrong": "unknown flag", "calendar --base-time=x daily": "--base-time"} {
		if code, _, errs := run(t, Machine{}, strings.Fields(args)...); code != 1 || !strings.Contains(errs, want) {
			t.Errorf("%s: %d, %q", args, code, errs)
		}
	}
	if code, out, _ := run(t, Machine{}, "--help"); code != 0 || !strings.Contains(out, "critical-chain") {
		t.Errorf("help: %d, %q", code, out)
	}
}
