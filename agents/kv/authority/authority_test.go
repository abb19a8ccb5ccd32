package authority

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/kv/pki"
)

func TestDecide(t *testing.T) {
	damaged := os.ErrInvalid
	for _, c := range []struct {
		name string
		f    facts
		want action
	}{
		{"the first start of the first machine", facts{}, create},
		{"etcd ran without TLS before", facts{member: true}, create},
		{"restart", facts{there: true, issued: true, member: true, sources: true}, keep},
		{"restart alone", facts{there: true, issued: true, member: true}, keep},
		{"the first start of another machine", facts{sources: true}, fetch},
		{"another machine lost the file", facts{issued: true, member: true, sources: true}, fetch},
		{"stood by, or was in another cluster", facts{there: true, issued: true, sources: true}, compare},
		{"alone, damaged", facts{there: true, problem: damaged, issued: true, member: true}, refuse},
		{"damaged, others are known", facts{there: true, problem: damaged, issued: true, member: true, sources: true}, fetch},
		{"alone, lost", facts{issued: true, member: true}, refuse},
		{"alone, lost with the member", facts{issued: true}, refuse},
	} {
		if got, reason := decide(c.f); got != c.want || reason == "" {
			t.Errorf("%s: %s (%s), want %s", c.name, got, reason, c.want)
		}
	}
}

func newConfig(t *testing.T) (Config, *[]string) {
	t.Helper()
	var said []string
	return Config{
		File: filepath.Join(t.TempDir(), "pki", "authority.pem"), Token: "t", Now: time.Now, Random: rand.Reader,
		Tell: func(text string, _ bool) { said = append(said, text) },
	}, &said
}

func made(t *testing.T) []byte {
	t.Helper()
	a, err := pki.New("a", time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, err := a.PEM()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTake(t *testing.T) {
	c, said := newConfig(t)
	ours, theirs := made(t), made(t)
	check := func(file string, want []byte) {
		t.Helper()
		if got, err := os.ReadFile(file); err != nil || string(got) != string(want) {
			t.Errorf("%s: %v, or not what was taken", file, err)
		}
	}
	if err := c.take(ours, pki.Authority{}); err != nil {
		t.Fatal(err)
	}
	check(c.File, ours)
	old, err := pki.Parse(ours)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.take([]byte("garbage"), old); err == nil || !strings.Contains(err.Error(), "another machine of the cluster") {
		t.Errorf("garbage: %v", err)
	}
	*said = nil
	if err := c.take(ours, old); err != nil || len(*said) > 0 {
		t.Errorf("the same again: %v, %q", err, *said)
	}
	check(c.File, ours)
	if err := c.take(theirs, old); err != nil || !strings.Contains(strings.Join(*said, ";"), "was not the cluster's") {
		t.Errorf("another one: %v, %q", err, *said)
	}
	check(c.File, theirs)
	check(c.File+".old", ours)
}

// TestWaits: a machine whose sources do not answer waits until it is told to
// stop, and says once what it waits for.
func TestWaits(t *testing.T) {
	c, said := newConfig(t)
	c.Sources = []string{"127.0.0.99"}
	ctx, cancel := context.WithCancel(t.Context())
	c.Tell = func(text string, _ bool) {
		*said = append(*said, text)
		if strings.Contains(text, "waiting for the authority") {
			cancel()
		}
	}
	if err := Obtain(ctx, c); err == nil || ctx.Err() == nil {
		t.Errorf("ended with %v, %q", err, *said)
	}
	if _, err := os.Stat(c.File); err == nil {
		t.Error("an authority came from nowhere")
	}
}

// TestNotWritten: an authority that could not be kept is not used.
func TestNotWritten(t *testing.T) {
	c, _ := newConfig(t)
	if err := os.WriteFile(filepath.Dir(c.File), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Obtain(t.Context(), c); err == nil || !strings.Contains(err.Error(), "authority") {
		t.Errorf("got %v", err)
	}
}
