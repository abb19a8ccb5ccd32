package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

func (c Config) tpmSocket() string { return filepath.Join(c.Dir, "tpm.sock") }

// startTPM starts swtpm, which ends with QEMU's connection. The one of a machine
// that was killed may still hold the state for a moment.
func (c Config) startTPM(ctx context.Context) error {
	state := filepath.Join(c.Dir, "tpm")
	if err := os.MkdirAll(state, 0o700); err != nil {
		return fmt.Errorf("start TPM: %w", err)
	}
	if err := os.Remove(c.tpmSocket()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("start TPM: %w", err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		out, err := exec.CommandContext(ctx, "swtpm", "socket", "--tpm2", "--daemon", "--terminate",
			"--tpmstate", "dir="+state, "--ctrl", "type=unixio,path="+c.tpmSocket(),
			"--log", "file="+filepath.Join(c.Dir, "tpm.log")).CombinedOutput()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("start TPM: swtpm: %w: %s (Debian's package is swtpm)", err, out)
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}
