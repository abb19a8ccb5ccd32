package authkeys

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
)

const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5hGCWxEcErv7DLL+fIgGGk6oWBLNcJKvnTbYMTUqP7"

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, line string
		want       *Options // nil: the line gives no key
		problem    string
	}{
		{name: "plain", line: key + " me@home", want: &Options{}},
		{name: "comment", line: "# " + key},
		{name: "empty", line: " \t"},
		{name: "windows line end", line: key + "\r", want: &Options{}},
		{name: "harmless options", line: `no-X11-forwarding,environment="A=B",no-user-rc ` + key, want: &Options{}},
		{name: "restrict then allow", line: "restrict,pty " + key, want: &Options{NoPortForwarding: true, NoAgentForwarding: true}},
		{name: "command with quotes", line: `command="echo \"a, b\"",no-pty ` + key, want: &Options{Command: `echo "a, b"`, NoPTY: true}},
		{name: "case", line: "No-PTY " + key, want: &Options{NoPTY: true}},
		{name: "ports", line: `permitopen="db:5432",permitopen="[::1]:*",permitlisten="8080" ` + key,
			want: &Options{PermitOpen: []string{"db:5432", "[::1]:*"}, PermitListen: []string{"8080"}}},
		{name: "expiry", line: `expiry-time="20300102030405Z" ` + key, want: &Options{Expires: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}},
		{name: "bad expiry", line: `expiry-time="tomorrow" ` + key, problem: `option expiry-time="tomorrow" is not YYYYMMDD[HHMM[SS]][Z]`},
		{name: "unknown option", line: "only-on-sundays " + key, problem: `option "only-on-sundays" is not known, so its key cannot be used`},
		{name: "certificate authority", line: "cert-authority " + key, problem: `option "cert-authority" is not known, so its key cannot be used`},
		{name: "empty command", line: `command="" ` + key, problem: "option command= is empty"},
		{name: "garbage", line: "hello world", problem: "not a public key"},
		{name: "cut off", line: key[:60], problem: "not a public key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			entries, problems := Parse([]byte("\n" + c.line + "\n" + key + " last\n"))
			if len(entries) == 0 || entries[len(entries)-1].Comment != "last" {
				t.Fatal("the good line after it is lost")
			}
			entries = entries[:len(entries)-1]
			if c.want == nil != (len(entries) == 0) {
				t.Fatalf("got %d keys", len(entries))
			}
			if c.want != nil {
				if d := cmp.Diff(*c.want, entries[0].Options); d != "" {
					t.Errorf("options (-want +got):\n%s", d)
				}
			}
			if c.problem == "" != (len(problems) == 0) {
				t.Errorf("problems %v, want %q", problems, c.problem)
			} else if c.problem != "" && !strings.HasPrefix(problems[0].Error(), "line 2: "+c.problem) {
				t.Errorf("problem %q, want %q", problems[0], "line 2: "+c.problem)
			}
		})
	}
}

func TestAllows(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name    string
		options Options
		from    string
		want    bool
	}{
		{"no rule", Options{}, "192.0.2.1", true},
		{"network", Options{From: []string{"192.0.2.0/24"}}, "192.0.2.1", true},
		{"another network", Options{From: []string{"192.0.3.0/24"}}, "192.0.2.1", false},
		{"excluded", Options{From: []string{"192.0.2.0/24", "!192.0.2.1"}}, "192.0.2.1", false},
		{"pattern", Options{From: []string{"192.0.2.*"}}, "192.0.2.77", true},
		{"only an exclusion", Options{From: []string{"!192.0.2.9"}}, "192.0.2.1", false},
		{"mapped address", Options{From: []string{"127.0.0.1"}}, "::ffff:127.0.0.1", true},
		{"a name is no address", Options{From: []string{"host.example"}}, "192.0.2.1", false},
		{"not expired", Options{Expires: now.Add(time.Second)}, "192.0.2.1", true},
		{"expired", Options{Expires: now.Add(-time.Second)}, "192.0.2.1", false},
	} {
		if err := c.options.Allows(netip.MustParseAddr(c.from), now); (err == nil) != c.want {
			t.Errorf("%s: got %v, want allowed %v", c.name, err, c.want)
		}
	}
}

func TestAllowsOpen(t *testing.T) {
	for _, c := range []struct {
		options Options
		host    string
		port    uint32
		want    bool
	}{
		{Options{}, "db", 1, true},
		{Options{NoPortForwarding: true}, "db", 1, false},
		{Options{PermitOpen: []string{"db:5432"}}, "DB", 5432, true},
		{Options{PermitOpen: []string{"db:5432"}}, "db", 5433, false},
		{Options{PermitOpen: []string{"*:80"}}, "x", 80, true},
		{Options{PermitOpen: []string{"[::1]:*"}}, "::1", 9, true},
		{Options{PermitOpen: []string{"none"}}, "x", 80, false},
	} {
		if got := c.options.AllowsOpen(c.host, c.port); got != c.want {
			t.Errorf("%+v: %s:%d: got %v", c.options, c.host, c.port, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`command="a",from="::/0" ` + key)
	f.Add(`environment="A=\"",,no-pty ` + key)
	f.Fuzz(func(t *testing.T, text string) {
		entries, _ := Parse([]byte(text))
		for _, e := range entries {
			again, problems := Parse(ssh.MarshalAuthorizedKey(e.Key))
			if len(again) != 1 || len(problems) != 0 {
				t.Errorf("a key that was read cannot be read again: %v", problems)
			}
			e.Options.Allows(netip.MustParseAddr("192.0.2.1"), time.Unix(0, 0))
		}
	})
}
