package curl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/google/go-cmp/cmp"
)

// mirror answers with what it was sent.
func mirror(w http.ResponseWriter, r *http.Request) {
	data, _ := io.ReadAll(r.Body)
	switch r.URL.Path {
	case "/404":
		http.Error(w, "not here", http.StatusNotFound)
		return
	case "/there":
		http.Redirect(w, r, "/moved", http.StatusFound)
		return
	case "/circle":
		http.Redirect(w, r, "/circle", http.StatusFound)
		return
	case "/slow":
		select {
		case <-r.Context().Done():
		case <-time.After(20 * time.Second):
		}
		return
	case "/cut":
		conn, _, _ := w.(http.Hijacker).Hijack()
		conn.Close()
		return
	}
	fmt.Fprintf(w, "%s %s\nbody %q\nlength %d\n", r.Method, r.URL.RequestURI(), data, r.ContentLength)
	for _, name := range []string{"Accept", "Authorization", "Content-Type", "Referer", "X-One", "X-Two"} {
		fmt.Fprintf(w, "%s: %q\n", name, r.Header.Values(name))
	}
}

// result is what a command line gave.
type result struct {
	Code     int
	Out, Err string
	Files    map[string]string
}

func ours(t *testing.T, dir, input string, args []string) result {
	t.Helper()
	t.Chdir(dir)
	var out, err bytes.Buffer
	code := Main(context.Background(), append([]string{"curl"}, args...), program.Stdio{In: strings.NewReader(input), Out: &out, Err: &err})
	return result{code, out.String(), err.String(), files(t, dir)}
}

func theirs(t *testing.T, dir, input string, args []string) result {
	t.Helper()
	cmd := exec.Command("curl", append([]string{"-q"}, args...)...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(input)
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	var exit *exec.ExitError
	if e := cmd.Run(); e != nil && !errors.As(e, &exit) {
		t.Fatal(e)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), err.String(), files(t, dir)}
}

func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	names, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(name)] = string(data)
	}
	return all
}

// TestLikeCurl gives the same command lines to curl itself.
func TestLikeCurl(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(mirror))
	defer server.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(mirror))
	secure.Config.ErrorLog = nil
	defer secure.Close()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	local := &http.Server{Handler: http.HandlerFunc(mirror)}
	go local.Serve(l)
	defer local.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, line := range []string{
		"URL/v2/keys/message1 -XPUT -d value=Book1", "-L URL/v2/keys/foo?recursive=true", "URL", "-s URL/a -d a=1 -d b=2 -d @file", "URL/a --data-binary @file",
		"-d @- URL/a", "--data-raw @file URL/a", "--data-urlencode q=a+b&c URL/a", "-G -d x=1 --data-urlencode y=z%20 URL/a?w=0", "-X DELETE URL/a", "-XPOST URL/a", "-d  URL/a",
		"-T file URL/put", "-T - URL/put", "-u me:secret URL/a", "-H X-One:1 -H X-One:2 -H X-Two: URL/a", "-H Accept: URL/a", "-H Content-Type:application/json -d {} URL/a", "--json {\"a\":1} URL/a", "-e http://from URL/a",
		"-o out URL/a", "-sO URL/name.txt", "-O URL/", "-sSL URL/there", "URL/there", "-L URL/circle --max-redirs 3", "-L -d a=1 URL/there",
		"-f URL/404", "-sf URL/404", "-sSf URL/404", "--fail-with-body URL/404", "URL/404", "-w %{http_code}\\n -o /dev/null -s URL/404", "-s -w %{size_download}:%{content_type}:%{redirect_url} URL/a",
		"-s CLOSED/", "-sS CLOSED/", "-sS http://no-such-host.invalid/", "-m 1 -sS URL/slow", "-sS URL/cut", "-sS", "--no-such-option URL", "-o no/such/dir URL/a",
		"-s TLS/a", "-sk TLS/a", "--unix-socket SOCKET -s http://localhost/fleet", "-s --resolve name.test:PORT:127.0.0.1 http://name.test:PORT/a", "-s URL/1 URL/2", "-s URL/1 CLOSED/", "-s CLOSED/ URL/1",
		"-s --retry 1 --retry-delay 1 URL/a",
	} {
		t.Run(line, func(t *testing.T) {
			port := server.URL[strings.LastIndexByte(server.URL, ':')+1:]
			var args []string
			for word := range strings.SplitSeq(line, " ") {
				args = append(args, strings.NewReplacer("URL", server.URL, "CLOSED", "http://"+closed.Addr().String(), "TLS", secure.URL, "SOCKET", socket, "PORT", port).Replace(word))
			}
			both := [2]result{}
			for i, run := range []func(*testing.T, string, string, []string) result{ours, theirs} {
				dir := t.TempDir()
				if err := os.WriteFile(filepath.Join(dir, "file"), []byte("line 1\nline 2\r\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				both[i] = run(t, dir, "from\nstdin\n", args)
			}
			// The meter, and the wording after the code, are curl's own.
			for i := range both {
				both[i].Err = words(both[i].Err)
			}
			if diff := cmp.Diff(both[1], both[0]); diff != "" {
				t.Errorf("curl (-), ours (+): %s", diff)
			}
		})
	}
}

// words keeps the lines of errors, up to their number.
func words(text string) string {
	var kept []string
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "curl: ("); ok {
			code, _, _ := strings.Cut(rest, ")")
			kept = append(kept, "("+code+")")
		}
	}
	return strings.Join(kept, " ")
}

func TestHeaders(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(mirror))
	defer server.Close()
	got := ours(t, t.TempDir(), "", []string{"-si", server.URL + "/404"})
	if !strings.HasPrefix(got.Out, "HTTP/1.1 404 Not Found\r\n") || !strings.HasSuffix(got.Out, "\r\n\r\nnot here\n") {
		t.Errorf("-i: %q", got.Out)
	}
	got = ours(t, t.TempDir(), "", []string{"-sI", server.URL + "/a"})
	if !strings.HasPrefix(got.Out, "HTTP/1.1 200 OK\r\n") || strings.Contains(got.Out, "body") {
		t.Errorf("-I: %q", got.Out)
	}
	got = ours(t, t.TempDir(), "", []string{"-sv", server.URL + "/a"})
	if !strings.Contains(got.Err, "> GET /a HTTP/1.1\n") || !strings.Contains(got.Err, "< HTTP/1.1 200 OK\n") {
		t.Errorf("-v: %q", got.Err)
	}
}
