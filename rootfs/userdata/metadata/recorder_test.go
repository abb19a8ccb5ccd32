package metadata

import (
	"bytes"
	"net/http"
	"strconv"
)

// recorder keeps an answer's body.
type recorder struct {
	header http.Header
	body   bytes.Buffer
}

func newRecorder() *recorder                    { return &recorder{header: http.Header{}} }
func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }
func (r *recorder) WriteHeader(int)             {}

func itoa(n int) string { return strconv.Itoa(n) }
