package fleetd

import (
	"context"
	"log/slog"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
)

// tell says something to the service manager, if there is one.
func tell(log *slog.Logger, state string) {
	if _, err := sd.SdNotify(false, state); err != nil {
		log.Error("The service manager cannot be told the state", "state", state, "err", err)
	}
}

// watchdog tells the service manager that fleetd is alive as long as alive
// returns, until ctx ends. A fleetd that hangs is killed and started anew, while
// its lease still lives.
func watchdog(ctx context.Context, log *slog.Logger, alive func()) {
	limit, err := sd.SdWatchdogEnabled(false)
	if err != nil || limit <= 0 {
		return
	}
	tick := time.NewTicker(limit / 4)
	defer tick.Stop()
	for {
		alive()
		tell(log, sd.SdNotifyWatchdog)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
