// Package imds asks a platform's metadata service, an HTTP server on the
// machine's own link, for documents: for the packages that know what each
// platform's documents are.
//
// A service that does not answer, or answers 5xx or 429, is asked again, after
// 100 ms and then twice as long each time up to 5 s, for Client.Limit and at most
// until the caller's context ends. What asking again does not mend (an answer that is too large, a web page,
// a redirect to elsewhere) is an error at once. No proxy is used: what is asked
// for is only on the link.
package imds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// LinkLocal is the address that most platforms have for their service.
const LinkLocal = "http://169.254.169.254"

// MaxSize is the size in bytes of the largest document: no platform takes more
// than 512 KiB of user-data.
const MaxSize = 1 << 20

// ErrNotFound says that the service answered and has no such document.
var ErrNotFound = errors.New("no such document")

// Client asks one service. Base must be set.
type Client struct {
	Base    string            // "http://169.254.169.254"
	Header  map[string]string // of every request
	Timeout time.Duration     // of one try; 0 is 5 s
	Backoff time.Duration     // before the first retry; 0 is 100 ms
	Limit   time.Duration     // of one document with all its tries; 0 is 45 s
	// Again are statuses to try again besides 5xx, 408 and 429.
	Again []int
	// Say is told why a document is asked for again, once per document; nil
	// is nobody.
	Say func(text string)
	// Transport is how requests go; nil is plain HTTP without a proxy.
	Transport http.RoundTripper
}

// Answer is what the service answered to one request.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// StatusError is an answer that is not a document.
type StatusError struct {
	Address string
	Status  int
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("ask %s: %d %s", e.Address, e.Status, http.StatusText(e.Status))
}

// Is makes 404 an ErrNotFound.
func (e *StatusError) Is(target error) bool {
	return target == ErrNotFound && e.Status == http.StatusNotFound
}

// permanent wraps errors that asking again does not mend.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Get returns a document. An answer of 404 is ErrNotFound, every other one but
// 200 a *StatusError.
func (c *Client) Get(ctx context.Context, path string) ([]byte, error) {
	answer, err := c.Do(ctx, http.MethodGet, path, nil, nil)
	return answer.Body, err
}

// Optional is Get where a document that is not there is nil and no error.
func (c *Client) Optional(ctx context.Context, path string) ([]byte, error) {
	data, err := c.Get(ctx, path)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return data, err
}

// Collect asks for documents in turn. Those that are not there are missing in
// the result, the reasons of those that could not be read are in problems; one
// that can not be read keeps no other from being asked for.
func (c *Client) Collect(ctx context.Context, header map[string]string, paths ...string) (found map[string][]byte, problems []error) {
	found = map[string][]byte{}
	for _, path := range paths {
		answer, err := c.Do(ctx, http.MethodGet, path, header, nil)
		switch {
		case err == nil:
			found[path] = answer.Body
		case errors.Is(err, ErrNotFound):
		default:
			problems = append(problems, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return found, problems
}

// Do makes a request until there is an answer that stays.
func (c *Client) Do(ctx context.Context, method, path string, header map[string]string, body []byte) (Answer, error) {
	wait, limit := c.Backoff, c.Limit
	if wait == 0 {
		wait = 100 * time.Millisecond
	}
	if limit == 0 {
		limit = 45 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var reason error // why the try before failed
	for {
		answer, err := c.once(ctx, method, path, header, body)
		var refused *StatusError
		switch {
		case err == nil:
			return answer, nil
		case errors.As(err, new(permanent)):
			return Answer{}, err
		case errors.As(err, &refused) && !c.again(refused.Status):
			return answer, err
		}
		if reason == nil && c.Say != nil {
			c.Say(err.Error() + "; trying again")
		}
		if reason == nil || ctx.Err() == nil {
			reason = err // not that the time was up
		}
		select {
		case <-ctx.Done():
			return Answer{}, fmt.Errorf("%w; no other answer in time", reason)
		case <-time.After(wait):
		}
		wait = min(2*wait, 5*time.Second)
	}
}

func (c *Client) again(status int) bool {
	for _, s := range c.Again {
		if s == status {
			return true
		}
	}
	return status >= 500 || status == http.StatusRequestTimeout || status == http.StatusTooManyRequests
}

func (c *Client) once(ctx context.Context, method, path string, header map[string]string, body []byte) (Answer, error) {
	address := c.Base + path
	timeout := c.Timeout
	if timeout == 0 {
		timeout = 5 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return Answer{}, permanent{fmt.Errorf("ask %q: %w", address, err)}
	}
	for _, set := range []map[string]string{c.Header, header} {
		for key, value := range set {
			req.Header.Set(key, value)
		}
	}
	resp, err := c.client(timeout).Do(req)
	if err != nil {
		// A refused redirect stays one.
		return Answer{}, fmt.Errorf("ask the metadata service: %w", err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, MaxSize+1))
	answer := Answer{Status: resp.StatusCode, Header: resp.Header, Body: data}
	switch {
	case resp.StatusCode/100 != 2:
		return answer, &StatusError{Address: address, Status: resp.StatusCode}
	case err != nil:
		return Answer{}, fmt.Errorf("ask %s: read the answer: %w", address, err)
	case len(data) > MaxSize:
		return Answer{}, permanent{fmt.Errorf("ask %s: the answer is larger than %d bytes, which is more than any platform gives", address, MaxSize)}
	case isPage(data):
		return Answer{}, permanent{fmt.Errorf("ask %s: the answer is a web page, so something other than the metadata service answers; see that nothing stands between", address)}
	}
	return answer, nil
}

func (c *Client) client(timeout time.Duration) *http.Client {
	transport := c.Transport
	if transport == nil {
		transport = &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: timeout}
	}
	return &http.Client{Transport: transport, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) > 3 {
			return permanent{errors.New("redirected more than 3 times")}
		}
		if !sameServer(req.URL, via[0].URL) {
			return permanent{fmt.Errorf("redirected to %s, which is not the metadata service; not followed", req.URL.Redacted())}
		}
		return nil
	}}
}

func sameServer(a, b *url.URL) bool { return a.Scheme == b.Scheme && a.Host == b.Host }

// isPage tells an HTML document, which no metadata is.
func isPage(data []byte) bool {
	start := bytes.ToLower(bytes.TrimLeft(data[:min(len(data), 512)], "\ufeff \t\r\n"))
	return bytes.HasPrefix(start, []byte("<!doctype html")) || bytes.HasPrefix(start, []byte("<html"))
}
