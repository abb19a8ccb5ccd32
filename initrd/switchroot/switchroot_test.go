package switchroot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	const init = "/usr/lib/coracle/init"
	tests := []struct {
		name     string
		dirs     []string
		mode     os.FileMode // of init; 0 = none
		wantErr  error
		wantText string
	}{
		{name: "good", dirs: []string{"dev", "proc", "sys", "run"}, mode: 0o755},
		{name: "no init", dirs: []string{"dev", "proc", "sys", "run"}, wantErr: ErrNoInit, wantText: "no such file"},
		{name: "not executable", dirs: []string{"dev", "proc", "sys", "run"}, mode: 0o644, wantErr: ErrNoInit, wantText: "not executable"},
		{name: "no directory to move to", dirs: []string{"dev", "proc", "sys"}, mode: 0o755, wantText: "/run"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			for _, name := range append(test.dirs, filepath.Dir(init)) {
				if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if test.mode != 0 {
				if err := os.WriteFile(filepath.Join(root, init), nil, test.mode); err != nil {
					t.Fatal(err)
				}
			}
			err := Check(root, init)
			if test.wantText == "" {
				if err != nil {
					t.Errorf("got error %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.wantText) || (test.wantErr != nil && !errors.Is(err, test.wantErr)) {
				t.Errorf("got error %v, want %v with %q", err, test.wantErr, test.wantText)
			}
		})
	}
}
