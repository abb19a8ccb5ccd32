package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/coracle-os/coracle/image/release"
)

var content = bytes.Repeat([]byte("0123456789abcdef"), 16<<10)

// source is a client with these servers, and a release whose blob is content.
func source(t *testing.T, rate int, handlers ...http.HandlerFunc) (*Client, *Release) {
	t.Helper()
	var mirrors []Mirror
	for _, h := range handlers {
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		u, err := url.Parse(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		mirrors = append(mirrors, HTTP{Base: u, Client: NewClient()})
	}
	sum := sha256.Sum256(content)
	blob := &metadata.TargetFiles{Path: "1.0/image.blob", Length: int64(len(content)), Hashes: metadata.Hashes{"sha256": sum[:]}}
	c := New(Options{Mirrors: mirrors, Dir: t.TempDir(), Now: time.Now, Rate: rate, Log: slog.New(slog.DiscardHandler)})
	return c, &Release{blob: blob, Info: release.Info{Version: "1.0"}}
}

func serve(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

func gone(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// cut is a writer that breaks off after some bytes.
type cut struct {
	http.ResponseWriter
	left int
}

func (c *cut) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b[:min(len(b), c.left)])
	c.left -= n
	if c.left == 0 {
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// TestBrokenTransfers has a server that breaks off again and again: no byte is
// fetched twice.
func TestBrokenTransfers(t *testing.T) {
	c, r := source(t, 0, func(w http.ResponseWriter, r *http.Request) { serve(&cut{w, 30_000}, r) })
	want := release.Range{Offset: 1000, Length: 200_000}
	b, err := c.Range(t.Context(), r, want, func([]byte) error { return nil })
	if err != nil || !bytes.Equal(b, content[1000:201_000]) {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	if c.Received() != want.Length {
		t.Errorf("%d bytes came, want %d", c.Received(), want.Length)
	}
}

func TestNextMirror(t *testing.T) {
	lie := func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(make([]byte, len(content))))
	}
	c, r := source(t, 0, gone, http.NotFound, lie, serve)
	check := func(b []byte) error {
		if b[1] == 0 {
			return release.ErrDamaged
		}
		return nil
	}
	if _, err := c.Range(t.Context(), r, release.Range{Length: 100}, check); err != nil {
		t.Fatal(err)
	}
	if last := c.order()[3]; c.suspect[last.Name()] == nil {
		t.Error("the mirror that lied is not the last one now")
	}
}

func TestNoMirrorLeft(t *testing.T) {
	c, r := source(t, 0, gone, http.NotFound)
	_, err := c.Range(t.Context(), r, release.Range{Length: 100}, func([]byte) error { return nil })
	if !errors.Is(err, fs.ErrNotExist) || strings.Count(err.Error(), "mirror http") != 2 {
		t.Errorf("%v, want what both mirrors did", err)
	}
	c, r = source(t, 0)
	if _, err := c.Check(t.Context(), "Stable!"); err == nil {
		t.Error("a channel of that name: no error")
	}
	_ = r
}

func TestCancel(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	c, r := source(t, 0, func(w http.ResponseWriter, r *http.Request) { stop(); <-r.Context().Done() })
	if _, err := c.Range(ctx, r, release.Range{Length: 100}, func([]byte) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want canceled", err)
	}
}

func TestRate(t *testing.T) {
	c, r := source(t, 200_000, serve)
	start := time.Now()
	if _, err := c.Range(t.Context(), r, release.Range{Length: 200_000}, func([]byte) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 600*time.Millisecond { // a quarter comes at once
		t.Errorf("200 kB in %v at 200 kB/s", took)
	}
}

func TestProxy(t *testing.T) {
	asked := ""
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked = r.URL.String(); serve(w, r) }))
	defer proxy.Close()
	// The environment is read once in a process, so another one asks.
	if os.Getenv("FETCH_CHILD") != "" {
		u := &url.URL{Scheme: "http", Host: "updates.invalid"}
		body, err := (HTTP{Base: u, Client: NewClient()}).Open(t.Context(), "x", 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		body.Close()
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestProxy$")
	cmd.Env = append(os.Environ(), "FETCH_CHILD=1", "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "NO_PROXY=", "no_proxy=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if asked != "http://updates.invalid/x" {
		t.Errorf("the proxy was asked for %q", asked)
	}
}

// TestOtherPublisher reads the repository among go-tuf's examples, which other
// tools made: its signatures hold, and it has no channel.
func TestOtherPublisher(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/theupdateframework/go-tuf/v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "examples/multirepo/repository")
	root, err := os.ReadFile(filepath.Join(dir, "metadata/1.root.json"))
	if err != nil {
		t.Fatal(err)
	}
	trust := t.TempDir()
	now := func() time.Time { return time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC) }
	c := New(Options{Mirrors: []Mirror{FS{os.DirFS(dir), "example"}}, Root: root, Dir: trust, Now: now, Log: slog.New(slog.DiscardHandler)})
	_, err = c.Check(t.Context(), "stable")
	if err == nil || !strings.Contains(err.Error(), "choose another channel") {
		t.Fatalf("%v, want that it has no such channel", err)
	}
	for _, role := range []string{"root", "timestamp", "snapshot", "targets"} {
		if _, err := os.Stat(filepath.Join(trust, role+".json")); err != nil {
			t.Errorf("not accepted: %v", err)
		}
	}
}

// TestRootExchanged has an operator who puts another trusted root in place.
func TestRootExchanged(t *testing.T) {
	dir := t.TempDir()
	one := &Client{root: []byte("one"), dir: dir}
	if root, err := one.trusted(); err != nil || string(root) != "one" {
		t.Fatalf("%s, %v", root, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "root.json"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if root, err := one.trusted(); err != nil || string(root) != "one" {
		t.Errorf("damaged metadata: %s, %v", root, err)
	}
	two := &Client{root: []byte("two"), dir: dir}
	if root, err := two.trusted(); err != nil || string(root) != "two" {
		t.Errorf("%s, %v", root, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "root.json")); err == nil {
		t.Error("the root metadata of the old trust are kept")
	}
}
