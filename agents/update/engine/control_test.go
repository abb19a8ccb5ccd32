package engine

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/update"
	"github.com/coracle-os/coracle/agents/update/slots"
	"github.com/coracle-os/coracle/agents/update/store"
	"github.com/coracle-os/coracle/initrd/entries"
	"github.com/coracle-os/coracle/rootfs/updatectl"
)

// idle is an engine on a machine whose disk cannot be read.
func idle(t *testing.T) *Engine {
	t.Helper()
	dir := t.TempDir()
	broken := errors.New("the disk is broken")
	return New(Deps{
		Root: dir, Running: update.Target{Version: "1.0", RootHash: "aa"}, Slot: "A", Store: store.New(filepath.Join(dir, "update.db")),
		NeedReboot: filepath.Join(dir, "reboot"), Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Disk: func() (slots.Disk, func() error, error) { return slots.Disk{}, nil, broken },
		ESP:  func(func(entries.Dir) error) error { return broken },
	})
}

func TestOneEngine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s")
	l, err := Listen(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file); err == nil || !strings.Contains(err.Error(), "another update-engine") {
		t.Errorf("%v", err)
	}
	l.SetUnlinkOnClose(false)
	l.Close() // as a killed engine leaves it
	l, err = Listen(file)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// TestRights: everybody may look, only root may change.
func TestRights(t *testing.T) {
	e := idle(t)
	for _, verb := range []string{"check", "apply", "rollback"} {
		if _, err := e.answer(t.Context(), updatectl.Request{Verb: verb}, 500, nil); err == nil || !strings.Contains(err.Error(), "is for root") {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if _, err := e.answer(t.Context(), updatectl.Request{Verb: "channel", Channel: "beta"}, 500, nil); err == nil {
		t.Error("channel beta: no error")
	}
	for _, verb := range []string{"status", "history", "channel"} {
		if _, err := e.answer(t.Context(), updatectl.Request{Verb: verb}, 500, nil); err != nil {
			t.Errorf("%s: %v", verb, err)
		}
	}
}

// TestBrokenDisk: the engine starts and says what is wrong.
func TestBrokenDisk(t *testing.T) {
	e := idle(t)
	e.start()
	if s := e.Status(); !strings.Contains(s.Note, "no update server") || s.Phase != "idle" || s.Error != "the disk is broken" {
		t.Errorf("%+v", s)
	}
	if err := e.serve(t.Context(), job{request: updatectl.Request{Verb: "rollback"}, say: func(string) {}}); err == nil || !strings.Contains(err.Error(), "the disk is broken") {
		t.Errorf("rollback: %v", err)
	}
	if err := e.serve(t.Context(), job{request: updatectl.Request{Verb: "what"}}); err == nil {
		t.Error("unknown verb: no error")
	}
}
