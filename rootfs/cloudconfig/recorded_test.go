package cloudconfig

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/coracle-os/coracle/rootfs/network/debian"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// recorded is one case of what the original does.
type recorded struct {
	Name       string
	UserData   string `json:"userdata"`
	UserData64 string `json:"userdata_b64"`
	NetConf    string `json:"netconf"`
	Env        map[string]string
	Metadata   struct {
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
	// ParseError dropped the document in the original, and ApplyError ended its
	// run where it came.
	ParseError string `json:"parse_error"`
	ApplyError string `json:"apply_error"`
	// NetConf is why the network configuration is of no use. The original ends
	// with it and applies nothing.
	NetConf string `json:"netconf_error"`
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

// extra are messages that the original does not have.
var extra = []string{"is given again", "only the first YAML document is read", `line 1: warning: incorrect type for "" (want struct)`}

// expected is what a case expects of us: the record, with the differences that
// doc.go has a table of. got is what we do.
func expected(c recorded, got outcome) outcome {
	want := c.Expect
	// A document that can not be parsed is not dropped, and a run does not end
	// at a bad value: what the original did before it is what ours begins with.
	if want.ParseError != "" && got.Kind == string(KindCloudConfig) {
		want.Kind = got.Kind
	}
	if want.ParseError != "" && want.Kind == got.Kind || want.ApplyError != "" {
		want.Ops, want.Calls, want.Files = goesOn(want.Ops, got.Ops), goesOn(want.Calls, got.Calls), got.Files
	}
	want.ParseError, want.ApplyError = "", ""
	for path, f := range want.Files {
		if path == "/etc/hosts" && strings.HasPrefix(f.Content, "127.0.0.1 ") && strings.Count(f.Content, "\n") == 1 {
			f.Content += "127.0.0.1 localhost\n::1 localhost\n"
			want.Files[path] = f
		}
		for line := range strings.Lines(c.Pre[path] + "\n" + c.Pre["/usr/share/coreos/update.conf"]) {
			key, _, _ := strings.Cut(line, "=")
			for _, option := range []string{"GROUP", "SERVER", "REBOOT_STRATEGY"} {
				if path == "/etc/coreos/update.conf" && strings.HasPrefix(key, option) && key != option {
					want.Files[path] = got.Files[path] // a longer key is another one
				}
			}
		}
		if ours := got.Files[path]; len(ours.Mode) == 4 && ours.Mode[0] > '1' && len(f.Mode) == 4 && f.Mode[1:] == ours.Mode[1:] {
			f.Mode = ours.Mode // setuid and setgid are set
			want.Files[path] = f
		}
	}
	return want
}

// goesOn returns what is done here when all that was done before an error is
// done here too, in its order.
func goesOn(before, here []string) []string {
	rest := here
	for _, step := range before {
		i := slices.Index(rest, step)
		if i < 0 {
			return before
		}
		rest = rest[i+1:]
	}
	return here
}

// tabs are cases in which the original names another line than the tab's.
var tabs = map[string][2]string{"yaml-tab": {"line 1: ", "line 2: "}}

// TestRecordedCases compares our plans with what the original was recorded to
// do, in the record's own terms.
func TestRecordedCases(t *testing.T) {
	for _, c := range readCases(t) {
		t.Run(c.Name, func(t *testing.T) {
			got := replay(t, c)
			want := expected(c, got)
			if change, ok := tabs[c.Name]; ok {
				want.Validate[0] = strings.Replace(want.Validate[0], change[0], change[1], 1)
			}
			got.Validate = slices.DeleteFunc(got.Validate, func(text string) bool {
				return slices.ContainsFunc(extra, func(e string) bool { return strings.Contains(text, e) }) && !slices.Contains(want.Validate, text)
			})
			unordered := cmpopts.SortSlices(func(a, b string) bool { return a < b })
			if diff := cmp.Diff(want.Validate, got.Validate, cmpopts.EquateEmpty(), unordered); diff != "" {
				t.Errorf("messages (-recorded +ours):\n%s", diff)
			}
			got.Validate = want.Validate
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
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
		Addresses: Addresses{m.PublicIPv4, m.PrivateIPv4, m.PublicIPv6, m.PrivateIPv6}.Or(Addresses{c.Env["COREOS_PUBLIC_IPV4"],
			c.Env["COREOS_PRIVATE_IPV4"], c.Env["COREOS_PUBLIC_IPV6"], c.Env["COREOS_PRIVATE_IPV6"]}),
		Hostname: m.Hostname,
	}}
	if m.SSHKey != "" {
		facts.Metadata.SSHKeys = []string{m.SSHKey}
	}
	for _, name := range slices.Sorted(maps.Keys(m.SSHKeys)) {
		facts.Metadata.SSHKeys = append(facts.Metadata.SSHKeys, m.SSHKeys[name])
	}
	for _, name := range []string{"/usr/share/coreos/update.conf", "/etc/coreos/update.conf"} {
		if conf, ok := c.Pre[name]; ok {
			facts.UpdateConf = []byte(conf)
		}
	}
	data, err := Gunzip([]byte(c.UserData))
	if err != nil {
		data = nil // and only the metadata is applied
	}
	got := outcome{Kind: string(Detect(data))}
	if got.Kind == string(KindEmpty) {
		got.Kind = string(KindUnknown)
	}
	for _, e := range Validate(data) {
		got.Validate = append(got.Validate, e.String())
	}
	data = Substitute(data, facts.Metadata.Addresses)
	p := Compile(Config{}, facts)
	switch Detect(data) {
	case KindCloudConfig:
		p = Compile(Parse(data).Config, facts)
	case KindScript:
		p = CompileScript(data, facts)
	case KindIgnition:
		return got
	}
	r := recorder{outcome: got, pre: c.Pre}
	steps := p.Steps
	if c.NetConf != "" {
		network, err := debian.Parse(c.NetConf)
		if err != nil {
			// The original ends here and has applied nothing; ours goes on, and the
			// network comes up by DHCP.
			r.NetConf = err.Error()
			return r.outcome
		}
		r.Ops = append(r.Ops, network.Operations()...)
		steps = withNetwork(steps, network)
	}
	for _, s := range steps {
		r.apply(s.Action)
	}
	return r.outcome
}

// withNetwork puts the files of a network behind the other units, where the
// original has them.
func withNetwork(steps []plan.Step, network debian.Network) []plan.Step {
	var files []plan.Step
	for _, f := range network.Files() {
		path := "/run/systemd/network/" + f.Name
		files = append(files, plan.Step{Action: plan.PlaceUnit{Path: path, Content: []byte(f.Content)}}, plan.Step{Action: plan.UnmaskUnit{Path: path}})
	}
	at := slices.IndexFunc(steps, func(s plan.Step) bool {
		switch s.Action.(type) {
		case plan.ReloadUnits, plan.RestartNetwork, plan.UnitCommand:
			return true
		}
		return false
	})
	if at < 0 {
		at = len(steps)
	}
	rest := slices.DeleteFunc(slices.Clone(steps[at:]), func(s plan.Step) bool {
		return s.Action == plan.Action(plan.ReloadUnits{}) || s.Action == plan.Action(plan.RestartNetwork{})
	})
	both := []plan.Step{{Action: plan.ReloadUnits{}}, {Action: plan.RestartNetwork{}}}
	return slices.Concat(steps[:at], files, both, rest)
}

// present are users that were on the machine of the record.
var present = []string{"root", "daemon", "bin", "sys", "nobody"}

// recorder turns actions into the record's terms.
type recorder struct {
	outcome
	pre map[string]string
}

func (r *recorder) apply(action plan.Action) {
	switch a := action.(type) {
	case plan.SetHostname:
		r.Calls = append(r.Calls, "hostnamectl set-hostname "+a.Name)
	case plan.EnsureUser:
		switch {
		case !slices.Contains(present, a.User.Name):
			r.Calls = append(r.Calls, useradd(a.User))
		case a.User.PasswordHash != "": // nothing else of one that is there
			r.Calls = append(r.Calls, "chpasswd -e <<< "+a.User.Name+":"+a.User.PasswordHash)
		}
	case plan.AuthorizeKeys:
		r.Calls = append(r.Calls, "update-ssh-keys -u "+a.User+" -a coreos-cloudinit <<< "+strings.Join(a.Keys, "|")+"|")
	case plan.WriteFile:
		r.Ops = append(r.Ops, "write "+a.Path)
		r.file(a.Path, file{Mode: fmt.Sprintf("%04o", plan.UnixMode(a.Mode)), Content: string(a.Content)})
		if a.Owner != "" {
			r.Calls = append(r.Calls, "chown "+a.Owner+" "+path.Dir(a.Path)+"/cloudinit-tempN")
		}
	case plan.MergeEnvironment:
		r.Ops = append(r.Ops, a.String())
		r.file(a.Path, file{Mode: "0644", Content: string(plan.MergeLines([]byte(r.pre[a.Path]), a.Values))})
	case plan.PlaceUnit:
		r.Ops = append(r.Ops, a.String())
		r.file(a.Path, file{Mode: fmt.Sprintf("%04o", a.Mode()), Content: string(a.Content)})
	case plan.MaskUnit:
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

func useradd(u plan.User) string {
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
