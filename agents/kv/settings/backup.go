package settings

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/agents/kv/care"
)

// Variables of Coracle's own, about snapshots.
const (
	backupInterval = "ETCD_BACKUP_INTERVAL" // time between two; 0 for none
	backupKeep     = "ETCD_BACKUP_KEEP"     // number that are kept
	backupDir      = "ETCD_BACKUP_DIR"      // below the data directory without it
)

// Backups reads what the owner says about snapshots.
func Backups(environ []string, dataDir string) (care.Config, error) {
	c := care.Config{Interval: 6 * time.Hour, Keep: 8, Dir: filepath.Join(dataDir, "snapshots")}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if value == "" {
			continue
		}
		var err error
		switch name {
		case backupInterval:
			if c.Interval, err = time.ParseDuration(value); err != nil && value == "0" {
				c.Interval, err = 0, nil
			}
			if err != nil || c.Interval < 0 || c.Interval > 0 && c.Interval < time.Minute {
				return c, fmt.Errorf("read %s=%q: want a time of at least 1m, such as 6h, or 0 for no snapshots", name, value)
			}
		case backupKeep:
			if c.Keep, err = strconv.Atoi(value); err != nil || c.Keep < 1 {
				return c, fmt.Errorf("read %s=%q: want a number of at least 1", name, value)
			}
		case backupDir:
			c.Dir = value
		}
	}
	return c, nil
}
