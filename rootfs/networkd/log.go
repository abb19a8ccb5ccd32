package networkd

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
)

// handler writes log lines as the journal reads them from a service's output:
// "<6>text", the level in front.
type handler struct {
	mu  sync.Mutex
	out io.Writer
}

// Enabled drops what is only for whoever changes this program.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// Handle writes one line.
func (h *handler) Handle(_ context.Context, record slog.Record) error {
	priority := 6
	switch {
	case record.Level >= slog.LevelError:
		priority = 3
	case record.Level >= slog.LevelWarn:
		priority = 4
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := fmt.Fprintf(h.out, "<%d>%s\n", priority, record.Message)
	return err
}

// WithAttrs and WithGroup are not used: messages are sentences.
func (h *handler) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup has no effect.
func (h *handler) WithGroup(string) slog.Handler { return h }
