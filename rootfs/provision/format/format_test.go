package format

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

func pack(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return b.String()
}

// compiled returns the steps, but for those that every run takes, and messages.
func compiled(data string) (steps, messages []string) {
	facts := cloudconfig.Facts{Metadata: cloudconfig.Metadata{Addresses: cloudconfig.Addresses{PrivateIPv4: "10.0.0.1"}}}
	_, p, report := Compile("u", []byte(data), facts, nil)
	for _, step := range p.Steps {
		switch step.Action.(type) {
		case plan.UnmaskUnit, plan.MergeEnvironment:
		default:
			steps = append(steps, step.String())
		}
	}
	for _, problem := range report {
		messages = append(messages, problem.String())
	}
	return steps, messages
}

const header = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"==b==\"\n\n"

func TestMultipart(t *testing.T) {
	part := func(headers, body string) string { return "--==b==\n" + headers + "\n" + body + "\n" }
	base64Of := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	tests := []struct {
		name, data      string
		steps, messages []string
	}{
		{"configs apply as one, scripts after them", header +
			part("Content-Type: text/x-shellscript\n", "#!/bin/bash\necho $private_ipv4") +
			part("Content-Type: text/cloud-config; charset=utf-8\n", "#cloud-config\nhostname: a\nssh_authorized_keys: [one]") +
			part("Content-Type: text/cloud-config\n", "#cloud-config\nhostname: b\nssh_authorized_keys: [two]\ncoreos: {units: [{name: a.service, command: start}]}") +
			part("Content-Type: text/plain\nContent-Disposition: attachment; filename=\"x.sh\"\n", "#!/bin/sh") + "--==b==--\n",
			[]string{
				"set hostname b (hostname, u, line 19, column 1)",
				"authorize 2 keys for core (ssh_authorized_keys, u, line 20, column 1)",
				"start a.service (coreos.units[0].command, u, line 21, column 36)",
				`run script "#!/bin/bash" (part 1 is a script, u, line 7)`,
				`run script "#!/bin/sh" (part 4 (x.sh) is a script, u, line 26)`,
			}, nil},
		{"encodings", header +
			part("Content-Type: text/cloud-config\nContent-Transfer-Encoding: base64\n", base64Of("#cloud-config\nhostname: a\nhostnam: x\n")) +
			part("Content-Type: text/cloud-config\nContent-Transfer-Encoding: base64\n", base64Of(pack("#cloud-config\nmanage_etc_hosts: localhost\n"))) +
			part("Content-Type: text/cloud-config\nContent-Transfer-Encoding: quoted-printable\n", "#cloud-config\nwrite_files: [{path: /a, content: =3D}]") +
			part("Content-Type: application/x-gzip\nContent-Transfer-Encoding: base64\n", base64Of(pack("#!/bin/sh\n"))) +
			part("Content-Type: text/cloud-config\nContent-Transfer-Encoding: base64\n", "***") + "--==b==--\n",
			[]string{
				"set hostname a (hostname, u)", "write /a (1 bytes, root, mode 0644) (write_files[0], u)",
				"write /etc/hosts (46 bytes, root, mode 0644) (manage_etc_hosts, u)",
				`run script "#!/bin/sh" (part 4 is a script, u)`,
			}, []string{
				`line 0: warning: part 1, line 3: unrecognized key "hostnam"`,
				"line 29: error: part 5: illegal base64 data at input byte 0; it is not applied",
			}},
		{"what is not used, and mistakes in their lines", header +
			part("Content-Type: text/upstart-job\n", "start on x") +
			part("Content-Type: text/cloud-config\n", "#cloud-config\nhostnam: x\nusers: [{name: a:b}]") +
			part("Content-Type: application/octet-stream\n", "?") + "--==b==--\n",
			nil, []string{
				"line 7: warning: part 1: text/upstart-job: there is no upstart; write a unit; it is not applied",
				`line 12: warning: part 2: unrecognized key "hostnam"`,
				`line 13: error: users[0].name: "a:b" is not a user name; the user is left out`,
				`line 17: warning: part 3: its type "application/octet-stream" is not known, and it does not begin with "#cloud-config" or "#!"; it is not applied`,
			}},
		{"cut off", header + part("Content-Type: text/cloud-config\n", "#cloud-config\nhostname: a\n"), nil,
			[]string{"line 1: error: part 1: unexpected EOF; it and what follows are not applied"}},
		{"no boundary", "Content-Type: multipart/mixed\n\n--x\n\n#!/bin/sh\n--x--\n", nil,
			[]string{`line 1: error: Content-Type: "multipart/mixed" has no boundary`}},
		{"another boundary", "Content-Type: multipart/mixed; boundary=y\n\n--x\n\n#!/bin/sh\n--x--\n", nil,
			[]string{"line 1: error: the multipart message is cut off or damaged after part 0: multipart: NextPart: EOF"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, data := range []string{tt.data, pack(tt.data)} {
				steps, messages := compiled(data)
				if diff := cmp.Diff(tt.steps, steps); diff != "" {
					t.Errorf("steps (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(tt.messages, messages); diff != "" {
					t.Errorf("messages (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestFilesAreRead(t *testing.T) {
	_, messages := compiled(`#cloud-config
coreos:
  units:
    - name: a.service
      content: |
        [Service]
        ExecStrat=/bin/true
        Restart=perhaps
      drop-ins:
        - name: 10.conf
          content: |
            [Servcie]
            A=b
    - name: b@.service
      content: "[Service]\nExecStart=/bin/echo %i %H\n"
    - name: c.timer
      content: "[Timer]\nOnCalendar=maybe\n"
    - name: 10-x.network
      content: "[Match]\nName=*\n"
    - {name: noext.conf, content: "x"}
    - {name: 20-x.netdev, content: "[NetDev]\nName=b0\nKind=bridge\n[Brigde]\nSTP=yes\n"}
write_files:
  - {path: /etc/systemd/network/30-x.link, content: "[Match]\nOriginalNmae=e*\n[Link]\nname=x\n"}
  - {path: /etc/systemd/network/10-x.network.d/dns.conf, content: "[Network]\nDNS=1.2.3\n"}
  - {path: /etc/systemd/system/docker.service.d/x.conf, content: "[Service]\nLimitNOFIEL=1\n"}
  - {path: /etc/systemd/system.conf, content: "[Manager]\n"}
`)
	want := []string{
		"line 5: warning: a.service, line 2: Unknown key name 'ExecStrat' in section 'Service', ignoring.",
		"line 5: warning: a.service, line 3: Restart=: ",
		"line 10: warning: 10.conf, line 1: Unknown section 'Servcie'. Ignoring.",
		"line 17: warning: c.timer, line 2: OnCalendar=: ",
		"line 20: warning: noext.conf: ",
		"line 21: warning: 20-x.netdev, line 4: section [Brigde] is not supported; did you mean Bridge?",
		"line 23: warning: 30-x.link, line 2: OriginalNmae= in [Match] is not supported; did you mean OriginalName=?",
		"line 23: warning: 30-x.link, line 4: name= in [Link] is not supported; write Name=",
		"line 23: warning: 30-x.link: no [Match] section with a known key",
		`line 24: warning: dns.conf, line 2: DNS=: "1.2.3" is not an address`,
		"line 25: warning: x.conf, line 2: Unknown key name 'LimitNOFIEL' in section 'Service', ignoring.",
	}
	if len(messages) != len(want) {
		t.Fatalf("%d messages, want %d: %s", len(messages), len(want), strings.Join(messages, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(messages[i], want[i]) {
			t.Errorf("%q, want %q", messages[i], want[i])
		}
	}
}

// TestNested: multipart in multipart, deeper than anybody writes it, ends.
func TestNested(t *testing.T) {
	body := "#!/bin/sh\n"
	inner := fmt.Sprintf("Content-Type: text/x-shellscript\n\n%s", body)
	for depth := range 8 {
		inner = fmt.Sprintf("Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n%s\n--b%d--\n", depth, depth, inner, depth)
		steps, messages := compiled(inner)
		if ok := len(steps) == 1 && len(messages) == 0; ok != (depth < 4) || len(steps)+len(messages) != 1 {
			t.Errorf("depth %d: %q, %q", depth, steps, messages)
		}
	}
}

// TestPythonsMessages reads what Python's email package, which cloud-init's
// tools use, writes.
func TestPythonsMessages(t *testing.T) {
	out, err := exec.Command("python3", "-c", `
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
m = MIMEMultipart()
for text, kind, name in [("#cloud-config\nhostname: grün\n", "cloud-config", "a.yaml"), ("#!/bin/sh\necho hi\n", "x-shellscript", "b.sh"), ("#cloud-config\nmanage_etc_hosts: localhost\n", "cloud-config", "c")]:
    part = MIMEText(text, kind, "utf-8" if "ü" in text else "us-ascii")
    part.add_header("Content-Disposition", 'attachment; filename="%s"' % name)
    m.attach(part)
print(m)
`).Output()
	if err != nil {
		t.Fatal(err)
	}
	steps, messages := compiled(string(out))
	if len(steps) != 2 || !strings.Contains(steps[1], "part 2 (b.sh) is a script") || len(messages) != 1 || !strings.Contains(messages[0], `"grün" is not a host name`) {
		t.Errorf("%q, %q\n%s", steps, messages, out)
	}
}

func TestBadInput(t *testing.T) {
	tests := []struct{ name, data, says string }{
		{"5 MB of blanks", strings.Repeat(" ", 5<<20), "must be"},
		{"NULs", strings.Repeat("\x00", 1<<20), "must be"},
		{"not UTF-8", "#cloud-config\nhostname: \xff\xfe\n", "UTF-8"},
		{"control characters", "#cloud-config\nhostname: a\x00\n", "control characters"},
		{"a huge line", "#cloud-config\nhostname: " + strings.Repeat("a", 5<<20) + "\n", "is not a host name"},
		{"deep nesting", "#cloud-config\nusers: " + strings.Repeat("[", 100000) + "\n", ""},
		{"deep mapping", "#cloud-config\n" + strings.Repeat("{a: ", 100000) + "\n", ""},
		{"an alias of itself", "#cloud-config\nusers: &a [*a]\n", ""},
		{"an alias bomb", "#cloud-config\na: &a [x,x,x,x,x,x,x,x,x]\n" + bomb() + "users: *j\n", "incorrect type"},
		{"a merge bomb", "#cloud-config\na: &a {name: x}\n" + mergeBomb() + "users: [*j]\n", `\"<<\" needs`},
		{"a gzip bomb", pack(strings.Repeat("\x00", cloudconfig.MaxSize+1)), "larger than"},
		{"cut gzip", pack("#cloud-config\nhostname: a\n")[:25], "decompress"},
		{"parts without end", header + strings.Repeat("--==b==\n\n#!/bin/sh\n", 5000) + "--==b==--\n", "more than 1000 parts"},
		{"250 kB of keys", "#cloud-config\n" + strings.Repeat("a: 1\n", 50000), "unrecognized key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, messages := compiled(tt.data)
			all := strings.Join(messages, "\n")
			if len(messages) == 0 || !strings.Contains(all, strings.ReplaceAll(tt.says, `\"`, `"`)) {
				t.Errorf("says %.300q, want %q", all, tt.says)
			}
		})
	}
}

// bomb and mergeBomb double what they stand for in every line.
func bomb() (text string) {
	for c := 'b'; c <= 'j'; c++ {
		last := string(c - 1)
		text += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+last+",", 9), ","))
	}
	return text
}

func mergeBomb() (text string) {
	for c := 'b'; c <= 'j'; c++ {
		last := string(c - 1)
		text += fmt.Sprintf("%c: &%c {<<: [%s]}\n", c, c, strings.TrimSuffix(strings.Repeat("*"+last+",", 9), ","))
	}
	return text
}
