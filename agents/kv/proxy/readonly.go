package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
)

// reads are the calls of the API v3 that cannot change anything. A transaction
// is not among them: whether it writes is only known where it runs.
func reads() map[string]bool {
	out := map[string]bool{}
	for _, call := range []string{
		"etcdserverpb.KV/Range", "etcdserverpb.Watch/Watch", "etcdserverpb.Cluster/MemberList",
		"etcdserverpb.Lease/LeaseTimeToLive", "etcdserverpb.Lease/LeaseLeases",
		"etcdserverpb.Maintenance/Status", "etcdserverpb.Maintenance/Hash", "etcdserverpb.Maintenance/HashKV",
		"etcdserverpb.Maintenance/Snapshot", "etcdserverpb.Auth/Authenticate", "etcdserverpb.Auth/AuthStatus",
		"grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch",
		// The same as JSON over HTTP.
		"v3/kv/range", "v3/watch", "v3/cluster/member/list", "v3/lease/timetolive", "v3/lease/leases",
		"v3/maintenance/status", "v3/maintenance/hash", "v3/maintenance/hashkv", "v3/maintenance/snapshot",
		"v3/auth/authenticate", "v3/auth/status",
	} {
		out["/"+call] = true
	}
	return out
}

// serveReadonly answers one port with the members' answers to reading
// requests, over HTTP 1 and 2 and with both API versions.
func (p *proxy) serveReadonly(ctx context.Context, l net.Listener) error {
	secure := p.Members.TLSClientConfig != nil
	transport, grpc := p.transport("http/1.1"), p.transport("h2")
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			u := &url.URL{Scheme: "http", Host: "members"}
			if secure {
				u.Scheme = "https"
			}
			r.SetURL(u)
			r.Out.Host = r.In.Host
		},
		FlushInterval: -1, // watches
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if isGRPC(r) {
				return grpc.RoundTrip(r)
			}
			return transport.RoundTrip(r)
		}),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			p.unavailable(w, r, err)
		},
	}
	server := &http.Server{Handler: gate(reads(), forward), Protocols: &http.Protocols{}, BaseContext: func(net.Listener) context.Context { return ctx }}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.Serve(l); ctx.Err() == nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// transport reaches the members with one version of HTTP. A member's
// certificate is checked for the address that was connected to.
func (p *proxy) transport(version string) *http.Transport {
	t := p.Members.Clone()
	t.Protocols = &http.Protocols{}
	t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, _, err := p.dial(ctx)
		return conn, err
	}
	settings := p.Members.TLSClientConfig
	t.Protocols.SetHTTP1(version == "http/1.1")
	t.Protocols.SetHTTP2(version == "h2" && settings != nil)
	t.Protocols.SetUnencryptedHTTP2(version == "h2" && settings == nil)
	if settings == nil {
		return t
	}
	t.DialTLSContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, address, err := p.dial(ctx)
		if err != nil {
			return nil, err
		}
		c := settings.Clone()
		c.NextProtos = []string{version}
		if c.ServerName == "" {
			c.ServerName, _, _ = net.SplitHostPort(address)
		}
		secured := tls.Client(conn, c)
		if err := secured.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, fmt.Errorf("connect to the member at %s: %w", address, err)
		}
		return secured, nil
	}
	return t
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func isGRPC(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// gate lets through what cannot change anything. A refused v2 request gets
// etcd 2's answer, 501.
func gate(reads map[string]bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case reads[r.URL.Path], (r.Method == http.MethodGet || r.Method == http.MethodHead) && !isGRPC(r):
			next.ServeHTTP(w, r)
		case isGRPC(r):
			status(w, "7", "this proxy only reads: "+r.URL.Path+" could write") // permission denied
		case strings.HasPrefix(r.URL.Path, "/v3/"):
			http.Error(w, `{"code":7,"message":"this proxy only reads"}`, http.StatusForbidden)
		default:
			w.WriteHeader(http.StatusNotImplemented)
		}
	})
}

// status ends a gRPC call without a message.
func status(w http.ResponseWriter, code, text string) {
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Grpc-Status", code)
	w.Header().Set("Grpc-Message", text)
	w.WriteHeader(http.StatusOK)
}

func (p *proxy) unavailable(w http.ResponseWriter, r *http.Request, err error) {
	if isGRPC(r) {
		status(w, "14", err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusServiceUnavailable)
	fmt.Fprintf(w, "{\"message\":%q}\n", "proxy: "+err.Error())
}
