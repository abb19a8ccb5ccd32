package registry

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coreos/go-systemd/v22/daemon"
)

// Main is the program `discovery` of discovery.service. Its settings are flags
// or the variables DISC_*, as the original's were: DISC_ADDR (listen on),
// DISC_ETCD (the etcd that keeps the tokens), DISC_HOST (the URL it is known
// by), and DISC_CERT and DISC_KEY for TLS.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	err := run(ctx, args[1:], os.Getenv, stdio)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintf(stdio.Err, "discovery: %v\n", err)
		return 2
	}
	fmt.Fprintf(stdio.Err, "discovery: %v\n", err)
	return 1
}

var errUsage = errors.New("see discovery --help")

func run(ctx context.Context, args []string, env func(string) string, stdio program.Stdio) error {
	or := func(value, otherwise string) string {
		if value == "" {
			return otherwise
		}
		return value
	}
	fs := flag.NewFlagSet("discovery", flag.ContinueOnError)
	fs.SetOutput(stdio.Err)
	addr := fs.String("addr", or(env("DISC_ADDR"), ":8087"), "Address to listen on.")
	etcd := fs.String("etcd", or(env("DISC_ETCD"), "http://127.0.0.1:2379"), "URL of the etcd that keeps the tokens.")
	host := fs.String("host", env("DISC_HOST"), "URL that tokens begin with; without it the one that the request was made to.")
	cert := fs.String("cert", env("DISC_CERT"), "File with the certificate, for https.")
	key := fs.String("key", env("DISC_KEY"), "File with the certificate's key.")
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil, fs.NArg() > 0:
		return errUsage
	}
	backend, err := url.Parse(*etcd)
	if err != nil || backend.Host == "" {
		return fmt.Errorf("read the URL of etcd %q: write it as http://HOST:PORT; %w", *etcd, errUsage)
	}
	l, err := net.Listen("tcp", *addr)
	if err != nil {
		return fmt.Errorf("listen on %q: %w; set another address with DISC_ADDR", *addr, err)
	}
	log := slog.New(slog.NewTextHandler(stdio.Err, nil))
	server := &http.Server{
		Handler: New(Config{Backend: backend, Public: strings.TrimRight(*host, "/"), HTTP: http.DefaultTransport, Log: log}),
		// No limit on writing: a watch stays open for days.
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	context.AfterFunc(ctx, func() { server.Close() })
	daemon.SdNotify(false, daemon.SdNotifyReady)
	log.Info("answering", "address", l.Addr(), "etcd", backend)
	if *cert != "" {
		err = server.ServeTLS(l, *cert, *key)
	} else {
		err = server.Serve(l)
	}
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("answer requests: %w", err)
	}
	return nil
}
