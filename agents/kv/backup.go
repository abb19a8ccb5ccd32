package kv

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/coracle-os/coracle/agents/kv/care"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage"
	"go.uber.org/zap"
)

// Variables of Coracle's own, about snapshots.
const (
	backupInterval = "ETCD_BACKUP_INTERVAL" // time between two; 0 for none
	backupKeep     = "ETCD_BACKUP_KEEP"     // number that are kept
	backupDir      = "ETCD_BACKUP_DIR"      // below the data directory without it
)

// backups reads what the owner says about snapshots.
func backups(environ []string, dataDir string) (care.Config, error) {
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

// lookAfter is the keeper of a member that runs.
func lookAfter(e *embed.Etcd, cfg *embed.Config, c care.Config, log *zap.Logger) *care.Keeper {
	quota := cfg.QuotaBackendBytes
	if quota == 0 {
		quota = storage.DefaultQuotaBytes
	}
	return &care.Keeper{
		Config: c, Client: v3client.New(e.Server), Authorize: e.Server.AuthStore().WithRoot, Quota: quota, Shrink: e.Server.Backend().Defrag, Now: time.Now,
		Tell: func(words string) { notify(log, "STATUS="+words) },
		Log:  log,
	}
}
