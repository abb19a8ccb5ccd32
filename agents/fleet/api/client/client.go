// Package client speaks the scheduler's HTTP API (package schema), over the
// local socket, TCP, TLS, or a connection that the caller makes, for fleetctl
// and locksmithd. Lists come whole: it follows their pages. It retries nothing;
// what a caller wants to see done twice, it asks for twice: every request but
// Rebalance and Rollback has the same effect when it is repeated.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coracle-os/coracle/agents/fleet/api/schema"
)

// DefaultEndpoint is the machine's own scheduler.
const DefaultEndpoint = "unix:///var/run/fleet.sock"

// maxAnswer bounds what is read of one answer, in bytes: a page is 100 units of
// at most a few hundred KiB.
const maxAnswer = 256 << 20

// Options say how the API is reached.
type Options struct {
	Endpoint string        // unix:///PATH, http://HOST[:PORT] or https://HOST[:PORT]; "" is DefaultEndpoint
	TLS      *tls.Config   // for https; nil is the system's authorities and no certificate
	Timeout  time.Duration // of one request; 0 is none but the context's
	// Dial makes connections instead of the network: for tunnels. It is asked
	// for "unix" and the path, or for "tcp" and HOST:PORT.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client speaks to one endpoint. It may be used by several goroutines.
type Client struct {
	http    http.Client
	base    string // scheme and host
	timeout time.Duration
}

// New makes a client; nothing is connected before the first request.
func New(o Options) (*Client, error) {
	if o.Endpoint == "" {
		o.Endpoint = DefaultEndpoint
	}
	u, err := url.Parse(o.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("endpoint of the scheduler: %w; give unix:///PATH, http://HOST:PORT or https://HOST:PORT", err)
	}
	dial := o.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	transport := &http.Transport{DialContext: dial, TLSClientConfig: o.TLS, IdleConnTimeout: 30 * time.Second, MaxIdleConnsPerHost: 4}
	c := &Client{http: http.Client{Transport: transport}, timeout: o.Timeout}
	switch u.Scheme {
	case "unix", "file":
		path := u.Host + u.Path
		if path == "" {
			return nil, fmt.Errorf("endpoint of the scheduler: %q names no socket; give unix:///PATH", o.Endpoint)
		}
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, "unix", path) }
		c.base = "http://fleet"
	case "http", "https":
		if u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return nil, fmt.Errorf("endpoint of the scheduler: %q is not %s://HOST:PORT", o.Endpoint, u.Scheme)
		}
		c.base = u.Scheme + "://" + u.Host
	default:
		return nil, fmt.Errorf("endpoint of the scheduler: %q has the scheme %q; give unix:///PATH, http://HOST:PORT or https://HOST:PORT", o.Endpoint, u.Scheme)
	}
	return c, nil
}

// Close closes the connections that are idle.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Error is an answer that is an error.
type Error struct {
	Code    int    // HTTP status
	Message string // of the server; may be empty
	Doing   string // method and path
}

// Error is the server's message, or the status if it has none.
func (e *Error) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("the scheduler answered %s with status %d (%s)", e.Doing, e.Code, http.StatusText(e.Code))
	}
	return e.Message
}

// IsNotFound tells whether err is the answer that what was asked for is not there.
func IsNotFound(err error) bool { return code(err) == http.StatusNotFound }

// IsUnavailable tells whether err is the answer that the scheduler has no
// connection to the KV.
func IsUnavailable(err error) bool { return code(err) == http.StatusServiceUnavailable }

func code(err error) int {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// do sends one request; in and out may be nil. It gives the answer's status.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, in, out any) (int, error) {
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	target := c.base + schema.Prefix + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return 0, fmt.Errorf("write a request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return 0, fmt.Errorf("make a request: %w", err)
	}
	if in != nil || method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
	}
	answer, err := c.http.Do(request)
	if err != nil {
		return 0, fmt.Errorf("ask the scheduler: %w", err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return 0, fmt.Errorf("read the scheduler's answer: %w", err)
	}
	if answer.StatusCode >= 300 {
		e := &Error{Code: answer.StatusCode, Doing: method + " " + path}
		var parsed schema.ErrorBody
		if json.Unmarshal(data, &parsed) == nil {
			e.Message = parsed.Error.Message
		}
		return answer.StatusCode, e
	}
	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			return 0, fmt.Errorf("understand the scheduler's answer to %s %s: %w", method, path, err)
		}
	}
	return answer.StatusCode, nil
}

// each follows the pages of a list. Pages are not of one moment, so that an
// item can come twice: key tells which are the same, and the later one counts.
func each[T, P any](ctx context.Context, c *Client, path string, query url.Values, page func(*P) ([]T, string), key func(*T) string) ([]T, error) {
	var all []T
	at := map[string]int{}
	for {
		var p P
		if _, err := c.do(ctx, http.MethodGet, path, query, nil, &p); err != nil {
			return nil, err
		}
		items, next := page(&p)
		for _, item := range items {
			k := key(&item)
			if i, ok := at[k]; ok {
				all[i] = item
				continue
			}
			at[k] = len(all)
			all = append(all, item)
		}
		if next == "" {
			return all, nil
		}
		query = cloneWith(query, "nextPageToken", next)
	}
}

func cloneWith(query url.Values, key, value string) url.Values {
	out := url.Values{key: {value}}
	for k, v := range query {
		if k != key {
			out[k] = v
		}
	}
	return out
}
