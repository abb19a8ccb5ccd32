package ssh

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"

	"github.com/coracle-os/coracle/agents/ssh/hostkeys"
	"github.com/coracle-os/coracle/rootfs/banner"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/pkg/sftp"
)

// SFTPName is the name by which the binary calls itself to serve sftp.
const SFTPName = "sftp-server"

// Main is sshd. Flags: -p PORT (22), -a ADDRESS (all), -k DIRECTORY of the host
// keys (/etc/ssh); -D and -e, which OpenSSH's has for what is always so here,
// are taken and ignored, and so are -f FILE and -o OPTION, with a warning.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	log := newLog(stdio.Err)
	if err := run(ctx, args[1:], log, stdio); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		log.Error(err.Error())
		return 1
	}
	return 0
}

// newLog writes lines without the time, which the journal adds.
func newLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && len(groups) == 0 {
				return slog.Attr{}
			}
			return a
		},
	}))
}

func run(ctx context.Context, args []string, log *slog.Logger, stdio program.Stdio) error {
	fs := flag.NewFlagSet("sshd", flag.ContinueOnError)
	fs.SetOutput(stdio.Err)
	port := fs.String("p", "22", "TCP `port` to listen on")
	addr := fs.String("a", "", "`address` to listen on, empty for all")
	keys := fs.String("k", "/etc/ssh", "`directory` of the host keys")
	fs.Bool("D", true, "stay in the foreground (always so)")
	fs.Bool("e", true, "log to standard error (always so)")
	config := fs.String("f", "", "ignored: there is no configuration `file`")
	option := fs.String("o", "", "ignored: there are no `options`")
	if err := fs.Parse(args); err != nil {
		return err
	}
	for name, value := range map[string]string{"-f": *config, "-o": *option} {
		if value != "" {
			log.Warn(fmt.Sprintf("%s %q has no effect: this server has no configuration", name, value))
		}
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the server's own program: %w", err)
	}
	s := &Server{Root: "/", Log: log, SFTP: []string{self, SFTPName}, CgroupRoot: "/sys/fs/cgroup",
		Greeting: func() string { return banner.Text(ctx, banner.Sources{}) }}
	return s.listenAndServe(ctx, net.JoinHostPort(*addr, *port), *keys)
}

// listenAndServe is ready as soon as the quick keys are: RSA, which takes
// seconds to make on a slow machine, joins when it is there.
func (s *Server) listenAndServe(ctx context.Context, addr, keys string) error {
	for _, kind := range []hostkeys.Kind{hostkeys.Ed25519, hostkeys.ECDSA} {
		k, err := hostkeys.Load(keys, kind)
		if err != nil {
			s.Log.Warn(err.Error())
		}
		if k != nil {
			s.HostKeys = append(s.HostKeys, k)
		}
	}
	if len(s.HostKeys) == 0 {
		return errors.New("no host key could be made; see the messages before")
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for SSH: %w; another server may have the port, see `ss -ltnp`", err)
	}
	s.Prepare()
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		s.Log.Warn("tell the service manager that SSH is ready: " + err.Error())
	}
	s.Log.Info("Server listening on " + l.Addr().String())
	go func() {
		defer s.contain("RSA host key")
		k, err := hostkeys.Load(keys, hostkeys.RSA)
		if err != nil {
			s.Log.Warn(err.Error())
		}
		if k != nil {
			s.AddHostKey(k)
		}
	}()
	return s.Serve(ctx, l)
}

// SFTPMain serves sftp on standard input and output with the rights of the
// process, from the user's home directory. It is what a session runs.
func SFTPMain(_ context.Context, _ []string, stdio program.Stdio) int {
	home, err := os.Getwd()
	if err != nil {
		home = "/"
	}
	rw := struct {
		io.Reader
		io.Writer
		io.Closer
	}{stdio.In, stdio.Out, io.NopCloser(nil)}
	server, err := sftp.NewServer(rw, sftp.WithServerWorkingDirectory(home))
	if err != nil {
		fmt.Fprintf(stdio.Err, "serve sftp: %v\n", err)
		return 1
	}
	if err := server.Serve(); err != nil && !errors.Is(err, io.EOF) {
		fmt.Fprintf(stdio.Err, "serve sftp: %v\n", err)
		return 1
	}
	return 0
}
