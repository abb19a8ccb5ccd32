// Package wget is the program wget as far as scripts on a machine use it: it
// gets one URL into a file or to standard output. It is a name of coracled,
// because a program of its own would bring a second copy of HTTP and TLS with
// it, a megabyte.
//
// It follows GNU wget in its flags, its exit codes (4 network, 5 certificate, 8
// the server's answer) and in naming the file. A file is written as a whole or
// not at all. Left out on purpose: everything recursive, FTP, and cookies.
package wget

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/spf13/pflag"
)

// Exit codes of GNU wget.
const (
	exitGeneric = 1
	exitUsage   = 2
	exitFile    = 3
	exitNetwork = 4
	exitTLS     = 5
	exitServer  = 8
)

// failure is an error with its exit code.
type failure struct {
	code int
	err  error
}

func (f failure) Error() string { return f.err.Error() }

type options struct {
	output, post, agent string
	headers             []string
	quiet, insecure     bool
	timeout             time.Duration
	seconds             float64
}

// Main runs wget; args[0] is the program's name.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	err := run(ctx, args[1:], stdio)
	if err == nil || errors.Is(err, pflag.ErrHelp) {
		return 0
	}
	fmt.Fprintf(stdio.Err, "wget: %v\n", err)
	var f failure
	if errors.As(err, &f) {
		return f.code
	}
	return exitGeneric
}

func run(ctx context.Context, args []string, stdio program.Stdio) error {
	var o options
	f := pflag.NewFlagSet("wget", pflag.ContinueOnError)
	f.SetOutput(stdio.Err)
	f.StringVarP(&o.output, "output-document", "O", "", "write to this `file`; - is standard output")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "say nothing but errors")
	f.BoolP("no-verbose", "", false, "accepted; there is not more to say")
	f.StringVar(&o.post, "post-data", "", "send this `text` with POST")
	f.StringArrayVar(&o.headers, "header", nil, "send this `line` too; may be repeated")
	f.StringVarP(&o.agent, "user-agent", "U", "Wget", "what the program calls itself")
	f.BoolVar(&o.insecure, "no-check-certificate", false, "take any certificate")
	f.Float64VarP(&o.seconds, "timeout", "T", 900, "`seconds` that the server may be silent")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return err
		}
		return failure{exitUsage, err}
	}
	if f.NArg() != 1 {
		return failure{exitUsage, fmt.Errorf("%d URLs, want one", f.NArg())}
	}
	target := f.Arg(0)
	if !strings.Contains(target, "://") {
		target = "http://" + target
	}
	u, err := url.Parse(target)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return failure{exitUsage, fmt.Errorf("%q is not an address such as http://example.com/file", f.Arg(0))}
	}
	o.timeout = time.Duration(o.seconds * float64(time.Second))
	return o.get(ctx, u, stdio)
}

func (o options) get(ctx context.Context, u *url.URL, stdio program.Stdio) error {
	method, body := http.MethodGet, io.Reader(nil)
	if o.post != "" {
		method, body = http.MethodPost, strings.NewReader(o.post)
	}
	request, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return failure{exitUsage, err}
	}
	request.Header.Set("User-Agent", o.agent)
	if o.post != "" {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, line := range o.headers {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return failure{exitUsage, fmt.Errorf("header %q: want NAME: VALUE", line)}
		}
		request.Header.Set(name, strings.TrimSpace(value))
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = o.timeout
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: o.insecure}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		var certificate *tls.CertificateVerificationError
		if errors.As(err, &certificate) {
			return failure{exitTLS, err}
		}
		return failure{exitNetwork, err}
	}
	defer response.Body.Close()
	if response.StatusCode >= 400 {
		return failure{exitServer, fmt.Errorf("%s: the server answers %s", u, response.Status)}
	}
	return o.save(response, stdio)
}

func (o options) save(response *http.Response, stdio program.Stdio) error {
	if o.output == "-" {
		if _, err := io.Copy(stdio.Out, response.Body); err != nil {
			return failure{exitNetwork, err}
		}
		return nil
	}
	name := o.output
	if name == "" {
		if name = path.Base(response.Request.URL.Path); name == "/" || name == "." {
			name = "index.html"
		}
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".wget-")
	if err != nil {
		return failure{exitFile, err}
	}
	defer os.Remove(f.Name()) // gone when it was renamed
	n, err := io.Copy(f, response.Body)
	if err != nil {
		return failure{exitNetwork, errors.Join(err, f.Close())}
	}
	if err := errors.Join(f.Chmod(0o644), f.Close()); err != nil {
		return failure{exitFile, err}
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return failure{exitFile, err}
	}
	if !o.quiet {
		fmt.Fprintf(stdio.Err, "%s: %d bytes\n", name, n)
	}
	return nil
}
