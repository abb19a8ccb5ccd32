package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/coracle-os/coracle/agents/fleet/api/schema"
	"github.com/coracle-os/coracle/agents/fleet/registry"
)

// maxBody bounds the body of a request, in bytes.
const maxBody = 8 << 20

// failure is an error with the status that it is answered with.
type failure struct {
	code    int
	message string
}

func (f *failure) Error() string { return f.message }

func fail(code int, format string, args ...any) error {
	return &failure{code, fmt.Sprintf(format, args...)}
}

func invalid(err error) error { return &failure{http.StatusBadRequest, err.Error()} }

// sendJSON answers with v.
func sendJSON(w http.ResponseWriter, code int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		code, data = http.StatusInternalServerError, []byte(`{"error":{"code":500,"message":""}}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	w.Write(data)
}

// sendError answers with err. What is no failure of the request is logged, and
// the client only learns that it was the server's fault, as with fleet.
func (s *Server) sendError(w http.ResponseWriter, r *http.Request, err error) {
	var f *failure
	switch {
	case errors.As(err, &f):
	case errors.Is(err, registry.ErrUnavailable):
		s.log.Warn("an API request is refused", "method", r.Method, "path", r.URL.Path, "err", err)
		errors.As(errUnavailable, &f)
	case errors.Is(err, registry.ErrNotFound):
		errors.As(errNoUnit, &f)
	case errors.Is(err, registry.ErrNothingBefore):
		f = &failure{http.StatusConflict, err.Error()}
	case errors.Is(err, registry.ErrTooLarge):
		f = &failure{http.StatusRequestEntityTooLarge, err.Error()}
	default:
		s.log.Error("an API request failed", "method", r.Method, "path", r.URL.Path, "err", err)
		f = &failure{code: http.StatusInternalServerError}
	}
	sendJSON(w, f.code, schema.ErrorBody{Error: schema.Error{Code: f.code, Message: f.message}})
}

// wantMethod names the methods of a resource in an error.
func wantMethod(methods ...string) error {
	list := methods[0]
	if n := len(methods) - 1; n > 0 {
		list = strings.Join(methods[:n], ", ") + " and " + methods[n]
	}
	return fail(http.StatusMethodNotAllowed, "only %s supported against this resource", list)
}

// checkContentType wants exactly one, of JSON.
func checkContentType(r *http.Request) error {
	values := r.Header["Content-Type"]
	if len(values) != 1 {
		return fail(http.StatusUnsupportedMediaType, "expected 1 Content-Type, got %d", len(values))
	}
	if kind, _, err := mime.ParseMediaType(values[0]); err != nil || kind != "application/json" {
		return fail(http.StatusUnsupportedMediaType, "only acceptable Content-Type is application/json")
	}
	return nil
}

// decode reads the JSON body into v.
func decode(w http.ResponseWriter, r *http.Request, v any) error {
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(v)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return fail(http.StatusRequestEntityTooLarge, "unable to decode body: it is larger than %d bytes", large.Limit)
	case errors.Is(err, io.EOF):
		return fail(http.StatusBadRequest, "unable to decode body: EOF")
	case err != nil:
		return fail(http.StatusBadRequest, "unable to decode body: %v", err)
	}
	return nil
}
