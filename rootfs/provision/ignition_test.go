package provision

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/rootfs/ignition/progress"
)

func gzipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(text))
	w.Close()
	return b.String()
}

// TestIgnitionAtURL: what is fetched from cloud-config-url= and is an Ignition
// config is applied as one, on the first boot.
func TestIgnitionAtURL(t *testing.T) {
	const address, config = "http://x/y", `{"ignition": {"version": "3.4.0"}}`
	for _, tt := range []struct {
		name, document string
		progress       progress.Progress
		err            error
		applied, done  bool
	}{
		{"the first boot", config, progress.Progress{Awaits: address}, nil, true, false},
		{"compressed", gzipped(config), progress.Progress{Awaits: address}, nil, true, false},
		{"a config that can not be applied", config, progress.Progress{Awaits: address}, errors.New("not set up"), true, false},
		{"a cloud-config", "#cloud-config\n", progress.Progress{Awaits: address}, nil, false, true},
		{"an error page", "<html>", progress.Progress{Awaits: address}, nil, false, false},
		{"not the one that is awaited", config, progress.Progress{Awaits: "http://z"}, nil, false, false},
		{"one of the machine's own failed", config, progress.Progress{Problem: "bad"}, nil, false, false},
		{"a cloud-config beside one of the machine's own", "#cloud-config\n", progress.Progress{Problem: "bad"}, nil, false, false},
	} {
		w := newWorld(t, links("10.0.0.1/24"))
		if err := tt.progress.Keep(w.root); err != nil {
			t.Fatal(err)
		}
		applied := ""
		w.URL = address
		w.Fetch = func(context.Context, string) ([]byte, error) { return []byte(tt.document), nil }
		w.Ignition = func(_ context.Context, name string, data []byte) error {
			applied = name + " " + string(data)
			return tt.err
		}
		summary := w.Run(context.Background())
		if (applied == address+" "+tt.document) != tt.applied || progress.Done(w.root) != tt.done {
			t.Errorf("%s: applied %q, done %t", tt.name, applied, progress.Done(w.root))
		}
		if failed := tt.err != nil || strings.HasPrefix(tt.document, "<"); summary.Failed() != failed {
			t.Errorf("%s: %q", tt.name, w.events)
		}
	}
	w := newWorld(t, links("10.0.0.1/24"))
	w.URL = address
	w.Ignition = func(context.Context, string, []byte) error { t.Error("no answer, and yet a config"); return nil }
	if err := (progress.Progress{Awaits: address}).Keep(w.root); err != nil {
		t.Fatal(err)
	}
	if summary := w.Run(context.Background()); !summary.Failed() || progress.Done(w.root) {
		t.Errorf("a server that is down: %q", w.events)
	}
}

func TestIgnitionBy(t *testing.T) {
	dir := t.TempDir()
	program, out := filepath.Join(dir, "program"), filepath.Join(dir, "out")
	script := "#!/bin/sh\n{ echo $@; cat; } > " + out + "\necho said >&2; echo why >&2; exit 1\n"
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	var said []string
	err := ignitionBy(program, func(line string) { said = append(said, line) })(t.Context(), "http://x", []byte("config"))
	got, _ := os.ReadFile(out)
	if err == nil || err.Error() != "why" || strings.Join(said, " ") != "said" || string(got) != "ignition -config http://x\nconfig" {
		t.Errorf("%v, said %q, was given %q", err, said, got)
	}
}
