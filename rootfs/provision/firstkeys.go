package provision

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/coracle-os/coracle/rootfs/user"
)

const (
	// FirstKeys is a file of SSH public keys on the OEM partition that let core
	// in on the first boot, and for as long as nobody takes them out: a Vagrant
	// box has Vagrant's well-known key there, in whose place Vagrant puts one of
	// the machine's own when it first logs in.
	FirstKeys = "/usr/share/oem/authorized_keys"
	// firstKeysGiven is there once they were given.
	firstKeysGiven = "/var/lib/coracle/first-keys-given"
)

// firstKeys gives core the first keys, once in the life of the machine's state.
// The keys are on the disk before the mark that they were given: a power cut
// between the two gives them once more and never none.
func firstKeys(root string) (given bool, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("give core the keys of %s: %w", FirstKeys, err)
		}
	}()
	mark := filepath.Join(root, firstKeysGiven)
	if _, err := os.Stat(mark); err == nil {
		return false, nil
	}
	data, err := os.ReadFile(filepath.Join(root, FirstKeys))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var keys []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			keys = append(keys, line)
		}
	}
	if err := user.AddKeys(root, "core", keys); err != nil {
		return false, err
	}
	if err := os.MkdirAll(filepath.Dir(mark), 0o755); err != nil {
		return true, err
	}
	return true, os.WriteFile(mark, nil, 0o644)
}
