package curl

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/program"
)

// body is what -d and its relatives have put together.
type body struct {
	parts []part
	given bool
	json  bool
}

type part struct {
	text string
	kind kind
}

// kind is how a part's text is read.
type kind int

const (
	form kind = iota
	raw
	binary
	encoded
	jsonText
)

// dataFlag collects one kind of part.
type dataFlag struct {
	to   *body
	kind kind
}

func (d *dataFlag) String() string { return "" }
func (d *dataFlag) Type() string   { return "data" }
func (d *dataFlag) Set(text string) error {
	d.to.parts = append(d.to.parts, part{text, d.kind})
	d.to.json = d.to.json || d.kind == jsonText
	return nil
}

// read gives the text to send; files are read now.
func (b body) read(in io.Reader) ([]byte, error) {
	var out bytes.Buffer
	for i, p := range b.parts {
		if i > 0 && p.kind != jsonText {
			out.WriteByte('&')
		}
		text, err := p.read(in)
		if err != nil {
			return nil, failure{exitRead, err}
		}
		out.Write(text)
	}
	return out.Bytes(), nil
}

func (p part) read(in io.Reader) ([]byte, error) {
	if p.kind == encoded {
		name, text, ok := strings.Cut(p.text, "=")
		if !ok {
			return []byte(escape(p.text)), nil
		}
		if name != "" {
			name += "="
		}
		return []byte(name + escape(text)), nil
	}
	if p.kind == raw || !strings.HasPrefix(p.text, "@") {
		return []byte(p.text), nil
	}
	data, err := readFile(p.text[1:], in)
	if p.kind == form {
		data = []byte(strings.NewReplacer("\r", "", "\n", "", "\x00", "").Replace(string(data)))
	}
	return data, err
}

func readFile(name string, in io.Reader) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(in)
	}
	return os.ReadFile(name)
}

// escape is curl's: a space is %20.
func escape(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "+", "%20") }

// request makes the request.
func (o *options) request(ctx context.Context, u *url.URL, stdio program.Stdio) (*http.Request, error) {
	method, content, kind := http.MethodGet, []byte(nil), ""
	if o.data.given {
		data, err := o.data.read(stdio.In)
		if err != nil {
			return nil, err
		}
		if o.get {
			copied := *u
			copied.RawQuery = strings.Trim(copied.RawQuery+"&"+string(data), "&")
			u = &copied
		} else {
			method, content, kind = http.MethodPost, data, "application/x-www-form-urlencoded"
		}
		if o.data.json {
			kind = "application/json"
		}
	}
	if o.upload != "" {
		data, err := readFile(o.upload, stdio.In)
		if err != nil {
			return nil, failure{exitRead, fmt.Errorf("cannot open '%s'", o.upload)}
		}
		method, content = http.MethodPut, data
	}
	if o.head {
		method = http.MethodHead
	}
	if o.method != "" {
		method = o.method
	}
	request, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, failure{exitUsage, err}
	}
	if content != nil {
		request.Body, request.ContentLength = io.NopCloser(bytes.NewReader(content)), int64(len(content))
		request.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
		switch {
		case o.upload == "-":
			request.ContentLength = -1 // in chunks, as curl does
		case len(content) == 0:
			request.Body = http.NoBody
		}
	}
	return request, o.setHeaders(request, kind)
}

func (o *options) setHeaders(request *http.Request, kind string) error {
	h := request.Header
	h.Set("User-Agent", o.agent)
	h.Set("Accept", "*/*")
	if kind != "" {
		h.Set("Content-Type", kind)
	}
	if o.data.json {
		h.Set("Accept", "application/json")
	}
	if o.referer != "" {
		h.Set("Referer", o.referer)
	}
	if o.user == "" && request.URL.User != nil {
		password, _ := request.URL.User.Password()
		request.SetBasicAuth(request.URL.User.Username(), password)
	}
	if o.user != "" {
		name, password, _ := strings.Cut(o.user, ":")
		request.SetBasicAuth(name, password)
	}
	for i, line := range o.headers {
		name, value, ok := strings.Cut(line, ":")
		if bare, empty := strings.CutSuffix(line, ";"); !ok && empty {
			name, ok = bare, true
		}
		value = strings.TrimSpace(value)
		switch first := !slices.ContainsFunc(o.headers[:i], func(l string) bool { return strings.HasPrefix(strings.ToLower(l), strings.ToLower(name)+":") }); {
		case !ok:
			continue // curl passes over what is no header
		case strings.EqualFold(name, "Host"):
			request.Host = value
		case value == "" && strings.HasSuffix(line, ":"):
			h[http.CanonicalHeaderKey(name)] = nil // "Name:" takes a header away
		case first:
			h.Set(name, value)
		default:
			h.Add(name, value)
		}
	}
	return nil
}

// client makes the client of the flags.
func (o *options) client(stdio program.Stdio) (*http.Client, error) {
	config := &tls.Config{InsecureSkipVerify: o.insecure}
	if o.authority != "" {
		text, err := os.ReadFile(o.authority)
		config.RootCAs = x509.NewCertPool()
		if err != nil || !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, failure{77, fmt.Errorf("error adding trust anchors from file: %s", o.authority)}
		}
	}
	if o.certificate != "" {
		key := o.key
		if key == "" {
			key = o.certificate
		}
		pair, err := tls.LoadX509KeyPair(o.certificate, key)
		if err != nil {
			return nil, failure{58, fmt.Errorf("could not load PEM client certificate: %w", err)}
		}
		config.Certificates = []tls.Certificate{pair}
	}
	dialer := &net.Dialer{Timeout: duration(o.connectSeconds)}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, DisableCompression: !o.compressed, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if o.socket != "" {
				network, address = "unix", o.socket
			}
			return dialer.DialContext(ctx, network, o.resolved(address))
		},
	}
	client := &http.Client{Transport: transport}
	if o.verbose {
		client.Transport = verbose{transport, stdio.Err}
	}
	client.CheckRedirect = func(next *http.Request, via []*http.Request) error {
		switch {
		case !o.follow:
			return http.ErrUseLastResponse
		case len(via) > o.redirects:
			return failure{exitRedirects, fmt.Errorf("Maximum (%d) redirects followed", o.redirects)}
		}
		if o.method != "" {
			next.Method = o.method
		}
		if o.referer == "" {
			next.Header.Del("Referer") // Go adds one
		}
		return nil
	}
	return client, nil
}

// resolved puts in the address that --resolve gives a name.
func (o *options) resolved(address string) string {
	for _, r := range o.resolve {
		parts := strings.SplitN(r, ":", 3)
		if len(parts) == 3 && net.JoinHostPort(parts[0], parts[1]) == address {
			return net.JoinHostPort(strings.Trim(parts[2], "[]"), parts[1])
		}
	}
	return address
}

// verbose shows requests and answers as -v does.
type verbose struct {
	next http.RoundTripper
	to   io.Writer
}

func (v verbose) RoundTrip(request *http.Request) (*http.Response, error) {
	fmt.Fprintf(v.to, "> %s %s HTTP/1.1\n> Host: %s\n", request.Method, request.URL.RequestURI(), request.URL.Host)
	v.headers("> ", request.Header)
	response, err := v.next.RoundTrip(request)
	if err == nil {
		fmt.Fprintf(v.to, "< %s %s\n", response.Proto, response.Status)
		v.headers("< ", response.Header)
	}
	return response, err
}

func (v verbose) headers(mark string, h http.Header) {
	var b strings.Builder
	h.Write(&b)
	for line := range strings.Lines(b.String()) {
		fmt.Fprintf(v.to, "%s%s\n", mark, strings.TrimRight(line, "\r\n"))
	}
	fmt.Fprintf(v.to, "%s\n", strings.TrimSpace(mark))
}

// headerText is the answer's head for -i. Go keeps no order of headers: it is
// the alphabet's.
func headerText(r *http.Response) string {
	var b strings.Builder
	proto := r.Proto
	status := r.Status
	if r.ProtoMajor == 2 {
		proto, status = "HTTP/2", fmt.Sprintf("%d ", r.StatusCode)
	}
	fmt.Fprintf(&b, "%s %s\r\n", proto, status)
	h := r.Header.Clone()
	if r.ContentLength >= 0 && h.Get("Content-Length") == "" && r.Request.Method != http.MethodHead {
		h.Set("Content-Length", fmt.Sprint(r.ContentLength))
	}
	for _, coding := range r.TransferEncoding {
		h.Set("Transfer-Encoding", coding)
	}
	h.Write(&b)
	b.WriteString("\r\n")
	return b.String()
}

// expand puts the values of variables into -w's text.
func expand(text string, r *http.Response, size int64, took time.Duration) string {
	return strings.NewReplacer(
		"%{http_code}", fmt.Sprintf("%03d", r.StatusCode), "%{response_code}", fmt.Sprintf("%03d", r.StatusCode),
		"%{size_download}", fmt.Sprint(size), "%{time_total}", fmt.Sprintf("%.6f", took.Seconds()),
		"%{content_type}", r.Header.Get("Content-Type"), "%{url_effective}", r.Request.URL.String(), "%{url}", r.Request.URL.String(),
		"%{redirect_url}", r.Header.Get("Location"), "%{method}", r.Request.Method,
		`\n`, "\n", `\t`, "\t", `\r`, "\r", "%%", "%",
	).Replace(text)
}

func isCertificate(err error) bool {
	var verification *tls.CertificateVerificationError
	return errors.As(err, &verification)
}
