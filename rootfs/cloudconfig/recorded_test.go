package cloudconfig

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// recorded is one case of what the original does.
type recorded struct {
	Name        string
	UserData    string `json:"userdata"`
	UserData64  string `json:"userdata_b64"`
	NetConf     string `json:"netconf"`
	Environment map[string]string
	Metadata    struct {
		PublicIPv4  string            `json:"public_ipv4"`
		PrivateIPv4 string            `json:"private_ipv4"`
		PublicIPv6  string            `json:"public_ipv6"`
		PrivateIPv6 string            `json:"private_ipv6"`
		Hostname    string            `json:"hostname"`
		SSHKey      string            `json:"ssh_key"`
		SSHKeys     map[string]string `json:"ssh_public_keys"`
	}
	Pre    map[string]string
	Expect outcome
}

type outcome struct {
	Kind     string          `json:"kind"`
	Files    map[string]file `json:"files"`
	Ops      []string        `json:"ops"`
	Calls    []string        `json:"calls"`
	Validate []string        `json:"validate"`
}

// file is recorded as an object or, for a link, as the text "-> target".
type file struct {
	Mode, Content, Link string
}

func (f *file) UnmarshalJSON(data []byte) error {
	if json.Unmarshal(data, &f.Link) == nil {
		return nil
	}
	type plain file
	return json.Unmarshal(data, (*plain)(f))
}

// differences lists the cases in which we do something else on purpose: the
// reason and how the expectation changes.
var differences = map[string]struct {
	why    string
	change func(*outcome)
}{
	"yaml-tab": {"the tab is on line 2; what can be read is applied", func(o *outcome) {
		o.Kind = "cloud-config"
		o.Validate[0] = "line 2: error: found character that cannot start any token"
	}},
	"yaml-syntax": {"what can be read is applied", func(o *outcome) { o.Kind = "cloud-config" }},
	"manage_etc_hosts-bad": {"a bad value costs only itself: the run goes on", func(o *outcome) {
		o.Ops = []string{
			"unmask /run/systemd/system/etcd.service", "unmask /run/systemd/system/etcd2.service",
			"unmask /run/systemd/system/fleet.service", "unmask /run/systemd/system/locksmithd.service",
		}
	}},
	"net-dhcp":       {"Debian network configuration is not converted by this version", withoutNetConf},
	"net-bond":       {"Debian network configuration is not converted by this version", withoutNetConf},
	"net-bad-static": {"Debian network configuration is not converted by this version", withoutNetConf},
}

func withoutNetConf(o *outcome) {
	o.Files = nil
	o.Ops = []string{
		"unmask /run/systemd/system/etcd.service", "unmask /run/systemd/system/etcd2.service",
		"unmask /run/systemd/system/fleet.service", "unmask /run/systemd/system/locksmithd.service",
	}
	o.Calls = []string{"hostnamectl set-hostname h"}
}

// TestRecordedCases compares our plans with what the original was recorded to
// do, in the record's own terms.
func TestRecordedCases(t *testing.T) {
	for _, c := range readCases(t) {
		t.Run(c.Name, func(t *testing.T) {
			if d, ok := differences[c.Name]; ok {
				d.change(&c.Expect)
			}
			got := replay(t, c)
			unordered := cmpopts.SortSlices(func(a, b string) bool { return a < b })
			if diff := cmp.Diff(c.Expect.Validate, got.Validate, cmpopts.EquateEmpty(), unordered); diff != "" {
				t.Errorf("messages (-recorded +ours):\n%s", diff)
			}
			got.Validate = c.Expect.Validate
			if diff := cmp.Diff(c.Expect, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-recorded +ours):\n%s", diff)
			}
		})
	}
}

func readCases(t *testing.T) []recorded {
	t.Helper()
	f, err := os.Open("testdata/coreos-cloudinit.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cases, err := parseCases(f)
	if err != nil || len(cases) == 0 {
		t.Fatalf("read cases: %d read, %v", len(cases), err)
	}
	return cases
}

// readSeeds returns the recorded documents.
func readSeeds() ([]string, error) {
	f, err := os.Open("testdata/coreos-cloudinit.jsonl")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cases, err := parseCases(f)
	var seeds []string
	for _, c := range cases {
		_, body, _ := strings.Cut(c.UserData, "\n")
		seeds = append(seeds, body)
	}
	return seeds, err
}

func parseCases(r io.Reader) ([]recorded, error) {
	var cases []recorded
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c recorded
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return nil, err
		}
		if c.UserData64 != "" {
			data, err := base64.StdEncoding.DecodeString(c.UserData64)
			if err != nil {
				return nil, fmt.Errorf("case %s: %w", c.Name, err)
			}
			c.UserData = string(data)
		}
		cases = append(cases, c)
	}
	return cases, lines.Err()
}

func replay(t *testing.T, c recorded) outcome {
	m := c.Metadata
	facts := Facts{Metadata: Metadata{
		Addresses: Addresses{m.PublicIPv4, m.PrivateIPv4, m.PublicIPv6, m.PrivateIPv6},
		Hostname:  m.Hostname,
	}}
	if m.SSHKey != "" {
		facts.Metadata.SSHKeys = []string{m.SSHKey}
	}
	for _, name := range []string{"/usr/share/coreos/update.conf", "/etc/coreos/update.conf"} {
		if conf, ok := c.Pre[name]; ok {
			facts.UpdateConf = []byte(conf)
		}
	}
	data, err := Gunzip([]byte(c.UserData))
	if err != nil {
		t.Fatal(err)
	}
	got := outcome{Kind: string(Detect(data))}
	for _, e := range Validate(data) {
		got.Validate = append(got.Validate, e.String())
	}
	data = Substitute(data, facts.Metadata.Addresses)
	plan := Compile(Config{}, facts)
	switch Detect(data) {
	case KindCloudConfig:
		plan = Compile(Parse(data).Config, facts)
	case KindScript:
		plan = CompileScript(data, facts)
	case KindIgnition:
		return got
	}
	r := recorder{outcome: got, pre: c.Pre}
	for _, s := range plan.Steps {
		r.apply(s.Action)
	}
	return r.outcome
}

// recorder turns actions into the record's terms.
type recorder struct {
	outcome
	pre map[string]string
}

func (r *recorder) apply(action Action) {
	switch a := action.(type) {
	case SetHostname:
		r.Calls = append(r.Calls, "hostnamectl set-hostname "+a.Name)
	case EnsureUser:
		r.Calls = append(r.Calls, useradd(a.User))
	case AuthorizeKeys:
		r.Calls = append(r.Calls, "update-ssh-keys -u "+a.User+" -a coreos-cloudinit <<< "+strings.Join(a.Keys, "|")+"|")
	case WriteFile:
		r.Ops = append(r.Ops, "write "+a.Path)
		r.file(a.Path, file{Mode: fmt.Sprintf("%04o", unixMode(a.Mode)), Content: string(a.Content)})
		if a.Owner != "" {
			r.Calls = append(r.Calls, "chown "+a.Owner+" "+path.Dir(a.Path)+"/cloudinit-tempN")
		}
	case MergeEnvironment:
		r.Ops = append(r.Ops, a.String())
		r.file(a.Path, file{Mode: "0644", Content: string(MergeLines([]byte(r.pre[a.Path]), a.Values))})
	case PlaceUnit:
		r.Ops = append(r.Ops, a.String())
		r.file(a.Path, file{Mode: fmt.Sprintf("%04o", a.Mode()), Content: string(a.Content)})
	case MaskUnit:
		r.Ops = append(r.Ops, a.String())
		r.file(a.Path, file{Link: "-> /dev/null"})
	default:
		r.Ops = append(r.Ops, action.String())
	}
}

func (r *recorder) file(path string, f file) {
	if r.Files == nil {
		r.Files = map[string]file{}
	}
	r.Files[path] = f
}

func useradd(u User) string {
	args := []string{"useradd", "--password", "*"}
	if u.PasswordHash != "" {
		args[2] = u.PasswordHash
	}
	option := func(name, value string) {
		if value != "" {
			args = append(args, name, value)
		}
	}
	flag := func(name string, set bool) {
		if set {
			args = append(args, name)
		}
	}
	if u.Gecos != "" {
		option("--comment", fmt.Sprintf("%q", u.Gecos))
	}
	option("--home-dir", u.HomeDir)
	flag("--no-create-home", u.NoCreateHome)
	flag("--create-home", !u.NoCreateHome)
	option("--gid", u.PrimaryGroup)
	option("--groups", strings.Join(u.Groups, ","))
	flag("--no-user-group", u.NoUserGroup)
	flag("--system", u.System)
	flag("--no-log-init", u.NoLogInit)
	option("--shell", u.Shell)
	return strings.Join(slices.Concat(args, []string{u.Name}), " ")
}
