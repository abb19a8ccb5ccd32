package check

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	got, err := Parse("a.yaml", []byte(`# the shop
deadline: 3m
checks:
  - name: the shop answers
    http: {url: "http://127.0.0.1:8080/healthz", status: 204, contains: ok}
    deadline: 90s
    timeout: 5s
  - units: [docker.socket, shop@1.service]
  - not-failed: ["*.target"]
  - tcp: "[::1]:2379"
  - command: [/opt/bin/selftest, --quick]
    deadline: 5s
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Check{
		{Name: "the shop answers", HTTP: &HTTP{"http://127.0.0.1:8080/healthz", 204, "ok"}, Deadline: 90 * time.Second, Timeout: 5 * time.Second, Source: "a.yaml:4"},
		{Units: []string{"docker.socket", "shop@1.service"}, Deadline: 3 * time.Minute, Timeout: DefaultTimeout, Source: "a.yaml:8"},
		{NotFailed: []string{"*.target"}, Deadline: 3 * time.Minute, Timeout: DefaultTimeout, Source: "a.yaml:9"},
		{TCP: "[::1]:2379", Deadline: 3 * time.Minute, Timeout: DefaultTimeout, Source: "a.yaml:10"},
		{Command: []string{"/opt/bin/selftest", "--quick"}, Deadline: 5 * time.Second, Timeout: 5 * time.Second, Source: "a.yaml:11"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestParseErrors(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"checks:\n  - unit: [a.service]\n", "a.yaml:2: field unit not found"},
		{"checks:\n  - tcp: a:1\n    tcp: b:1\n", "a.yaml:3: mapping key"},
		{"check: []\n", "a.yaml:1: field check not found"},
		{"checks: [\n", "a.yaml:1: did not find"},
		{"checks:\n\t- tcp: a:1\n", "a.yaml:2: found character that cannot start"},
		{"checks:\n  - tcp: a:1\n    deadline: soon\n", "a.yaml:3: cannot unmarshal"},
		{"checks:\n  - name: x\n", "a.yaml:2: a check has one of units, not-failed, http, tcp and command, this one has 0"},
		{"checks:\n  - {tcp: 'a:1', units: [a.service]}\n", "this one has 2"},
		{"checks:\n  - units: []\n", "an empty list of units"},
		{"checks:\n  - units: [docker]\n", `unit "docker": write the whole name`},
		{"checks:\n  - not-failed: ['[.service']\n", "syntax error in pattern"},
		{"checks:\n  - command: [selftest]\n", "absolute path"},
		{"checks:\n  - command: []\n", "absolute path"},
		{"checks:\n  - tcp: '2379'\n", "write HOST:PORT"},
		{"checks:\n  - http: {url: 'ftp://a/'}\n", "write http://"},
		{"checks:\n  - http: {url: 'http://a/', status: 1}\n", "http status 1"},
		{"checks:\n  - {tcp: 'a:1', deadline: 31m}\n", "use 1s to 30m0s"},
		{"checks:\n  - {tcp: 'a:1', deadline: 1m, timeout: 2m}\n", "longer than the deadline"},
		{"deadline: 1h\n", "a.yaml: deadline 1h0m0s"},
		{"checks: []\n---\nchecks: []\n", "more than one YAML document"},
	} {
		if _, err := Parse("a.yaml", []byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q:\n  %v\nwant\n  %s", tt.text, err, tt.want)
		}
	}
}

func TestLoad(t *testing.T) {
	lower, upper := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		lower + "/00-base.yaml": "checks: [{tcp: 'a:1'}]", lower + "/10-b.yaml": "checks: [{tcp: 'b:1'}]", lower + "/20-c.yaml": "checks: [{tcp: 'c:1'}]",
		upper + "/10-b.yaml": "", upper + "/20-c.yaml": "checks: [{tcp: 'd:1'}]", upper + "/30-bad.yaml": "checks: 1", upper + "/README": "no", upper + "/.a.yaml": "no",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	checks, broken := Load(lower, upper, filepath.Join(upper, "missing"))
	var got []string
	for _, c := range checks {
		got = append(got, c.TCP)
	}
	if diff := cmp.Diff([]string{"a:1", "d:1"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(broken) != 1 || broken[0].Path != upper+"/30-bad.yaml" || len(broken[0].SHA256) != 64 {
		t.Errorf("broken files: %+v", broken)
	}
}

func TestShippedFile(t *testing.T) {
	checks, broken := Load("../../../rootfs/base/usr/lib/coracle/health.d")
	if len(checks) == 0 || len(broken) != 0 {
		t.Errorf("%d checks, broken: %v", len(checks), broken)
	}
}

func TestOnce(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hang":
			<-r.Context().Done()
		case "/teapot":
			w.WriteHeader(http.StatusTeapot)
		case "/elsewhere":
			http.Redirect(w, r, "/", http.StatusFound)
		}
		_, _ = w.Write([]byte("all is well"))
	}))
	defer server.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := silent.Addr().String()
	edge := Edge{Known: []string{"old.service"}, Units: func(_ context.Context, names []string) ([]Unit, error) {
		return []Unit{{"a.service", "loaded", "active", "running"}, {"b.service", "loaded", "failed", "failed"},
			{"c.service", "loaded", "activating", "auto-restart"}, {"old.service", "loaded", "failed", "failed"}}, nil
	}}
	get := func(path string, status int, contains string) Check {
		return Check{HTTP: &HTTP{server.URL + path, status, contains}}
	}
	for _, tt := range []struct {
		name  string
		check Check
		want  string // "" is good
	}{
		{"http", get("/", 0, "well"), ""},
		{"http status", get("/teapot", 418, ""), ""},
		{"http bad status", get("/teapot", 0, ""), `the answer is "418`},
		{"http redirect", get("/elsewhere", 0, ""), `the answer is "302`},
		{"http content", get("/", 0, "ill"), `does not contain "ill"`},
		{"http hang", get("/hang", 0, ""), "deadline exceeded"},
		{"tcp", Check{TCP: address}, ""},
		{"tcp refused", Check{TCP: "127.0.0.1:1"}, "connection refused"},
		{"units", Check{Units: []string{"a.service"}}, ""},
		{"units failed", Check{Units: []string{"a.service", "b.service"}}, "b.service is failed (failed)"},
		{"units absent", Check{Units: []string{"z.service"}}, "z.service is not there"},
		{"not failed", Check{NotFailed: []string{"*"}}, "b.service is failed (failed); c.service is activating (auto-restart)"},
		{"command", Check{Command: []string{"/bin/true"}}, ""},
		{"command fails", Check{Command: []string{"/bin/sh", "-c", "echo one; echo two >&2; exit 3"}}, "exit status 3: two"},
		{"command absent", Check{Command: []string{"/does/not/exist"}}, "no such file"},
		{"command hangs with a child", Check{Command: []string{"/bin/sh", "-c", "sleep 1000 & echo waits; wait"}}, "deadline exceeded: waits"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.check.Timeout = 2 * time.Second
			if strings.Contains(tt.want, "deadline") {
				tt.check.Timeout = 200 * time.Millisecond
			}
			begun := time.Now()
			err := tt.check.Once(context.Background(), edge)
			if (tt.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("deadline: 1m\nchecks:\n  - units: [a.service]\n  - tcp: a:1\n"))
	f.Add([]byte("checks:\n  - http: {url: http://a/, status: 200}\n    deadline: 1s\n"))
	f.Add([]byte("checks: &a [*a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		checks, err := Parse("f", data)
		if err != nil {
			return
		}
		for _, c := range checks {
			if c.Deadline < time.Second || c.Deadline > MaxDeadline || c.Timeout <= 0 || c.Timeout > c.Deadline || c.String() == "" {
				t.Errorf("accepted %+v", c)
			}
		}
	})
}
