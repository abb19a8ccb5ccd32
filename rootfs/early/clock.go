package early

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Files below the root whose times bound the clock, and the random seed.
const (
	releaseFile = "usr/lib/os-release"
	clockFile   = "var/lib/systemd/timesync/clock"
	seedFile    = "var/lib/systemd/random-seed"
)

// Clock sets the clock forward when it is earlier than the release or than the
// last time that SaveClock noted: a machine without a battery starts in 1970.
// It returns the time that it set, or the zero time.
func Clock(root string, now time.Time) (time.Time, error) {
	least := time.Time{}
	for _, f := range []string{releaseFile, clockFile} {
		if info, err := os.Stat(filepath.Join(root, f)); err == nil && info.ModTime().After(least) {
			least = info.ModTime()
		}
	}
	if !least.After(now) {
		return time.Time{}, nil
	}
	tv := unix.NsecToTimeval(least.UnixNano())
	if err := unix.Settimeofday(&tv); err != nil {
		return time.Time{}, fmt.Errorf("set the clock forward to %s: %w", least.UTC().Format(time.RFC3339), err)
	}
	return least, nil
}

// SaveClock notes the present time for the next boot.
func SaveClock(root string, now time.Time) error {
	path := filepath.Join(root, clockFile)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("note the time: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("note the time: %w", err)
	}
	f.Close()
	if err := os.Chtimes(path, now, now); err != nil {
		return fmt.Errorf("note the time: %w", err)
	}
	return nil
}

// Seed stirs the seed of the last boot into the kernel's random numbers. Call
// SaveSeed after it, so that no two boots use the same.
func Seed(root, random string) error {
	b, err := os.ReadFile(filepath.Join(root, seedFile))
	if err != nil {
		return nil // the first boot, or no state partition
	}
	f, err := os.OpenFile(random, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("use the random seed: %w", err)
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return fmt.Errorf("use the random seed: %w", err)
	}
	return nil
}

// SaveSeed writes a new seed. It waits until the kernel has gathered enough
// randomness, which takes seconds on a machine without a source of it; asking
// is also what makes the kernel gather it.
func SaveSeed(root string) error {
	path := filepath.Join(root, seedFile)
	seed := make([]byte, 512)
	if err := random(seed, 0); err != nil {
		return fmt.Errorf("save the random seed: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("save the random seed: %w", err)
	}
	if err := replace(path, string(seed), 0o600); err != nil {
		return fmt.Errorf("save the random seed: %w", err)
	}
	return nil
}
