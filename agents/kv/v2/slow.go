package v2

import (
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// slow counts watchers that were dropped because they did not read, for a log
// that tells of ten thousand in one line.
type slow struct{ count atomic.Int64 }

// grace is how long a watcher that was dropped has to read what it was given.
const grace = 3 * time.Second

// gather is how long the log waits for more of them.
const gather = time.Second

func (s *slow) told(log *zap.Logger) {
	if s.count.Add(1) > 1 {
		return // whoever was the first tells of this one, too
	}
	time.AfterFunc(gather, func() {
		log.Warn(fmt.Sprintf("v2: %d watchers did not read what they asked for, were 100 events behind and have been disconnected", s.count.Swap(0)))
	})
}
