// Package proxy forwards the client ports of a machine without a member to
// live members of the cluster, so that programs find the store on their own
// machine as everywhere. It is what etcd 2's `proxy: on` and `proxy: readonly`
// were, and what a machine beyond the cluster's size is.
//
// On: connections are forwarded as they are, TLS and both API versions with
// them, each to a member that answers. Readonly: requests are read (see
// readonly.go) and those that could change anything are refused.
//
// etcd's own proxy/tcpproxy is not used: its list of members is fixed and its
// connecting has no time limit. Compared with etcd 2's proxy, an answer with an
// error is not tried on another member again: programs do that themselves.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coracle-os/coracle/agents/kv/peers"
)

// Mode is etcd 2's word.
type Mode string

// The modes.
const (
	Off      Mode = "off"
	On       Mode = "on"
	Readonly Mode = "readonly"
)

// Times are the limits of etcd 2's --proxy-* flags.
type Times struct {
	Dial    time.Duration
	Failure time.Duration // until a member that failed is tried again
	Read    time.Duration // 0 for no limit
	Write   time.Duration
	Refresh time.Duration // between two readings of the list of members
}

// Config is what a proxy needs.
type Config struct {
	Mode      Mode
	Times     Times
	Listeners []net.Listener // of the client ports; closed when Run returns
	Peers     []string       // peer URLs to begin with
	PeerHTTP  *http.Client   // how peers are asked for the members
	Members   *http.Transport
	// Found is given the cluster as the members tell it, each time it changes.
	Found func(peers.Cluster)
	Tell  func(text string, failure bool)
}

// Run forwards until ctx ends or a listener fails.
func Run(ctx context.Context, c Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var own []string
	for _, l := range c.Listeners {
		_, port, _ := net.SplitHostPort(l.Addr().String())
		own = append(own, port)
	}
	p := &proxy{Config: c, pool: newPool(c.Times.Failure, own)}
	p.refresh(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { p.refreshing(ctx) })
	failed := make(chan error, len(c.Listeners))
	for _, l := range c.Listeners {
		wg.Go(func() { failed <- p.serve(ctx, l) })
		context.AfterFunc(ctx, func() { l.Close() })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("forward a client port: %w", err)
	}
	cancel()
	wg.Wait()
	return err
}

type proxy struct {
	Config
	pool  *pool
	known []string
	told  string
}

// refreshing reads the list of members again and again, sooner while no member
// answers.
func (p *proxy) refreshing(ctx context.Context) {
	for {
		pause := max(p.Times.Refresh, 100*time.Millisecond)
		if p.pool.live(time.Now()) == 0 {
			pause = min(pause, max(p.Times.Failure, time.Second))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
			p.refresh(ctx)
		}
	}
}

// refresh asks the members who they are and which of them live.
func (p *proxy) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*max(p.Times.Dial, time.Second))
	defer cancel()
	c, err := peers.AskAny(ctx, p.PeerHTTP, p.Peers)
	if err != nil {
		if ctx.Err() == nil || p.told == "" {
			p.tell(fmt.Sprintf("proxy: no member answers: %v", err), true)
		}
		return
	}
	p.Peers = c.PeerURLs()
	if skipped := p.pool.set(c.ClientURLs()); len(skipped) > 0 {
		p.tell(fmt.Sprintf("proxy: members advertise %v, which is this machine itself: set ETCD_ADVERTISE_CLIENT_URLS there", skipped), true)
	}
	if urls := p.pool.urls(); !slices.Equal(urls, p.known) {
		p.known = urls
		p.tell(fmt.Sprintf("proxy: the members are %s", strings.Join(urls, ", ")), false)
		p.Found(c)
	}
	p.probe(ctx, c)
}

// probe takes members out of use that accept connections and say nothing.
func (p *proxy) probe(ctx context.Context, c peers.Cluster) {
	var wg sync.WaitGroup
	for _, m := range c.Members {
		wg.Go(func() {
			if len(m.PeerURLs) == 0 {
				return
			}
			if _, err := peers.AskAny(ctx, p.PeerHTTP, m.PeerURLs); err != nil {
				for _, u := range m.ClientURLs {
					p.pool.fail(hostOf(u), time.Now())
				}
			}
		})
	}
	wg.Wait()
}

func (p *proxy) tell(text string, failure bool) {
	if text != p.told {
		p.told = text
		p.Tell(text, failure)
	}
}

func (p *proxy) serve(ctx context.Context, l net.Listener) error {
	if p.Mode == Readonly {
		return p.serveReadonly(ctx, l)
	}
	for {
		in, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !errors.Is(err, net.ErrClosed) { // out of descriptors, for example
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if err != nil {
			return err
		}
		go p.forward(ctx, in)
	}
}

// forward joins one client's connection with one to a member.
func (p *proxy) forward(ctx context.Context, in net.Conn) {
	defer in.Close()
	out, _, err := p.dial(ctx)
	if err != nil {
		apologize(in)
		return
	}
	defer out.Close()
	stop := context.AfterFunc(ctx, func() { in.Close(); out.Close() })
	defer stop()
	done := make(chan struct{})
	go func() {
		io.Copy(in, out)
		halfClose(in)
		close(done)
	}()
	io.Copy(out, in)
	if c, ok := out.(timed); ok {
		halfClose(c.Conn)
	}
	<-done
}

// apologize answers a request of HTTP 1 as etcd 2's proxy did. Others see the
// connection end, after which their clients try again.
func apologize(in net.Conn) {
	in.SetDeadline(time.Now().Add(time.Second))
	b := make([]byte, 4)
	if _, err := io.ReadFull(in, b); err != nil || !slices.Contains([]string{"GET ", "HEAD", "PUT ", "POST", "DELE"}, string(b)) {
		return
	}
	text := `{"message":"proxy: zero endpoints currently available"}` + "\n"
	fmt.Fprintf(in, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(text), text)
	halfClose(in)
	io.Copy(io.Discard, in) // a reset must not overtake the answer
}

func halfClose(c net.Conn) {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		w.CloseWrite()
		return
	}
	c.Close()
}

// dial connects to a live member, trying each at most once, and says which.
func (p *proxy) dial(ctx context.Context) (net.Conn, string, error) {
	var problems []error
	for _, address := range p.pool.order(time.Now()) {
		conn, err := (&net.Dialer{Timeout: p.Times.Dial}).DialContext(ctx, "tcp", address)
		if err == nil {
			return timed{conn, p.Times}, address, nil
		}
		p.pool.fail(address, time.Now())
		problems = append(problems, err)
	}
	return nil, "", fmt.Errorf("connect to a member: none of %v answers: %w", p.pool.urls(), errors.Join(problems...))
}

// timed is a connection whose single reads and writes are limited.
type timed struct {
	net.Conn
	t Times
}

func (c timed) Read(b []byte) (int, error) {
	if c.t.Read > 0 {
		c.SetReadDeadline(time.Now().Add(c.t.Read))
	}
	return c.Conn.Read(b)
}

func (c timed) Write(b []byte) (int, error) {
	if c.t.Write > 0 {
		c.SetWriteDeadline(time.Now().Add(c.t.Write))
	}
	return c.Conn.Write(b)
}

func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Host
}
