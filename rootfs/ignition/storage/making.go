package storage

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coreos/ignition/v2/config/v3_5/types"
	"github.com/google/uuid"
)

// MakingPath has the UUID of what is being made. A power cut in the middle
// leaves something that looks like what the config wants and is not whole: by
// this name the next run knows that it is its own, and makes it over.
const MakingPath = "/var/lib/coracle/ignition.making"

// making has do make a volume or file system of a UUID.
func (e *Executor) making(id string, do func() error) error {
	path := filepath.Join(e.Root, MakingPath)
	if err := writeSecret(path, []byte(id)); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	// From here on there may be data on it, so this must not come back.
	if err := os.Remove(path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// unfinished tells whether what was found is of a run that was cut off.
func (e *Executor) unfinished(found Found) bool {
	id, err := os.ReadFile(filepath.Join(e.Root, MakingPath))
	return err == nil && len(id) > 0 && strings.EqualFold(string(id), found.UUID)
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// identified returns a file system's description with a UUID, if it is left to
// us.
func identified(f types.Filesystem) (types.Filesystem, error) {
	own := map[string]string{"ext4": "-U", "swap": "-U", "xfs": "-m", "vfat": "-i"}[deref(f.Format)]
	if deref(f.UUID) != "" || own == "" || slices.ContainsFunc(f.Options, func(o types.FilesystemOption) bool { return strings.HasPrefix(string(o), own) }) {
		return f, nil
	}
	id := uuid.NewString()
	if *f.Format == "vfat" {
		b := make([]byte, 4)
		if _, err := rand.Read(b); err != nil {
			return f, err
		}
		id = fmt.Sprintf("%X-%X", b[:2], b[2:])
	}
	f.UUID = &id
	return f, nil
}
