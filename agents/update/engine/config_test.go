package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func put(t *testing.T, root, name, text string) {
	t.Helper()
	file := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestReadConfig(t *testing.T) {
	root := t.TempDir()
	c, err := ReadConfig(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Config{Channel: "stable", Interval: time.Hour}, c); diff != "" {
		t.Errorf("nothing set (-want +got):\n%s", diff)
	}
	if !strings.Contains(c.Why(), "no update server") {
		t.Errorf("why: %q", c.Why())
	}
	put(t, root, "usr/share/coracle/update.conf", "GROUP=stable\n#SERVER=http://no\n")
	put(t, root, "etc/coreos/update.conf", "GROUP=beta\nSERVER=\"http://a/x, https://b\"\nDOWNLOAD_RATE=2M\n")
	if c, err = ReadConfig(root, []string{"UPDATE_ENGINE_CHECK_INTERVAL=5m", "GROUP=ignored"}); err != nil {
		t.Fatal(err)
	}
	want := Config{Channel: "beta", Servers: []string{"http://a/x", "https://b"}, Interval: 5 * time.Minute, Rate: 2 << 20}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !strings.Contains(c.Why(), "root.json") {
		t.Errorf("why: %q", c.Why())
	}
	put(t, root, "usr/share/coracle/tuf/root.json", "image")
	put(t, root, "etc/coracle/tuf/root.json", "operator")
	if c, _ = ReadConfig(root, nil); string(c.Root) != "operator" || c.Why() != "" {
		t.Errorf("root %q, why %q", c.Root, c.Why())
	}
}

func TestBadConfig(t *testing.T) {
	for text, want := range map[string]string{
		"CHECK_INTERVAL=soon":  "CHECK_INTERVAL",
		"CHECK_INTERVAL=1ms":   "CHECK_INTERVAL",
		"DOWNLOAD_RATE=fast":   "DOWNLOAD_RATE",
		"DOWNLOAD_RATE=-1":     "DOWNLOAD_RATE",
		"SERVER=ftp://a":       "SERVER",
		"SERVER=updates.local": "SERVER",
	} {
		root := t.TempDir()
		put(t, root, "etc/coreos/update.conf", text+"\n")
		c, err := ReadConfig(root, nil)
		if err == nil {
			_, err = c.Mirrors()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", text, err, want)
		}
	}
}

func TestSetChannel(t *testing.T) {
	root := t.TempDir()
	if err := SetChannel(root, "beta"); err != nil {
		t.Fatal(err)
	}
	put(t, root, "etc/coreos/update.conf", "# mine\nGROUP=beta\nSERVER=http://a")
	if err := SetChannel(root, "alpha"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(root, "etc/coreos/update.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("# mine\nGROUP=alpha\nSERVER=http://a\n", string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
