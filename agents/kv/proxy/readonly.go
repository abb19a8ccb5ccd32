package proxy

import (
	"context"
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
	transport := p.Members.Clone()
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return p.dial(ctx) }
	secure := transport.TLSClientConfig != nil
	transport.Protocols = &http.Protocols{}
	transport.Protocols.SetHTTP1(true)
	grpc := transport.Clone()
	grpc.Protocols = &http.Protocols{}
	grpc.Protocols.SetUnencryptedHTTP2(!secure)
	grpc.Protocols.SetHTTP2(secure)
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
