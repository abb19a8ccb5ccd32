package provision

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/coracle-os/coracle/rootfs/provision/apply"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
	"github.com/coracle-os/coracle/rootfs/provision/try"
)

// TestTakeBack: a boot takes back what was tried, says so, and forgets it.
func TestTakeBack(t *testing.T) {
	w := newWorld(t, nil)
	write(t, w.root, "/etc/motd", "old")
	takeBack(context.Background(), w.Provisioner) // nothing is tried
	dir := filepath.Join(w.root, try.Dir)
	tried, err := try.Begin(dir, try.Head{Name: "new.yaml"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	change := plan.Plan{Steps: []plan.Step{{Action: plan.WriteFile{Path: "/etc/motd", Content: []byte("new"), Mode: 0o644}}}}
	if err := tried.Apply(context.Background(), w.Executor, change, func(apply.Outcome) {}); err != nil {
		t.Fatal(err)
	}
	takeBack(context.Background(), w.Provisioner)
	w.mustSay(t, "the machine stopped while new.yaml was tried and not confirmed: it is taken back", "put /etc/motd back")
	if got := w.file(t, "/etc/motd"); got != "old" {
		t.Errorf("motd is %q", got)
	}
	if _, err := try.Open(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the try: %v", err)
	}
}
