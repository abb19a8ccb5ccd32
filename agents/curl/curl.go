// Package curl is the program curl as far as documents for CoreOS and scripts
// on a machine use it: requests over HTTP and HTTPS. It is a name of coracled;
// curl itself needs some twenty libraries, 12 MB that are on the machine for
// nothing else.
//
// It follows curl 8 in its flags, exit codes and what it writes where. An option
// that it does not have is refused with code 2, never passed over. Left out on
// purpose: other protocols, cookies, forms (-F), proxies by flag (the variables
// http_proxy and so on count), globbing of URLs, and the progress meter.
package curl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/spf13/pflag"
)

// Exit codes of curl.
const (
	exitProtocol  = 1
	exitUsage     = 2
	exitURL       = 3
	exitResolve   = 6
	exitConnect   = 7
	exitServer    = 22
	exitWrite     = 23
	exitRead      = 26
	exitTimeout   = 28
	exitTLS       = 35
	exitRedirects = 47
	exitEmpty     = 52
	exitReceive   = 56
	exitAuthority = 60
)

// failure is an error with its exit code.
type failure struct {
	code int
	err  error
}

func (f failure) Error() string { return f.err.Error() }

// options are the flags.
type options struct {
	method, output, user, agent, referer, upload, write string
	data                                                body
	headers                                             []string
	remoteName, include, head, get, follow, fail        bool
	silent, showError, insecure, verbose, compressed    bool
	seconds, connectSeconds                             float64
	authority, certificate, key, socket, dump           string
	retries, redirects                                  int
	retryDelay                                          float64
	retryRefused                                        bool
	resolve                                             []string
	failBody                                            bool
}

// Main runs curl; args[0] is the program's name.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	o, urls, err := parse(args[1:], stdio)
	if err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return 0
		}
		return report(stdio.Err, err)
	}
	code := 0
	for _, u := range urls {
		err := o.transfer(ctx, u, stdio)
		code = 0
		if err == nil {
			continue
		}
		var f failure
		if !errors.As(err, &f) {
			f = failure{exitReceive, err}
		}
		code = f.code
		if !o.silent || o.showError {
			report(stdio.Err, f)
		}
	}
	return code
}

func report(w io.Writer, err error) int {
	var f failure
	if !errors.As(err, &f) {
		f = failure{exitUsage, err}
	}
	if f.code == exitUsage {
		fmt.Fprintf(w, "curl: %v\ncurl: try 'curl --help' for more information\n", f.err)
	} else {
		fmt.Fprintf(w, "curl: (%d) %v\n", f.code, f.err)
	}
	return f.code
}

func parse(args []string, stdio program.Stdio) (*options, []string, error) {
	o := &options{}
	f := pflag.NewFlagSet("curl", pflag.ContinueOnError)
	f.SetOutput(stdio.Err)
	f.StringVarP(&o.method, "request", "X", "", "send this `method`")
	f.VarP(&dataFlag{&o.data, form}, "data", "d", "send this `text`, or @FILE's, with POST; may be repeated")
	f.Var(&dataFlag{&o.data, form}, "data-ascii", "the same")
	f.Var(&dataFlag{&o.data, raw}, "data-raw", "the same without a meaning of @")
	f.Var(&dataFlag{&o.data, binary}, "data-binary", "the same with line ends kept")
	f.Var(&dataFlag{&o.data, encoded}, "data-urlencode", "the same, encoded: NAME=TEXT")
	f.Var(&dataFlag{&o.data, jsonText}, "json", "the same as application/json")
	f.StringArrayVarP(&o.headers, "header", "H", nil, "send this `line` too; may be repeated")
	f.StringVarP(&o.output, "output", "o", "", "write to this `file`")
	f.BoolVarP(&o.remoteName, "remote-name", "O", false, "write to a file named as in the URL")
	f.BoolVarP(&o.include, "include", "i", false, "write the answer's headers too")
	f.BoolVarP(&o.head, "head", "I", false, "ask for the headers only")
	f.BoolVarP(&o.get, "get", "G", false, "send -d in the URL with GET")
	f.BoolVarP(&o.follow, "location", "L", false, "follow redirections")
	f.IntVar(&o.redirects, "max-redirs", 50, "at most so `many`")
	f.BoolVarP(&o.fail, "fail", "f", false, "exit with 22 when the server answers 400 or more")
	f.BoolVar(&o.failBody, "fail-with-body", false, "the same, and write the answer")
	f.BoolVarP(&o.silent, "silent", "s", false, "say nothing")
	f.BoolVarP(&o.showError, "show-error", "S", false, "say errors even with -s")
	f.BoolVarP(&o.insecure, "insecure", "k", false, "take any certificate")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "show what is sent and received")
	f.BoolVar(&o.compressed, "compressed", false, "ask for a compressed answer")
	f.StringVarP(&o.user, "user", "u", "", "`user:password`")
	f.StringVarP(&o.agent, "user-agent", "A", "curl/8.14.1", "what the program calls itself")
	f.StringVarP(&o.referer, "referer", "e", "", "where the URL is from")
	f.StringVarP(&o.upload, "upload-file", "T", "", "send this `file` with PUT")
	f.StringVarP(&o.write, "write-out", "w", "", "write this `text` in the end, with %{http_code} and others")
	f.Float64VarP(&o.seconds, "max-time", "m", 0, "`seconds` for everything")
	f.Float64Var(&o.connectSeconds, "connect-timeout", 0, "`seconds` to connect")
	f.StringVar(&o.authority, "cacert", "", "`file` with the authorities of the server's certificate")
	f.StringVarP(&o.certificate, "cert", "E", "", "`file` with a certificate to show")
	f.StringVar(&o.key, "key", "", "`file` with the certificate's key")
	f.StringVar(&o.socket, "unix-socket", "", "talk to this socket `path`")
	f.StringVarP(&o.dump, "dump-header", "D", "", "write the headers to this `file`")
	f.IntVar(&o.retries, "retry", 0, "try again so `many` times when the network or the server fails")
	f.Float64Var(&o.retryDelay, "retry-delay", 0, "`seconds` between tries; without it 1, and twice as much each time")
	f.BoolVar(&o.retryRefused, "retry-connrefused", false, "a refused connection is a reason to try again")
	f.StringArrayVar(&o.resolve, "resolve", nil, "`HOST:PORT:ADDRESS`, instead of asking for the name")
	f.BoolP("no-buffer", "N", false, "accepted; nothing is held back")
	f.BoolP("progress-bar", "#", false, "accepted; there is no progress meter")
	f.BoolP("http1.1", "", false, "accepted")
	version := f.BoolP("version", "V", false, "say the version")
	more := f.StringArray("url", nil, "a `URL`")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil, nil, err
		}
		return nil, nil, failure{exitUsage, fmt.Errorf("%w", err)}
	}
	if *version {
		fmt.Fprintln(stdio.Out, "curl 8.14.1 (Coracle's, with curl's flags)\nProtocols: http https")
		return nil, nil, pflag.ErrHelp
	}
	o.data.given = o.data.parts != nil
	urls := append(*more, f.Args()...)
	if len(urls) == 0 {
		return nil, nil, failure{exitUsage, errors.New("no URL specified")}
	}
	return o, urls, nil
}

// address reads a URL as people write it.
func (o *options) address(text string) (*url.URL, error) {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return nil, failure{exitURL, errors.New("URL rejected: Malformed input to a URL function")}
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, failure{exitProtocol, fmt.Errorf("Protocol %q not supported", u.Scheme)}
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

// transfer does one URL, with its repetitions.
func (o *options) transfer(ctx context.Context, text string, stdio program.Stdio) error {
	u, err := o.address(text)
	if err != nil {
		return err
	}
	if o.seconds > 0 {
		var done context.CancelFunc
		ctx, done = context.WithTimeout(ctx, duration(o.seconds))
		defer done()
	}
	for try, wait := 0, time.Second; ; try++ {
		err := o.once(ctx, u, stdio)
		if try >= o.retries || !o.passing(err) || ctx.Err() != nil {
			return err
		}
		if o.retryDelay > 0 {
			wait = duration(o.retryDelay)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
		wait = min(2*wait, time.Minute)
	}
}

func duration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

// passing tells whether another try may help, by curl's rules.
func (o *options) passing(err error) bool {
	var f failure
	if !errors.As(err, &f) {
		return false
	}
	var status statusError
	if errors.As(f.err, &status) {
		return status.code == 408 || status.code == 429 || status.code >= 500
	}
	return f.code == exitTimeout || f.code == exitResolve || f.code == exitConnect && o.retryRefused
}

// statusError is an answer that -f takes for a failure.
type statusError struct{ code int }

func (e statusError) Error() string {
	return fmt.Sprintf("The requested URL returned error: %d", e.code)
}

// once sends the request and writes the answer.
func (o *options) once(ctx context.Context, u *url.URL, stdio program.Stdio) error {
	request, err := o.request(ctx, u, stdio)
	if err != nil {
		return err
	}
	client, err := o.client(stdio)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	begin := time.Now()
	response, err := client.Do(request)
	if err != nil {
		return explain(err, u, begin)
	}
	defer response.Body.Close()
	return o.answer(response, stdio, begin)
}

// answer writes what came, and -w's text.
func (o *options) answer(response *http.Response, stdio program.Stdio, begin time.Time) error {
	failed := (o.fail || o.failBody) && response.StatusCode >= 400
	size, err := int64(0), error(nil)
	if !failed || o.failBody {
		size, err = o.save(response, stdio)
	}
	if err == nil && failed {
		err = failure{exitServer, statusError{response.StatusCode}}
	}
	if o.write != "" {
		io.WriteString(stdio.Out, expand(o.write, response, size, time.Since(begin)))
	}
	return err
}

func (o *options) save(response *http.Response, stdio program.Stdio) (int64, error) {
	to := stdio.Out
	if o.remoteName {
		name := path.Base(response.Request.URL.Path)
		if name == "/" || name == "." {
			return 0, failure{exitWrite, errors.New("Remote file name has no length")}
		}
		o.output = name
	}
	if o.output != "" && o.output != "-" {
		f, err := os.Create(o.output)
		if err != nil {
			return 0, failure{exitWrite, fmt.Errorf("client returned ERROR on write: %w", err)}
		}
		defer f.Close()
		to = f
	}
	headers := headerText(response)
	if o.dump != "" {
		if err := os.WriteFile(o.dump, []byte(headers), 0o644); err != nil {
			return 0, failure{exitWrite, err}
		}
	}
	if o.include || o.head {
		io.WriteString(to, headers)
	}
	if o.head {
		return 0, nil
	}
	writer := &written{to: to}
	if _, err := io.Copy(writer, response.Body); err != nil {
		if writer.err != nil {
			return writer.size, failure{exitWrite, fmt.Errorf("Failure writing output to destination: %w", writer.err)}
		}
		return writer.size, explain(err, response.Request.URL, time.Time{})
	}
	return writer.size, nil
}

// written tells a failure to write from one to read.
type written struct {
	to   io.Writer
	size int64
	err  error
}

func (w *written) Write(b []byte) (int, error) {
	n, err := w.to.Write(b)
	w.size += int64(n)
	w.err = err
	return n, err
}

// explain gives a failure curl's code and words.
func explain(err error, u *url.URL, begin time.Time) error {
	var f failure
	if errors.As(err, &f) {
		return f
	}
	var dns *net.DNSError
	var op *net.OpError
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded), os.IsTimeout(err):
		return failure{exitTimeout, fmt.Errorf("Operation timed out after %d milliseconds", time.Since(begin).Milliseconds())}
	case errors.As(err, &dns):
		return failure{exitResolve, fmt.Errorf("Could not resolve host: %s", host)}
	case isCertificate(err):
		return failure{exitAuthority, fmt.Errorf("SSL certificate problem: %w", err)}
	case errors.As(err, &op) && op.Op == "dial":
		return failure{exitConnect, fmt.Errorf("Failed to connect to %s port %s: %w", host, port, op.Err)}
	case strings.Contains(err.Error(), "tls: "):
		return failure{exitTLS, fmt.Errorf("TLS connect error: %w", err)}
	case errors.Is(err, io.EOF):
		return failure{exitEmpty, errors.New("Empty reply from server")}
	}
	return failure{exitReceive, fmt.Errorf("Recv failure: %w", err)}
}
