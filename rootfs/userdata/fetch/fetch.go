// Package fetch gets user-data from an HTTP address, for coreos-cloudinit. It
// has net/http, which costs 3.4 MB of binary and 2 MB of memory in each process
// of it: so it is linked into coracled and not into the binary that PID 1 is,
// and coreos-cloudinit runs it as a program when there is an address at all.
//
// Timeouts and retries are those of coreos-cloudinit. Left out on purpose:
// headers of platforms' metadata services, proxies other than the environment's,
// and authentication.
package fetch

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/coracle-os/coracle/rootfs/program"
)

// Name is what the program is called.
const Name = "coreos-cloudinit-fetch"

// Exit codes of Main besides 0.
const (
	ExitFailed   = 1
	ExitUsage    = 2
	ExitNotFound = 4
)

// MaxSize is the size in bytes of the largest answer.
const MaxSize = 16 << 20

// ErrNotFound says that the server answered and has no such document.
var ErrNotFound = errors.New("no such document")

// Getter fetches documents. The zero value has the limits of coreos-cloudinit.
type Getter struct {
	Timeout time.Duration // of one try; 0 is 10 s
	Retries int           // after the first try; 0 is 15, negative is none
	Backoff time.Duration // before the first retry, then doubled up to 5 s; 0 is 50 ms
}

// Get returns the body at an http or https address. Answers 4xx are ErrNotFound
// at once; 5xx and network errors are tried again.
func (g Getter) Get(ctx context.Context, address string) ([]byte, error) {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("fetch %q: not an http or https address", address)
	}
	if g.Timeout == 0 {
		g.Timeout = 10 * time.Second
	}
	if g.Retries == 0 {
		g.Retries = 15
	}
	if g.Backoff == 0 {
		g.Backoff = 50 * time.Millisecond
	}
	client := &http.Client{Timeout: g.Timeout}
	for try := 0; ; try++ {
		data, err := get(ctx, client, address)
		if err == nil || errors.Is(err, ErrNotFound) || try >= g.Retries {
			return data, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		case <-time.After(g.Backoff):
		}
		g.Backoff = min(2*g.Backoff, 5*time.Second)
	}
}

func get(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("fetch %q: %w", address, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode/100 == 4:
		return nil, fmt.Errorf("fetch %q: %s: %w", address, resp.Status, ErrNotFound)
	case resp.StatusCode/100 != 2:
		return nil, fmt.Errorf("fetch %q: %s", address, resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("fetch %q: %w", address, err)
	}
	if len(data) > MaxSize {
		return nil, fmt.Errorf("fetch %q: the answer is larger than %d bytes", address, MaxSize)
	}
	return data, nil
}

// Main is the program: it writes the document at the address to its output.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	flags := flag.NewFlagSet(Name, flag.ContinueOnError)
	flags.SetOutput(stdio.Err)
	if err := flags.Parse(args[1:]); err != nil || flags.NArg() != 1 {
		fmt.Fprintf(stdio.Err, "Usage: %s URL\n", Name)
		return ExitUsage
	}
	data, err := Getter{}.Get(ctx, flags.Arg(0))
	if err == nil {
		_, err = stdio.Out.Write(data)
	}
	switch {
	case errors.Is(err, ErrNotFound):
		fmt.Fprintln(stdio.Err, err)
		return ExitNotFound
	case err != nil:
		fmt.Fprintln(stdio.Err, err)
		return ExitFailed
	}
	return 0
}
