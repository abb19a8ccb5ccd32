package journald

import (
	"context"
	"log/slog"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"github.com/coracle-os/coracle/rootfs/journal"
	"github.com/coracle-os/coracle/rootfs/journal/forward"
	"github.com/coracle-os/coracle/rootfs/journal/store"
)

// farewell is how long the last records may take to reach a receiver when the
// machine stops. What does not is sent at the next start.
const farewell = 2 * time.Second

// forwarding is the running forwarders, one for each receiver.
type forwarding struct {
	list   []*forward.Forwarder
	cancel context.CancelFunc
	wait   sync.WaitGroup
}

// startForwarding begins to send what kept holds. It must come before the
// first record is written, and the store must not be used by others meanwhile.
func (s *server) startForwarding(kept *store.Store) *forwarding {
	ctx, cancel := context.WithCancel(context.Background())
	all := &forwarding{cancel: cancel}
	if kept == nil && len(s.config.Forward) > 0 {
		s.say(journal.Warning, "Nothing is forwarded: Storage=none leaves no journal to forward; write Storage=volatile")
		return all
	}
	for _, target := range s.config.Forward {
		f := forward.New(forward.Config{
			Target: target,
			Dirs:   []string{filepath.Join(s.paths.Log, s.machine.String()), filepath.Join(s.paths.Run, "log/journal", s.machine.String())},
			State:  filepath.Join(s.paths.Lib, url.PathEscape(target.String())),
			Start:  kept.FirstOfBoot(), Last: kept.LastSeq(), Log: slog.New(&logHandler{server: s}),
		})
		all.list = append(all.list, f)
		all.wait.Go(func() { f.Run(ctx) })
	}
	if len(all.list) > 0 {
		s.queue.stored = all.wake
	}
	return all
}

func (f *forwarding) wake() {
	for _, one := range f.list {
		one.Wake()
	}
}

// stop lets the forwarders send what is left, but not for long.
func (f *forwarding) stop() {
	for _, one := range f.list {
		one.Stop()
	}
	timer := time.AfterFunc(farewell, f.cancel)
	f.wait.Wait()
	timer.Stop()
	f.cancel()
}
