package registry

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// serve runs the service before Debian's etcd with its v2 API.
func serve(t *testing.T) *httptest.Server {
	t.Helper()
	program, err := exec.LookPath("etcd")
	if err != nil {
		t.Fatalf("%v; install etcd-server", err)
	}
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return "http://" + l.Addr().String()
	}
	client, peer := free(), free()
	cmd := exec.Command(program, "--enable-v2", "--data-dir", t.TempDir(), "--unsafe-no-fsync", "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
	cmd.Env = append(os.Environ(), "ETCD_UNSUPPORTED_ARCH=")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	backend, _ := url.Parse(client)
	srv := httptest.NewServer(New(Config{Backend: backend, HTTP: http.DefaultTransport, Log: slog.New(slog.DiscardHandler)}))
	t.Cleanup(srv.Close)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if status, _ := do(t, srv, "GET", "/health", ""); status == 200 {
			return srv
		}
		if time.Now().After(deadline) {
			t.Fatal("etcd does not answer")
		}
	}
}

func do(t *testing.T, srv *httptest.Server, method, path, form string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, srv.URL+path, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	if form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

func token(t *testing.T, srv *httptest.Server, method, query string) string {
	t.Helper()
	status, text := do(t, srv, method, "/new"+query, "")
	path := strings.TrimPrefix(text, srv.URL)
	if status != 200 || !regexp.MustCompile(`^/[0-9a-f]{32}$`).MatchString(path) {
		t.Fatalf("%s /new%s: %d %q", method, query, status, text)
	}
	return path
}

func TestProtocol(t *testing.T) {
	srv := serve(t)
	for query, size := range map[string]string{"": "3", "?size=5": "5", "?size=": "3"} {
		for _, method := range []string{"GET", "PUT"} {
			if _, text := do(t, srv, "GET", token(t, srv, method, query)+"/_config/size", ""); !strings.Contains(text, `"value":"`+size+`"`) {
				t.Errorf("%s /new%s: size %s", method, query, text)
			}
		}
	}
	path := token(t, srv, "PUT", "?size=2")
	status, text := do(t, srv, "PUT", path+"/abc?prevExist=false", "value=a%3Dhttp%3A%2F%2F10.0.0.1%3A2380")
	if status != 201 || !strings.Contains(text, `"action":"create"`) {
		t.Errorf("register: %d %s", status, text)
	}
	if status, text = do(t, srv, "PUT", path+"/abc?prevExist=false", "value=a%3Dhttp%3A%2F%2F10.0.0.1%3A2380"); status != 412 || !strings.Contains(text, `"errorCode":105`) {
		t.Errorf("register again: %d %s", status, text)
	}
	for _, p := range []string{path, path + "/", path + "?recursive=true&sorted=false&quorum=false"} {
		if status, text = do(t, srv, "GET", p, ""); status != 200 || !strings.Contains(text, path+`/abc","value":"a=http://10.0.0.1:2380"`) {
			t.Errorf("GET %s: %d %s", p, status, text)
		}
	}
	seen := make(chan string)
	go func() {
		_, text := do(t, srv, "GET", path+"?wait=true&recursive=true&waitIndex=1", "")
		_, more := do(t, srv, "GET", path+"/def?wait=true", "")
		seen <- text + more
	}()
	time.AfterFunc(300*time.Millisecond, func() { do(t, srv, "PUT", path+"/def", "value=b%3Dhttp%3A%2F%2F10.0.0.2%3A2380") })
	if text := <-seen; !strings.Contains(text, "10.0.0.2") {
		t.Errorf("watch: %s", text)
	}
	if status, _ = do(t, srv, "DELETE", path+"/abc", ""); status != 200 {
		t.Errorf("delete: %d", status)
	}
	if status, text = do(t, srv, "GET", "/0123456789abcdef0123456789abcdef/_config/size", ""); status != 404 || !strings.Contains(text, `"errorCode":100`) {
		t.Errorf("unknown token: %d %s", status, text)
	}
}

func TestRefused(t *testing.T) {
	srv := serve(t)
	path := token(t, srv, "GET", "")
	good := "value=a%3Dhttp%3A%2F%2F10.0.0.1%3A2380"
	for _, c := range []struct {
		method, path, form string
		status             int
	}{
		{"POST", "/new", "", 405},
		{"GET", "/new?size=three", "", 400},
		{"GET", "/new?size=0", "", 400},
		{"GET", "/new?size=-1", "", 400},
		{"GET", "/new?size=1000000", "", 400},
		{"PUT", path, good, 405},
		{"DELETE", path, "", 405},
		{"DELETE", path + "?recursive=true", "", 405},
		{"PUT", path + "/_config/size", "value=9", 405},
		{"DELETE", path + "/_config/size", "", 405},
		{"POST", path + "/abc", good, 405},
		{"PUT", path + "/abc?dir=true", good, 400},
		{"PUT", path + "/abc?ttl=5", good, 400},
		{"PUT", path + "/abc?refresh=true", good, 400},
		{"PUT", path + "/abc", "value=rubbish", 400},
		{"PUT", path + "/abc", "", 400},
		{"PUT", path + "/abc", "value=a%3Dhttp%3A%2F%2Fh%3A1%2Cb", 400},
		{"PUT", path + "/abc", "value=" + strings.Repeat("x", 10000), 400},
		{"PUT", "/0123456789abcdef0123456789abcdef/abc", good, 400},
		{"PUT", path + "/xyz", good, 404},
		{"GET", path + "/_config", "", 404},
		{"GET", path + "/abc/def", "", 404},
		{"GET", path + "/%2e%2e/%2e%2e/secret", "", 404},
		{"GET", path + "%2Fabc", "", 404},
		{"GET", path + "?consistent=true", "", 400},
		{"GET", "/v2/keys/", "", 404},
		{"GET", "/short", "", 404},
	} {
		if status, text := do(t, srv, c.method, c.path, c.form); status != c.status {
			t.Errorf("%s %s: %d %.200s, want %d", c.method, c.path, status, text, c.status)
		}
	}
	if _, text := do(t, srv, "GET", path+"?recursive=true", ""); strings.Contains(text, "nodes") {
		t.Errorf("something was written: %s", text)
	}
}

func TestWithoutEtcd(t *testing.T) {
	backend, _ := url.Parse("http://127.0.0.1:1")
	srv := httptest.NewServer(New(Config{Backend: backend, HTTP: http.DefaultTransport, Log: slog.New(slog.DiscardHandler)}))
	defer srv.Close()
	for path, want := range map[string]int{"/new": 400, "/health": 503, "/0123456789abcdef0123456789abcdef": 502} {
		if status, text := do(t, srv, "GET", path, ""); status != want {
			t.Errorf("%s: %d %s, want %d", path, status, text, want)
		}
	}
}
