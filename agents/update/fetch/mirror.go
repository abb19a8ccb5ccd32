package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"golang.org/x/time/rate"

	"github.com/coracle-os/coracle/image/release"
)

// A Mirror serves the files of a repository. None is trusted.
type Mirror interface {
	// Name is for messages.
	Name() string
	// Open returns length bytes of a file from offset on, or the whole file
	// when length is negative. A file that is not there is fs.ErrNotExist.
	Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)
}

// HTTP is a mirror on a web server that knows byte ranges.
type HTTP struct {
	Base   *url.URL
	Client *http.Client
}

// NewClient returns a client with the proxy of the environment, and with a
// bound on the time that a silent server costs.
func NewClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = 30 * time.Second
	t.MaxIdleConnsPerHost = 2
	t.DisableCompression = true
	return &http.Client{Transport: t}
}

// Name is the address without a password.
func (m HTTP) Name() string { return m.Base.Redacted() }

// Open asks for the range.
func (m HTTP) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.Base.JoinPath(name).String(), nil)
	if err != nil {
		return nil, err
	}
	want := http.StatusOK
	if length >= 0 {
		want = http.StatusPartialContent
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	}
	res, err := m.Client.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode == want {
		return res.Body, nil
	}
	res.Body.Close()
	switch {
	case res.StatusCode == http.StatusNotFound:
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	case length >= 0 && res.StatusCode == http.StatusOK:
		return nil, fmt.Errorf("%s: the server does not know byte ranges; use another one", name)
	}
	return nil, fmt.Errorf("%s: the server answers %s", name, res.Status)
}

// FS is a mirror in a file system, such as a bundle or a directory. Its files
// are io.ReaderAt.
type FS struct {
	FS    fs.FS
	Label string
}

// Name is the label.
func (m FS) Name() string { return m.Label }

// Open opens the file.
func (m FS) Open(_ context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	f, err := m.FS.Open(name)
	if err != nil || length < 0 {
		return f, err
	}
	at, ok := f.(io.ReaderAt)
	if !ok {
		f.Close()
		return nil, fmt.Errorf("%s: cannot be read in parts", name)
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(at, offset, length), f}, nil
}

// limited counts and slows down what is read.
type limited struct {
	io.ReadCloser
	ctx   context.Context
	limit *rate.Limiter // nil for none
	count func(int)
}

func (l limited) Read(b []byte) (int, error) {
	if l.limit != nil && len(b) > l.limit.Burst() {
		b = b[:l.limit.Burst()]
	}
	n, err := l.ReadCloser.Read(b)
	l.count(n)
	if l.limit != nil && n > 0 {
		if err := l.limit.WaitN(l.ctx, n); err != nil {
			return n, err
		}
	}
	return n, err
}

// stall is how long a transfer may stand still before it is given up.
const stall = 60 * time.Second

// watch ends a transfer that stands still.
type watch struct {
	io.ReadCloser
	timer *time.Timer
	stop  context.CancelFunc
}

func (w watch) Read(b []byte) (int, error) {
	w.timer.Reset(stall)
	return w.ReadCloser.Read(b)
}

func (w watch) Close() error {
	w.timer.Stop()
	err := w.ReadCloser.Close()
	w.stop()
	return err
}

// open opens a file of a mirror with all that a Client adds.
func (c *Client) open(ctx context.Context, m Mirror, name string, offset, length int64) (io.ReadCloser, error) {
	inner, stop := context.WithCancel(ctx)
	timer := time.AfterFunc(stall, stop)
	body, err := m.Open(inner, name, offset, length)
	if err != nil {
		timer.Stop()
		stop()
		return nil, err
	}
	return limited{watch{body, timer, stop}, ctx, c.limit, func(n int) { c.received.Add(int64(n)) }}, nil
}

// tufFetcher gives go-tuf the files of one mirror.
type tufFetcher struct {
	ctx    context.Context
	client *Client
	mirror Mirror
}

// DownloadFile is called with addresses of the scheme "repository:".
func (f tufFetcher) DownloadFile(address string, most int64, _ time.Duration) ([]byte, error) {
	name, err := url.PathUnescape(strings.TrimPrefix(address, scheme))
	if err != nil {
		return nil, err
	}
	body, err := f.client.open(f.ctx, f.mirror, name, 0, -1)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &metadata.ErrDownloadHTTP{StatusCode: http.StatusNotFound, URL: name}
	}
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, most+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if int64(len(data)) > most {
		return nil, &metadata.ErrDownloadLengthMismatch{Msg: fmt.Sprintf("%s has more than %d bytes", name, most)}
	}
	return data, nil
}

// Bundle is a mirror in one file.
type Bundle struct {
	Bundle *release.Bundle
	Label  string
}

// Name is the label.
func (m Bundle) Name() string { return m.Label }

// Open opens a file of the bundle.
func (m Bundle) Open(_ context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if !slices.Contains(m.Bundle.Names(), name) {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	f, err := m.Bundle.Open(name)
	if err != nil {
		return nil, err
	}
	if length < 0 {
		return io.NopCloser(f), nil
	}
	return io.NopCloser(io.NewSectionReader(f, offset, length)), nil
}
