package v2

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/coracle-os/coracle/agents/kv/v2/hub"
	"github.com/coracle-os/coracle/agents/kv/v2/request"
	"github.com/coracle-os/coracle/agents/kv/v2/wire"
)

// keys serves /v2/keys.
func (m *member) keys(w http.ResponseWriter, r *http.Request) {
	if !allowed(w, r, http.MethodHead, http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete) {
		return
	}
	m.clusterHeader(w)
	req, err := request.Parse(r, time.Now())
	if err == nil {
		err = m.permitted(r, req)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	switch req.Op {
	case request.Watch:
		m.watch(w, r, req)
		return
	case request.Get:
		ctx, cancel := m.timeout(r.Context())
		defer cancel()
		e, index, err := m.store.Get(ctx, req)
		m.answer(w, e, index, err)
		return
	}
	ctx, cancel := m.timeout(r.Context())
	defer cancel()
	e, err := m.store.Write(ctx, req)
	if err != nil {
		writeError(w, err)
		return
	}
	status, index := http.StatusOK, e.Index()
	if e.Created() {
		status = http.StatusCreated
	}
	if req.NoValueOnSuccess {
		e = e.WithoutValues()
	}
	m.indexHeaders(w, index)
	w.WriteHeader(status)
	_, _ = w.Write(e.Line())
}

func (m *member) answer(w http.ResponseWriter, e *wire.Event, index int64, err error) {
	if err != nil {
		writeError(w, err)
		return
	}
	m.indexHeaders(w, index)
	_, _ = w.Write(e.Line())
}

// writeError answers a request about keys that failed.
func writeError(w http.ResponseWriter, err error) {
	var e *wire.Error
	if !errors.As(err, &e) {
		e = wire.NewError(wire.RaftInternal, err.Error(), 0)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Etcd-Index", strconv.FormatInt(e.Index, 10))
	w.WriteHeader(e.Status())
	_, _ = w.Write(wire.Encode(e))
}

// watch answers with the next event, or with all that follow. The headers go
// out at once.
func (m *member) watch(w http.ResponseWriter, r *http.Request, req *request.Request) {
	ctx, cancel := m.timeout(r.Context())
	watcher, index, err := m.store.Watch(ctx, req)
	cancel()
	if err != nil {
		writeError(w, err)
		return
	}
	out := http.NewResponseController(w)
	watcher.WhenSlow(func() {
		m.slow.told(m.server.Logger())
		// Whoever does not read what is left is not waited for.
		_ = out.SetWriteDeadline(time.Now().Add(grace))
	})
	defer watcher.Close()
	m.indexHeaders(w, index)
	w.WriteHeader(http.StatusOK)
	_ = out.Flush()
	for m.send(w, r, watcher) && req.Stream {
		_ = out.Flush()
	}
}

// send sends one event, if there is another.
func (m *member) send(w http.ResponseWriter, r *http.Request, watcher *hub.Watcher) bool {
	select {
	case e, ok := <-watcher.C:
		if !ok {
			return false
		}
		_, err := w.Write(e.Line())
		return err == nil
	case <-r.Context().Done():
	case <-m.server.StoppingNotify():
	}
	return false
}
