package site

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/image/pxe"
	"github.com/coracle-os/coracle/tools/pxe/answer"
)

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// start serves a site and returns a function that gets a path.
func start(t *testing.T, s *Site) (get func(path string) (int, string), log *strings.Builder) {
	t.Helper()
	s.Dir, s.Programs = t.TempDir(), t.TempDir()
	for _, name := range pxe.Names() {
		write(t, filepath.Join(s.Dir, name), "content of "+name)
	}
	for _, name := range []string{answer.BIOSProgram, answer.UEFIProgram} {
		write(t, filepath.Join(s.Programs, name), "content of "+name)
	}
	log = &strings.Builder{}
	s.Record = filepath.Join(s.Dir, "installed")
	s.Now = func() time.Time { return time.Unix(1, 0) }
	s.Log = func(format string, args ...any) { fmt.Fprintf(log, format+"\n", args...) }
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return func(path string) (int, string) {
		answer, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, strings.ReplaceAll(string(body), server.URL, "URL")
	}, log
}

const machine = "/machine/52-54-00-12-34-56/"

func TestLive(t *testing.T) {
	data := t.TempDir()
	write(t, filepath.Join(data, "52-54-00-12-34-56.yaml"), "#cloud-config\n")
	get, log := start(t, &Site{Args: []string{"quiet", "coracle.state=memory"}, UserData: data})
	for path, want := range map[string]string{
		"/boot.ipxe":                           firstScript,
		"/vmlinuz":                             "content of vmlinuz",
		"/undionly.kpxe":                       "content of undionly.kpxe",
		machine + "boot.ipxe":                  "#!ipxe\nset coracle-args quiet coracle.state=memory cloud-config-url=URL" + machine + "user-data\nchain URL/coracle.ipxe\n",
		machine + "user-data":                  "#cloud-config\n",
		"/machine/52-54-00-00-00-00/boot.ipxe": "#!ipxe\nset coracle-args quiet coracle.state=memory\nchain URL/coracle.ipxe\n",
	} {
		if code, got := get(path); code != http.StatusOK || got != want {
			t.Errorf("%s: %d, %q; want %q", path, code, got, want)
		}
		if !strings.Contains(log.String(), path+": 200") {
			t.Errorf("%s is not in the log:\n%s", path, log)
		}
	}
	for _, path := range []string{"/", "/etc/passwd", "/machine/x/boot.ipxe", machine + "../../coracle.ipxe", machine + "other", machine + "image", "/machine/52-54-00-00-00-00/user-data", "/installed"} {
		if code, got := get(path); code == http.StatusOK && got != "content of coracle.ipxe" {
			t.Errorf("%s: %d, %q", path, code, got)
		}
	}
	write(t, filepath.Join(data, "default.yml"), "#cloud-config\n# all\n")
	if _, got := get("/machine/52-54-00-00-00-00/user-data"); got != "#cloud-config\n# all\n" {
		t.Errorf("the default: %q", got)
	}
}

// TestInstall: a machine installs itself once, also when the server restarts.
func TestInstall(t *testing.T) {
	data := filepath.Join(t.TempDir(), "user-data")
	write(t, data, "#cloud-config\n")
	s := &Site{Install: "/dev/vda", UserData: data}
	get, _ := start(t, s)
	want := "#!ipxe\nset coracle-args coracle.install=/dev/vda coracle.report=URL" + machine + "installed coracle.config=URL" + machine + "user-data\nchain URL/coracle.ipxe\n"
	for range 2 {
		if _, got := get(machine + "boot.ipxe"); got != want {
			t.Errorf("first: %q, want %q", got, want)
		}
	}
	for range 2 {
		if code, _ := get(machine + "installed"); code != http.StatusOK {
			t.Errorf("report: %d", code)
		}
	}
	if _, got := get(machine + "boot.ipxe"); got != localScript {
		t.Errorf("installed: %q", got)
	}
	if _, got := get("/machine/52-54-00-00-00-00/boot.ipxe"); !strings.Contains(got, "coracle.install=") {
		t.Errorf("another machine: %q", got)
	}
	if content, err := os.ReadFile(s.Record); err != nil || string(content) != "52:54:00:12:34:56 1970-01-01T00:00:01Z\n" {
		t.Errorf("the record has %q, %v", content, err)
	}
}

func TestCheck(t *testing.T) {
	s := &Site{Dir: t.TempDir(), Programs: t.TempDir()}
	if err := s.Check(); err == nil || !strings.Contains(err.Error(), "coracle build -format pxe") {
		t.Errorf("without a set: %v", err)
	}
	for _, name := range pxe.Names() {
		write(t, filepath.Join(s.Dir, name), "")
	}
	if err := s.Check(); err == nil || !strings.Contains(err.Error(), "package ipxe") {
		t.Errorf("without iPXE: %v", err)
	}
}
