package authority

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/coracle-os/coracle/agents/kv/admission"
)

// listenEvery is the pause before a port that is in use is tried again.
const listenEvery = 10 * time.Second

// Serve hands the authority on until ctx ends. A port that is in use is no
// reason to end a member: it is told and tried again.
func Serve(ctx context.Context, c Config) {
	said := ""
	for ctx.Err() == nil {
		l, err := net.Listen("tcp", net.JoinHostPort("", Port))
		if err == nil {
			said = ""
			err = c.serve(ctx, l)
		}
		if err != nil && ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			c.Tell(fmt.Sprintf("tls: the authority cannot be handed on, so that no machine can join: %v", err), true)
		}
		select {
		case <-ctx.Done():
		case <-time.After(listenEvery):
		}
	}
}

func (c Config) serve(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle(admission.AuthorityPath, admission.AuthorityHandler(c.Token, func() ([]byte, error) {
		return os.ReadFile(c.File)
	}))
	s := &http.Server{Handler: mux, ReadTimeout: askFor, WriteTimeout: askFor, IdleTimeout: askFor, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
