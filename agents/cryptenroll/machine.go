package cryptenroll

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/coracle-os/coracle/initrd/luks"
)

// machine is what the kernel says of open volumes.
type machine struct {
	sys, dev string
	params   func(name string) (string, error) // of a device-mapper device
}

// stateName is the name under which stage 1 opens the state partition.
const stateName = "state"

// state is the partition of the encrypted state.
func (m machine) state() (string, error) {
	names, err := filepath.Glob(filepath.Join(m.sys, "block/dm-*/dm/name"))
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if read(name) != stateName {
			continue
		}
		below, err := os.ReadDir(filepath.Join(filepath.Dir(name), "../slaves"))
		if err != nil {
			return "", fmt.Errorf("find the partition of /var: %w", err)
		}
		if len(below) != 1 {
			return "", fmt.Errorf("find the partition of /var: %d devices are below it", len(below))
		}
		return filepath.Join(m.dev, below[0].Name()), nil
	}
	return "", errors.New("/var is not on an encrypted state partition that is open; name the DEVICE of another volume")
}

// volumeKey asks the kernel for the key of an open volume, and does not believe
// it without the header's digest.
func (m machine) volumeKey(header *luks.Header, device string) ([]byte, error) {
	prefix := "CRYPT-LUKS2-" + strings.ReplaceAll(header.UUID, "-", "") + "-"
	ids, err := filepath.Glob(filepath.Join(m.sys, "block/dm-*/dm/uuid"))
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if !strings.HasPrefix(read(id), prefix) {
			continue
		}
		params, err := m.params(read(filepath.Join(filepath.Dir(id), "name")))
		if err != nil {
			return nil, err
		}
		words := strings.Fields(params)
		if len(words) < 2 || strings.HasPrefix(words[1], ":") {
			return nil, fmt.Errorf("the kernel does not tell the key of %s: cryptsetup luksAddKey adds one", device)
		}
		key, err := hex.DecodeString(words[1])
		if err != nil || !header.Confirms(key) {
			return nil, fmt.Errorf("the key with which %s is open is not the one of its header: nothing is changed", device)
		}
		return key, nil
	}
	return nil, fmt.Errorf("%s is not open; a closed state partition opens at a start, with its recovery key", device)
}

func read(path string) string {
	content, _ := os.ReadFile(path)
	return strings.TrimSpace(string(content))
}
