package fetch

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/program"
)

func TestGet(t *testing.T) {
	tests := []struct {
		name     string
		statuses []int // of the answers in turn; the last one stays
		want     string
		err      string
		requests int
	}{
		{"at once", []int{200}, "#cloud-config\n", "", 1},
		{"after server errors", []int{503, 500, 200}, "#cloud-config\n", "", 3},
		{"not there: not tried again", []int{404}, "", "404 Not Found", 1},
		{"never", []int{500}, "", "500 Internal Server Error", 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			requests := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.statuses[min(requests, len(tt.statuses)-1)])
				requests++
				w.Write([]byte("#cloud-config\n"))
			}))
			defer server.Close()
			data, err := Getter{Retries: 3, Backoff: time.Microsecond}.Get(context.Background(), server.URL)
			if tt.err == "" && (err != nil || string(data) != tt.want) {
				t.Errorf("Get = %q, %v", data, err)
			}
			if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			if requests != tt.requests {
				t.Errorf("%d requests, want %d", requests, tt.requests)
			}
		})
	}
}

func TestGetIsBounded(t *testing.T) {
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer server.Close()
	defer close(hang)
	_, err := Getter{Timeout: 20 * time.Millisecond, Retries: 1, Backoff: time.Microsecond}.Get(context.Background(), server.URL)
	if err == nil {
		t.Error("no error from a server that does not answer")
	}
	large := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, MaxSize+1)) }))
	defer large.Close()
	if _, err := (Getter{Retries: -1}).Get(context.Background(), large.URL); err == nil {
		t.Error("no error for an answer that is too large")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := (Getter{}).Get(ctx, "http://127.0.0.1:1/"); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v after cancel", err)
	}
}

func TestProgram(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
	}{{nil, ExitUsage}, {[]string{"ftp://x/"}, ExitFailed}, {[]string{"not a url"}, ExitFailed}} {
		var out, err bytes.Buffer
		code := Main(context.Background(), append([]string{Name}, tt.args...), program.Stdio{Out: &out, Err: &err})
		if code != tt.code || err.Len() == 0 {
			t.Errorf("%q: exit %d, want %d; %s", tt.args, code, tt.code, &err)
		}
	}
}
