package v2

import (
	"strings"
	"testing"
)

// TestUsersAsUpstream runs the same commands about users with etcdctl of
// Debian's etcd 3.4, each on a server of its own.
func TestUsersAsUpstream(t *testing.T) {
	mine, other := server(t), server(t)
	quiet := func(s string) string { // it complains about input that is no terminal
		var out []string
		for line := range strings.Lines(s) {
			if !strings.HasPrefix(line, "stty: ") {
				out = append(out, line)
			}
		}
		return strings.Join(out, "")
	}
	for _, line := range []string{
		"user list", "role list", "auth disable", "auth enable", "auth nope", "user nope", "user list x", "auth enable x", "role get", "user add", "user add a b",
		"user add u:p", "user add u:p", "user add u", "user add w < secret", "user add empty < ", "user get u", "user get none", "user list",
		"role add r", "role add r", "role add s", "role get r", "role get none", "role get root", "role list", "role add root",
		"role grant r --path /a/* --read", "role grant --path /a/* --readwrite r", "role grant --path /w --write r", "role grant --path /w --write --read r",
		"role grant --path /w r", "role grant --read r", "role grant r --rw --path /x", "role get r", "role revoke --path /w --write r", "role revoke --path /none --read r",
		"role revoke r --rw --path /x", "role get r", "role remove none", "role grant none --path /a --read",
		"user grant u --roles r", "user grant --roles r u", "user grant u --roles s", "user get u", "user grant u", "user add u < again", "user revoke u --roles none", "user revoke u --roles s",
		"user get u", "user passwd u < new", "user passwd u < ", "user passwd none < x", "user grant none --roles r", "user remove none",
		"user add root < s", "user get root", "auth enable", "auth enable", "user list", "-u u:new user list", "-u root:wrong user list", "-u root:s user list", "-u root user list < s",
		"-u root:s role get guest", "-u root:s role revoke guest --path /* --rw", "set /k v", "-u u:new get /a/k", "-u u:new set /a/k v", "-u root:s user remove root",
		"-u root:s role remove r", "-u root:s role remove root", "-u root:s auth disable", "user remove u", "user list",
	} {
		command, in, given := strings.Cut(line, " < ")
		if given && in != "" {
			in += "\n"
		}
		// Each password costs a bcrypt, twice as long on a busy machine.
		args := append([]string{"--total-timeout", "60s"}, strings.Fields(strings.TrimSuffix(command, " <"))...)
		a, b := ours(t, mine, in, args...), theirs(t, other, in, args...)
		if a.out != b.out || a.code != b.code {
			t.Errorf("%s\nprints   %q, %d\nupstream %q, %d", line, a.out, a.code, b.out, b.code)
		}
		if got, want := indexes.ReplaceAllString(a.err, "N"), indexes.ReplaceAllString(quiet(b.err), "N"); got != want {
			t.Errorf("%s\nsays     %q\nupstream %q", line, got, want)
		}
	}
}

// TestSeveralRoles is etcd 2's manual.
func TestSeveralRoles(t *testing.T) {
	url := server(t)
	for _, line := range []string{"role add a", "role add b", "user add u:p", "user grant u --roles a,b"} {
		if o := ours(t, url, "", strings.Fields(line)...); o.code != 0 {
			t.Fatalf("%s: %+v", line, o)
		}
	}
	if o := ours(t, url, "", "user", "get", "u"); o.out != "User: u\nRoles:   a b\n" {
		t.Errorf("%q", o.out)
	}
}

// TestGone has commands that say what to do instead, without a server.
func TestGone(t *testing.T) {
	for line, want := range map[string]string{
		"backup --data-dir /var/lib/etcd2 --backup-dir /b": "etcdctl snapshot save", "import --snap /s": "the old cluster",
	} {
		if o := ours(t, "http://127.0.0.1:1", "", strings.Fields(line)...); o.code != exitArgs || !strings.Contains(o.err, want) {
			t.Errorf("%s: %+v", line, o)
		}
	}
}
