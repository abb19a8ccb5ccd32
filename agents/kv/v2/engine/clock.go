package engine

import (
	"fmt"
	"time"
)

// ClocksDiffer implements store.Engine.
func (e *Engine) ClocksDiffer(ahead time.Duration) {
	e.server.Logger().Warn(fmt.Sprintf("v2: this member's clock is %v ahead of that of the member that took a write with a ttl: set the machines' clocks; what expires does so when its ttl has passed, but the expiration that is shown is wrong by as much",
		ahead.Round(time.Second)))
}
