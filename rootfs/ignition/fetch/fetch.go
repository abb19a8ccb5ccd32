// Package fetch gets the documents that Ignition configs name, by the operator
// notes of Ignition: data, http and https addresses, the OEM partition (oem:),
// S3 (s3: and arn:) and Google's storage (gs:). Every document is bounded in
// size, decompressed and compared with its hash before anybody sees it.
//
// A server that is down is asked again, after 100 ms and then twice as long each
// time up to 5 s, until the total timeout of the config ends it or, without
// one, Limit. Answers 4xx are final.
//
// S3 and gs are asked over https without an account: the two SDKs would add
// 20 MB to the root. On machines with an instance role the requests carry its
// credentials: see credentials.go. Left out on purpose: tftp (no integrity), S3
// access points and Azure's private blobs.
package fetch

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/ignition/v2/config/v3_5/types"
	"github.com/vincent-petithory/dataurl"
	"golang.org/x/net/http/httpproxy"
)

// Defaults of a Fetcher.
const (
	DefaultLimit   = 2 * time.Minute
	DefaultMaxSize = 256 << 20
	headerTimeout  = 10 * time.Second
	maxBackoff     = 5 * time.Second
	oemDirectory   = "/usr/share/oem"
)

// Fetcher gets documents. Its zero value is ready for use; it is not for use by
// several goroutines.
type Fetcher struct {
	// OEM is the directory for oem: addresses; "" is /usr/share/oem.
	OEM string
	// Limit bounds the tries for one document; 0 is DefaultLimit.
	Limit time.Duration
	// MaxSize is of one document, in bytes, before and after decompression; 0
	// is DefaultMaxSize.
	MaxSize int64
	// Backoff is the first wait between tries; 0 is 100 ms.
	Backoff time.Duration
	// Say tells of a failed try; nil says nothing.
	Say func(string)
	// Credentials sign requests to S3 and gs; nil is none.
	Credentials Credentials
	// Roots are the authorities that servers' certificates are checked with,
	// besides those of configs; nil is the system's.
	Roots *x509.CertPool

	settings settings
	client   *http.Client
}

// settings are what configs say about fetching.
type settings struct {
	headers, total time.Duration
	proxy          httpproxy.Config
	authorities    [][]byte
}

// Configure takes over the timeouts, proxies and certificate authorities of a
// config. Authorities add up, of the rest the last one counts.
func (f *Fetcher) Configure(ctx context.Context, config types.Ignition) error {
	if n := config.Timeouts.HTTPResponseHeaders; n != nil {
		f.settings.headers = time.Duration(*n) * time.Second
	}
	if n := config.Timeouts.HTTPTotal; n != nil {
		f.settings.total = time.Duration(*n) * time.Second
	}
	if p := config.Proxy; p.HTTPProxy != nil || p.HTTPSProxy != nil {
		f.settings.proxy = httpproxy.Config{}
		if p.HTTPProxy != nil {
			f.settings.proxy.HTTPProxy = *p.HTTPProxy
		}
		if p.HTTPSProxy != nil {
			f.settings.proxy.HTTPSProxy = *p.HTTPSProxy
		}
		var not []string
		for _, item := range p.NoProxy {
			not = append(not, string(item))
		}
		f.settings.proxy.NoProxy = strings.Join(not, ",")
	}
	f.client = nil
	for _, authority := range config.Security.TLS.CertificateAuthorities {
		pem, err := f.Fetch(ctx, authority)
		if err != nil {
			return fmt.Errorf("get a certificate authority: %w", err)
		}
		if !x509.NewCertPool().AppendCertsFromPEM(pem) {
			return fmt.Errorf("certificate authority %q: no PEM certificate in it", short(*authority.Source))
		}
		f.settings.authorities = append(f.settings.authorities, pem)
		f.client = nil
	}
	return nil
}

// Fetch returns a document. One without a source is empty.
func (f *Fetcher) Fetch(ctx context.Context, r types.Resource) ([]byte, error) {
	if r.Source == nil || *r.Source == "" {
		return nil, nil
	}
	name := short(*r.Source)
	data, err := f.raw(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("fetch %q: %w", name, err)
	}
	if r.Compression != nil && *r.Compression != "" {
		if data, err = f.decompress(*r.Compression, data); err != nil {
			return nil, fmt.Errorf("fetch %q: %w", name, err)
		}
	}
	if r.Verification.Hash != nil {
		if err := Verify(data, *r.Verification.Hash); err != nil {
			return nil, fmt.Errorf("fetch %q: %w", name, err)
		}
	}
	return data, nil
}

func (f *Fetcher) raw(ctx context.Context, r types.Resource) ([]byte, error) {
	u, err := url.Parse(*r.Source)
	if err != nil {
		return nil, errors.New("not an address")
	}
	switch u.Scheme {
	case "data":
		decoded, err := dataurl.DecodeString(*r.Source)
		if err != nil {
			return nil, fmt.Errorf("decode data URL: %w", err)
		}
		return decoded.Data, nil
	case "http", "https":
		return f.http(ctx, u, headersOf(r), nil)
	case "s3", "arn", "gs":
		return f.storage(ctx, u)
	case "oem":
		return f.oem(u)
	case "tftp":
		return nil, errors.New("tftp is not supported: it has no way to tell a whole document from half of one; serve it over http and give its hash")
	}
	return nil, fmt.Errorf("scheme %q is not supported; use https, http, data, s3, gs or oem", u.Scheme)
}

func (f *Fetcher) oem(u *url.URL) ([]byte, error) {
	directory := f.OEM
	if directory == "" {
		directory = oemDirectory
	}
	inside := path.Clean("/" + u.Host + u.Path)
	root, err := os.OpenRoot(directory)
	if err != nil {
		return nil, fmt.Errorf("open OEM partition: %w", err)
	}
	defer root.Close()
	file, err := root.Open(strings.TrimPrefix(filepath.FromSlash(inside), "/"))
	if err != nil {
		return nil, fmt.Errorf("read OEM partition: %w", err)
	}
	defer file.Close()
	return f.bounded(file)
}

func (f *Fetcher) bounded(r io.Reader) ([]byte, error) {
	most := f.MaxSize
	if most == 0 {
		most = DefaultMaxSize
	}
	data, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(data)) > most {
		return nil, permanent{fmt.Errorf("it is larger than %d bytes", most)}
	}
	return data, err
}

func (f *Fetcher) decompress(kind string, data []byte) ([]byte, error) {
	if kind != "gzip" {
		return nil, fmt.Errorf("compression %q is not known; use gzip", kind)
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	if data, err = f.bounded(r); err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	return data, nil
}

// Verify compares data with "sha256-HEX" or "sha512-HEX".
func Verify(data []byte, want string) error {
	kind, sum, _ := strings.Cut(want, "-")
	hashes := map[string]func() hash.Hash{"sha256": sha256.New, "sha512": sha512.New}
	if hashes[kind] == nil {
		return fmt.Errorf("verify: hash function %q is not known; use sha256 or sha512", kind)
	}
	h := hashes[kind]()
	h.Write(data)
	got := hex.EncodeToString(h.Sum(nil))
	if subtle.ConstantTimeCompare([]byte(got), []byte(strings.ToLower(sum))) != 1 {
		return fmt.Errorf("verify: the document has %s %s, and the config says %s; correct the hash or the document", kind, got, sum)
	}
	return nil
}

// permanent is an error that asking again does not mend.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// http gets a document, with tries until the limit.
func (f *Fetcher) http(ctx context.Context, u *url.URL, header http.Header, sign func(*http.Request) error) ([]byte, error) {
	limit := f.Limit
	if limit == 0 {
		limit = DefaultLimit
	}
	if f.settings.total > 0 {
		limit = f.settings.total
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	wait := f.Backoff
	if wait == 0 {
		wait = 100 * time.Millisecond
	}
	for {
		data, err := f.try(ctx, u, header, sign)
		if err == nil || errors.As(err, new(permanent)) {
			return data, err
		}
		if f.Say != nil && ctx.Err() == nil {
			f.Say(fmt.Sprintf("fetch %s: %v; trying again", u.Redacted(), err))
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w; no answer within %v, see that the server is up and can be reached", err, limit)
		case <-time.After(wait):
		}
		wait = min(2*wait, maxBackoff)
	}
}

func (f *Fetcher) try(ctx context.Context, u *url.URL, header http.Header, sign func(*http.Request) error) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, permanent{err}
	}
	req.Header = header.Clone()
	if sign != nil {
		if err := sign(req); err != nil {
			return nil, permanent{err}
		}
	}
	if f.client == nil {
		f.client = f.newClient()
	}
	resp, err := f.client.Do(req)
	if err != nil {
		if e := new(tls.CertificateVerificationError); errors.As(err, &e) {
			return nil, permanent{fmt.Errorf("%w; name its authority in ignition.security.tls", err)}
		}
		return nil, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusOK, resp.StatusCode == http.StatusNoContent:
		return f.bounded(resp.Body)
	case resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests:
		return nil, permanent{fmt.Errorf("the server says %s", resp.Status)}
	}
	return nil, fmt.Errorf("the server says %s", resp.Status)
}

func (f *Fetcher) newClient() *http.Client {
	headers := headerTimeout
	if f.settings.headers > 0 {
		headers = f.settings.headers
	}
	roots := f.Roots
	if len(f.settings.authorities) > 0 {
		if roots == nil {
			roots, _ = x509.SystemCertPool()
		}
		if roots == nil {
			roots = x509.NewCertPool()
		} else {
			roots = roots.Clone()
		}
		for _, pem := range f.settings.authorities {
			roots.AppendCertsFromPEM(pem)
		}
	}
	proxy := f.settings.proxy.ProxyFunc()
	return &http.Client{
		Transport: &http.Transport{
			DialContext:           (&net.Dialer{Timeout: headerTimeout}).DialContext,
			TLSHandshakeTimeout:   headerTimeout,
			ResponseHeaderTimeout: headers,
			TLSClientConfig:       &tls.Config{RootCAs: roots},
			Proxy:                 func(r *http.Request) (*url.URL, error) { return proxy(r.URL) },
			DisableCompression:    true,
		},
		// Headers of a config may be secrets of the one server.
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) >= 10 {
				return permanent{errors.New("more than 10 redirects")}
			}
			req.Header = http.Header{}
			return nil
		},
	}
}

func headersOf(r types.Resource) http.Header {
	header := http.Header{}
	for _, h := range r.HTTPHeaders {
		if h.Value != nil {
			header.Set(h.Name, *h.Value)
		}
	}
	return header
}

func short(source string) string {
	if strings.HasPrefix(source, "data:") {
		return fmt.Sprintf("a data URL of %d bytes", len(source))
	}
	if u, err := url.Parse(source); err == nil {
		return u.Redacted()
	}
	return source
}
