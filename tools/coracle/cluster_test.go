package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	fleetconfig "github.com/coracle-os/coracle/agents/fleet/config"
	"github.com/coracle-os/coracle/agents/kv/options"
	"github.com/coracle-os/coracle/agents/kv/settings"
	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/tools/cluster"
)

// environ is what a section's daemon gets as variables.
func environ(section any) (all []string) {
	v := reflect.ValueOf(section)
	for i := range v.NumField() {
		if env := v.Type().Field(i).Tag.Get("env"); env != "" && !v.Field(i).IsZero() {
			all = append(all, env+"="+fmt.Sprint(v.Field(i).Interface()))
		}
	}
	return all
}

// TestExamples has the machines' own parsers read what the README shows.
func TestExamples(t *testing.T) {
	files, err := examples.ReadDir("examples")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d examples, error %v", len(files), err)
	}
	for i, file := range files {
		t.Run(file.Name(), func(t *testing.T) {
			text, err := examples.ReadFile("examples/" + file.Name())
			if err != nil {
				t.Fatal(err)
			}
			address := fmt.Sprintf("10.9.0.%d", i+1)
			facts := cloudconfig.Facts{Metadata: cloudconfig.Metadata{Hostname: "coracle1", SSHKeys: []string{"ssh-ed25519 K"},
				Addresses: cloudconfig.Addresses{PrivateIPv4: address}}}
			text = cloudconfig.Substitute(text, facts.Metadata.Addresses)
			for _, e := range cloudconfig.Validate(text) {
				if !e.Formal {
					t.Error(e)
				}
			}
			doc := cloudconfig.Parse(text)
			if problems := cloudconfig.Compile(doc.Config, facts).Problems; len(problems) > 0 {
				t.Errorf("problems: %v", problems)
			}
			var said bytes.Buffer
			_, s, err := options.Read(nil, environ(doc.Config.CoreOS.Etcd2), settings.Machine{ID: "id", Hostname: "coracle1", Address: address}, program.Stdio{Err: &said})
			if err != nil || len(s.Warnings) > 0 {
				t.Errorf("etcd: error %v, warnings %q, %s", err, s.Warnings, &said)
			}
			f, err := fleetconfig.Read(fleetconfig.Environment(environ(doc.Config.CoreOS.Fleet)))
			if err != nil || len(f.Warnings) > 0 || f.PublicIP != address {
				t.Errorf("fleet: error %v, warnings %q, address %q", err, f.Warnings, f.PublicIP)
			}
		})
	}
}

func TestLayout(t *testing.T) {
	roles, err := layout("masters=5,workers=2")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range roles {
		got = append(got, fmt.Sprintf("%d %s", r.Machines, r.Name))
		if !bytes.Contains(r.UserData, []byte("master4=http://10.9.0.4:2380,master5=http://10.9.0.5:2380\n")) {
			t.Errorf("the user-data of %s does not list five masters:\n%s", r.Name, r.UserData)
		}
	}
	if diff := cmp.Diff([]string{"5 masters", "2 workers"}, got); diff != "" {
		t.Error(diff)
	}
	for _, text := range []string{"", "masters", "masters=0", "workers=2", "workers=2,masters=3", "masters=3,masters=3", "masters=3,workers=2,workers=1", "nodes=3"} {
		if _, err := layout(text); err == nil || !strings.Contains(err.Error(), "masters") {
			t.Errorf("layout %q: error %v", text, err)
		}
	}
}

func TestClusterCommandLine(t *testing.T) {
	none, there := t.TempDir(), t.TempDir()
	c := cluster.Cluster{Dir: there}
	state := `{"image":"image.qcow2","machines":[{"number":1,"name":"coracle1","role":"machines","address":"10.9.0.1","sshPort":1}]}`
	if err := os.WriteFile(filepath.Join(there, "state.json"), []byte(state), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Load(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"nothing", nil, 2, "coracle cluster up"},
		{"help", []string{"help"}, 0, "down [-remove]"},
		{"unknown", []string{"start"}, 2, `no command "start"`},
		{"left over", []string{"status", "now"}, 2, `unexpected argument "now"`},
		{"status of nothing", []string{"status", "-dir", none}, 1, "there is no cluster; `coracle cluster up` makes one"},
		{"down of nothing", []string{"down", "-dir", none}, 1, "there is no cluster"},
		{"status", []string{"status", "-dir", there}, 0, "1 of 1 machines are off"},
		{"no machine", []string{"ssh", "-dir", there}, 2, `want a machine's number, got ""`},
		{"machine that is not", []string{"ssh", "-dir", there, "2"}, 1, "there is no machine 2"},
		{"machine that is off", []string{"ssh", "-dir", there, "coracle1", "true"}, 1, "coracle1 is off"},
		{"another cluster is there", []string{"up", "-dir", there, "-machines", "5"}, 1, "down -remove"},
		{"no user-data", []string{"up", "-dir", none, "-user-data", filepath.Join(none, "x")}, 1, "read user-data"},
		{"two sources", []string{"up", "-dir", none, "-user-data", "x", "-layout", "masters=3"}, 1, "give one of them"},
		{"no image", []string{"up", "-dir", none, "-image", filepath.Join(none, "x")}, 1, "make image"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			code := run(t.Context(), append([]string{"coracle", "cluster"}, test.args...), program.Stdio{Out: &out, Err: &out})
			if code != test.code || !strings.Contains(out.String(), test.want) {
				t.Errorf("code %d, want %d; output %q, want %q in it", code, test.code, out.String(), test.want)
			}
		})
	}
}
