package wget

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/rootfs/program"
)

func TestWget(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "content") })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/file", http.StatusFound) })
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.Header.Get("X-One"), body)
	})
	mux.HandleFunc("/short", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, "half")
	})
	plain, secure := httptest.NewServer(mux), httptest.NewTLSServer(mux)
	defer plain.Close()
	defer secure.Close()
	t.Chdir(t.TempDir())
	for _, test := range []struct {
		args string
		code int
		out  string // standard output
		err  string // in standard error
		file string // name of a file with "content"
	}{
		{"-O - PLAIN/file", 0, "content", "", ""},
		{"-qO- PLAIN/moved", 0, "content", "", ""},
		{"PLAIN/file", 0, "", "file: 7 bytes", "file"},
		{"-q -O other PLAIN/file", 0, "", "", "other"},
		{"PLAIN/file -O last", 0, "", "last: 7 bytes", "last"},
		{"-qO- --header X-One:1 --post-data a=b PLAIN/echo", 0, "POST 1 a=b", "", ""},
		{"-qO- PLAIN/none", 8, "", "404 Not Found", ""},
		{"-q -O broken PLAIN/short", 4, "", "unexpected EOF", ""},
		{"-q http://127.0.0.1:1/", 4, "", "connection refused", ""},
		{"-qO- SECURE/file", 5, "", "certificate", ""},
		{"-qO- --no-check-certificate SECURE/file", 0, "content", "", ""},
		{"-q -O /nowhere/file PLAIN/file", 3, "", "no such file", ""},
		{"ftp://host/file", 2, "", "not an address", ""},
		{"", 2, "", "0 URLs", ""},
		{"--mirror PLAIN/", 2, "", "unknown flag", ""},
	} {
		var out, stderr bytes.Buffer
		args := strings.Fields("wget " + strings.NewReplacer("PLAIN", plain.URL, "SECURE", secure.URL).Replace(test.args))
		code := Main(t.Context(), args, program.Stdio{Out: &out, Err: &stderr})
		if code != test.code || out.String() != test.out || !strings.Contains(stderr.String(), test.err) || test.err == "" && stderr.Len() > 0 {
			t.Errorf("%s: code %d, want %d; out %q, want %q; err %q, want %q", test.args, code, test.code, out.String(), test.out, stderr.String(), test.err)
		}
		if test.file != "" {
			if got, err := os.ReadFile(test.file); err != nil || string(got) != "content" {
				t.Errorf("%s: %q has %q, %v", test.args, test.file, got, err)
			}
		}
	}
	if left, err := os.ReadDir("."); err != nil || len(left) != 3 {
		t.Errorf("the directory holds %v, %v; want the 3 files and nothing half-written", left, err)
	}
}
