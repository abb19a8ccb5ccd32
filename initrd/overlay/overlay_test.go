package overlay

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMount needs root: it mounts in a namespace of its own.
func TestMount(t *testing.T) {
	tests := []struct {
		name       string
		state      func(t *testing.T, state string) // before the mount
		wantNotice string
		wantErr    bool
		kept       bool // whether a change reaches the state partition
	}{
		{name: "first boot", kept: true, state: func(*testing.T, string) {}},
		{name: "later boot", kept: true, state: func(t *testing.T, state string) { write(t, state+"/upper/changed", "before") }},
		{name: "state cannot take it", wantNotice: "lost at the next boot",
			state: func(t *testing.T, state string) { write(t, state, "a file in the way") }},
		{name: "work directory cannot be made", wantNotice: "lost at the next boot",
			state: func(t *testing.T, state string) {
				write(t, state+"/upper/changed", "before")
				write(t, state+"/work", "a file in the way")
			}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			runtime.LockOSThread() // and never back: the namespace goes with the thread
			if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				t.Fatal(err)
			}
			base := t.TempDir()
			if err := unix.Mount("tmpfs", base, "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			defer unix.Unmount(base, unix.MNT_DETACH)
			dirs := Dirs{Etc: base + "/etc", State: base + "/var/state", Volatile: base + "/run/etc"}
			write(t, dirs.Etc+"/changed", "root's own")
			write(t, dirs.Etc+"/plain", "root's own")
			if err := os.MkdirAll(base+"/var", 0o755); err != nil {
				t.Fatal(err)
			}
			test.state(t, dirs.State)

			notice, err := Mount(dirs)
			if (err != nil) != test.wantErr {
				t.Fatalf("got error %v", err)
			}
			if !strings.Contains(notice, test.wantNotice) || (test.wantNotice == "" && notice != "") {
				t.Errorf("got notice %q, want %q", notice, test.wantNotice)
			}
			if got := read(t, dirs.Etc+"/plain"); got != "root's own" {
				t.Errorf("plain file: got %q", got)
			}
			want := "root's own"
			if _, err := os.Stat(dirs.State + "/upper/changed"); err == nil {
				want = "before"
			}
			if got := read(t, dirs.Etc+"/changed"); got != want {
				t.Errorf("changed file: got %q, want %q", got, want)
			}
			write(t, dirs.Etc+"/new", "now")
			if _, err := os.Stat(dirs.State + "/upper/new"); (err == nil) != test.kept {
				t.Errorf("new file in the state partition: %v, want kept %v", err, test.kept)
			}
		})
	}
}

func TestMountFails(t *testing.T) {
	base := t.TempDir()
	write(t, base+"/file", "")
	if _, err := Mount(Dirs{Etc: base + "/none", State: base + "/file/a", Volatile: base + "/file/b"}); err == nil || !strings.Contains(err.Error(), "in memory") {
		t.Errorf("got %v, want an error about both", err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
