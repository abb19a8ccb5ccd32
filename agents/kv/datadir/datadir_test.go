package datadir

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestSaveAndLoad(t *testing.T) {
	d := Dir{filepath.Join(t.TempDir(), "data")}
	if s, err := d.Load(); err != nil || s != (State{}) {
		t.Errorf("nothing there: %+v, %v", s, err)
	}
	want := State{Discovery: &Registration{"http://h/t", "1"}, Cluster: &Cluster{ID: "2", Member: "3", Peers: []string{"http://p"}, Size: 3, Removed: true}}
	if err := d.Save(want); err != nil {
		t.Fatal(err)
	}
	got, err := d.Load()
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
}

func TestDamagedAndHalfWritten(t *testing.T) {
	d := Dir{t.TempDir()}
	for _, text := range []string{"", "{", `{"cluster":5}`, "\x00\x00"} {
		if err := os.WriteFile(d.file(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := d.Load(); err != nil || s != (State{}) {
			t.Errorf("%q: %+v, %v", text, s, err)
		}
		if _, err := os.Stat(d.file() + ".damaged"); err != nil {
			t.Errorf("%q is not kept: %v", text, err)
		}
	}
	half := filepath.Join(d.Path, "forming.1.tmp")
	if err := os.WriteFile(half, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d.Clean()
	if _, err := os.Stat(half); !os.IsNotExist(err) {
		t.Errorf("a half-written file stays: %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	d := Dir{t.TempDir()}
	if err := unix.Mount("tmpfs", d.Path, "tmpfs", 0, "size=8k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(d.Path, unix.MNT_DETACH)
	small := State{Cluster: &Cluster{ID: "1"}}
	if err := d.Save(small); err != nil {
		t.Fatal(err)
	}
	if err := d.Save(State{Cluster: &Cluster{ID: strings.Repeat("x", 20000)}}); err == nil {
		t.Error("no error on a full disk")
	}
	if got, err := d.Load(); err != nil || cmp.Diff(small, got) != "" {
		t.Errorf("the old state is lost: %+v, %v", got, err)
	}
	if left, _ := filepath.Glob(filepath.Join(d.Path, "*.tmp")); len(left) > 0 {
		t.Errorf("%v stay", left)
	}
}

func TestSetAside(t *testing.T) {
	d := Dir{t.TempDir()}
	wal := filepath.Join(t.TempDir(), "wal")
	for _, dir := range []string{filepath.Join(d.Path, "member", "snap"), wal} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	moved, err := d.SetAside(wal, now)
	want := []string{filepath.Join(d.Path, "member.removed-20260102T030405Z"), wal + ".removed-20260102T030405Z"}
	if d := cmp.Diff(want, moved); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
	for _, dir := range want {
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
	if err := os.Mkdir(filepath.Join(d.Path, "member"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := d.SetAside("", now.Add(time.Hour)); err != nil {
		t.Error(err)
	}
	left, _ := filepath.Glob(filepath.Join(d.Path, "member*"))
	if d := cmp.Diff([]string{filepath.Join(d.Path, "member.removed-20260102T040405Z")}, left); d != "" {
		t.Errorf("only the last one stays:\n%s", d)
	}
	if moved, err := d.SetAside("", now); err != nil || len(moved) > 0 {
		t.Errorf("again: %v, %v", moved, err)
	}
}
