package install

import (
	"bufio"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/unit/load"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
)

// open looks at the files below root.
func open(t *testing.T, root string) *Installer {
	t.Helper()
	i, err := New(load.New(os.DirFS(root), func() specifier.Host { return specifier.Host{Hostname: "box"} }))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func write(t *testing.T, root, path, text string) {
	t.Helper()
	at := filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	var err error
	if to, ok := strings.CutPrefix(text, "-> "); ok {
		err = os.Symlink(to, at)
	} else {
		err = os.WriteFile(at, []byte(text), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestRecorded makes the links that systemd 252 was seen to make.
func TestRecorded(t *testing.T) {
	f, err := os.Open("testdata/recorded.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var c struct {
			Name  string
			Files map[string]string
			Steps []struct {
				Do, Unit, Path, Link, Cmd, Out, Err string
				Exists                              *bool
				RC                                  int
			}
		}
		if err := json.Unmarshal(s.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		t.Run(c.Name, func(t *testing.T) {
			root := t.TempDir()
			for p, text := range c.Files {
				write(t, root, p, text)
			}
			verbs := map[string]func(*Installer, []string, Options) (Plan, error){"enable": (*Installer).Enable,
				"disable": (*Installer).Disable, "mask": (*Installer).Mask, "unmask": (*Installer).Unmask, "preset": (*Installer).Preset}
			for _, step := range c.Steps {
				at := filepath.Join(root, step.Path)
				switch {
				case verbs[step.Do] != nil:
					p, err := verbs[step.Do](open(t, root), strings.Fields(step.Unit), Options{})
					if err == nil {
						err = errors.Join(Apply(root, p.Changes), p.Failed)
					}
					if (err != nil) != (step.RC != 0) || err != nil && !regexp.MustCompile(step.Err).MatchString(err.Error()) {
						t.Errorf("%s %s: %v, want exit code %d (%s)", step.Do, step.Unit, err, step.RC, step.Err)
					}
				case step.Do == "file" && step.Link != "":
					if to, err := os.Readlink(at); to != step.Link {
						t.Errorf("%s links to %q, %v; want %q", step.Path, to, err, step.Link)
					}
				case step.Do == "file" && step.Exists != nil:
					if _, err := os.Lstat(at); errors.Is(err, fs.ErrNotExist) == *step.Exists {
						t.Errorf("%s: %v, want it to exist: %v", step.Path, err, *step.Exists)
					}
				case strings.HasPrefix(step.Cmd, "systemctl is-enabled "):
					state, err := open(t, root).State(strings.Fields(step.Cmd)[2])
					out := string(state)
					if err != nil {
						out = "Failed to get unit file state for " + strings.Fields(step.Cmd)[2] + ": " + err.Error()
					}
					if out != step.Out || state.Good() != (step.RC == 0) {
						t.Errorf("%s: %q, want %q, exit code %d", step.Cmd, out, step.Out, step.RC)
					}
				}
			}
		})
	}
}

// TestStates looks at one file of each state.
func TestStates(t *testing.T) {
	root := t.TempDir()
	wanted := "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=m.target\n"
	for p, text := range map[string]string{
		"usr/lib/systemd/system/enabled.service":               wanted,
		"etc/systemd/system/m.target.wants/enabled.service":    "-> /usr/lib/systemd/system/enabled.service",
		"usr/lib/systemd/system/run.service":                   wanted,
		"run/systemd/system/m.target.wants/run.service":        "-> /usr/lib/systemd/system/run.service",
		"usr/lib/systemd/system/disabled.service":              wanted,
		"usr/lib/systemd/system/vendor.service":                wanted,
		"usr/lib/systemd/system/m.target.wants/vendor.service": "-> ../vendor.service",
		"usr/lib/systemd/system/static.service":                "[Service]\nExecStart=/bin/true\n",
		"usr/lib/systemd/system/also.service":                  "[Service]\nExecStart=/bin/true\n[Install]\nAlso=x.service\n",
		"usr/lib/systemd/system/alias.service":                 "-> static2.service",
		"usr/lib/systemd/system/static2.service":               "[Service]\nExecStart=/bin/true\n",
		"usr/lib/systemd/system/e.service":                     "[Service]\nExecStart=/bin/true\n",
		"etc/systemd/system/e2.service":                        "-> e.service",
		"etc/systemd/system/masked.service":                    "-> /dev/null",
		"run/systemd/system/maskedrun.service":                 "-> /dev/null",
		"etc/systemd/system/empty.service":                     "",
		"opt/linked.service":                                   wanted,
		"etc/systemd/system/linked.service":                    "-> /opt/linked.service",
		"usr/lib/systemd/system/t@.service":                    wanted,
		"etc/systemd/system/m.target.wants/t@1.service":        "-> /usr/lib/systemd/system/t@.service",
		"run/systemd/generator/gen.service":                    "[Service]\nExecStart=/bin/true\n",
		"usr/lib/systemd/system/dropin.service":                "[Service]\nExecStart=/bin/true\n",
		"etc/systemd/system/dropin.service.d/x.conf":           "[Install]\nWantedBy=m.target\n",
	} {
		write(t, root, p, text)
	}
	i := open(t, root)
	have := map[string]State{}
	want := map[string]State{"enabled.service": Enabled, "run.service": EnabledRuntime, "disabled.service": Disabled, "vendor.service": Disabled,
		"static.service": Static, "also.service": Indirect, "alias.service": Alias, "e.service": Indirect, "e2.service": Alias,
		"masked.service": Masked, "maskedrun.service": MaskedRuntime, "empty.service": Masked, "linked.service": Linked,
		"t@.service": Indirect, "t@1.service": Enabled, "t@2.service": Disabled, "gen.service": Generated, "dropin.service": Disabled}
	for n := range want {
		s, err := i.State(n)
		if err != nil {
			t.Error(n, err)
		}
		have[n] = s
	}
	if d := cmp.Diff(want, have); d != "" {
		t.Errorf("(-want +have):\n%s", d)
	}
}

// TestDisable takes away what Enable made, of all kinds, and only that.
func TestDisable(t *testing.T) {
	root := t.TempDir()
	write(t, root, "usr/lib/systemd/system/a.service", "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=m.target n-%H.target\nRequiredBy=r.service\nAlias=b.service\nAlso=c.socket\n")
	write(t, root, "usr/lib/systemd/system/c.socket", "[Socket]\nListenStream=1\n[Install]\nWantedBy=sockets.target\n")
	write(t, root, "etc/systemd/system/m.target.wants/other.service", "-> /usr/lib/systemd/system/other.service")
	p, err := open(t, root).Enable([]string{"a.service"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := Apply(root, p.Changes); err != nil {
		t.Fatal(err)
	}
	if len(p.Changes) != 5 {
		t.Errorf("enable: %v", p.Changes)
	}
	if again, err := open(t, root).Enable([]string{"a.service"}, Options{}); err != nil || len(again.Changes) != 0 {
		t.Errorf("enable again: %v, %v", again.Changes, err)
	}
	q, err := open(t, root).Disable([]string{"a.service"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := Apply(root, q.Changes); err != nil {
		t.Fatal(err)
	}
	left := []string{}
	filepath.WalkDir(filepath.Join(root, "etc"), func(p string, d fs.DirEntry, err error) error {
		if !d.IsDir() {
			left = append(left, filepath.Base(p))
		}
		return err
	})
	if d := cmp.Diff([]string{"other.service"}, left); d != "" {
		t.Error(d)
	}
}

func TestRefusals(t *testing.T) {
	root := t.TempDir()
	write(t, root, "usr/lib/systemd/system/a.service", "[Service]\nExecStart=/bin/true\n[Install]\nAlias=b.service c.target\n")
	write(t, root, "usr/lib/systemd/system/l.service", "-> a.service")
	write(t, root, "etc/systemd/system/m.service", "-> /dev/null")
	write(t, root, "etc/systemd/system/f.service", "[Service]\n")
	for _, names := range [][]string{{"nope.service"}, {"l.service"}, {"m.service"}, {"a.service"}, {"bad"}, {"/opt/none.service"}} {
		if p, err := open(t, root).Enable(names, Options{}); err == nil && p.Failed == nil {
			t.Errorf("enable %v: %v, want an error", names, p)
		}
	}
	if p, err := open(t, root).Mask([]string{"f.service"}, Options{}); err == nil && p.Failed == nil {
		t.Errorf("mask over a file: %v", p)
	}
	if _, err := open(t, root).Disable([]string{"nope.service"}, Options{}); err == nil {
		t.Error("disable of nothing: no error")
	}
}
