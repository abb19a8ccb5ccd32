// Package kv runs etcd 3.7 on a Coracle machine, embedded, as `etcd.service`.
// It is for the machine's own agents and for the programs of its owner, which
// find the store where they always did: clients on ports 2379 and 4001, peers
// on 2380, and on 7001 when an older address says so.
//
// Settings come from etcd's flags and from the variables ETCD_*. Those of etcd
// 0.4 and 2, which older cloud-configs set, are mapped onto today's; one that
// has no counterpart is named in a warning. Without any setting the machine is
// a cluster of one that only it can reach; with an address to advertise it
// listens on every interface. An address that was not known yet when the
// settings were written never keeps the member from starting.
//
// Machines with the same user-data become one cluster through a list of
// members, a discovery token, DNS SRV records or one member's address and a
// token; those beyond its size forward their client ports to the members and
// stand by; a member that is dead for long is replaced by one of them. A member
// that the owner removes (`etcdctl member remove`) forwards too, over restarts,
// and is a member again when the owner adds one at its address (`etcdctl member
// add`). See packages discovery, proxy, admission and heal, and package role for
// what a machine is when. With ETCD_TLS_CA_FILE or ETCD_TLS=auto, clients and
// peers must show certificates, see packages pki and authority.
//
// Compared with upstream's own main: readiness is told to the service manager
// in the same way, the log is plain lines with priorities for the journal, an
// error ends in a message and exit code 1 (2 for wrong flags) and never in a
// stack trace. The client ports also serve version 2 of etcd's API, see package
// v2. Upstream's `gateway` and `grpc-proxy` are left out.
package kv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coracle-os/coracle/agents/kv/authority"
	"github.com/coracle-os/coracle/agents/kv/heap"
	"github.com/coracle-os/coracle/agents/kv/logger"
	"github.com/coracle-os/coracle/agents/kv/options"
	"github.com/coracle-os/coracle/agents/kv/settings"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coreos/go-systemd/v22/daemon"
	"go.etcd.io/etcd/client/pkg/v3/logutil"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
)

// Main runs one etcd member until ctx ends or the member fails.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	hostname, _ := os.Hostname()
	id, _ := os.ReadFile("/etc/machine-id")
	m := settings.Machine{ID: strings.TrimSpace(string(id)), Hostname: hostname, Address: ownAddress()}
	if os.Getenv("GOGC") == "" {
		go heap.Run(ctx)
	}
	err := run(ctx, args[1:], os.Environ(), m, stdio)
	switch {
	case err == nil, errors.Is(err, options.ErrHelp):
		return 0
	case errors.Is(err, options.ErrUsage):
		fmt.Fprintf(stdio.Err, "etcd: %v\n", err)
		return 2
	default:
		fmt.Fprintf(stdio.Err, "etcd: %v\n", err)
		return 1
	}
}

// smallSegment is the size in bytes of a segment of the log of a member whose
// data directory is in memory.
const smallSegment = 4 << 20

// inMemory is true when a directory, or what there is above it, is in a tmpfs.
func inMemory(dir string) bool {
	for {
		var s unix.Statfs_t
		err := unix.Statfs(dir, &s)
		if up := filepath.Dir(dir); err != nil && up != dir {
			dir = up
			continue
		}
		return err == nil && s.Type == unix.TMPFS_MAGIC
	}
}

// ownAddress gives the machine's first address that others can use, IPv4
// before IPv6, or "".
func ownAddress() string {
	addresses, _ := net.InterfaceAddrs()
	var six string
	for _, a := range addresses {
		n, ok := a.(*net.IPNet)
		switch {
		case !ok || !n.IP.IsGlobalUnicast():
		case n.IP.To4() != nil:
			return n.IP.String()
		case six == "":
			six = n.IP.String()
		}
	}
	return six
}

func run(ctx context.Context, args, environ []string, m settings.Machine, stdio program.Stdio) error {
	o, s, err := options.Read(args, environ, m, stdio)
	if err != nil {
		return err
	}
	level := logutil.ConvertToZapLevel(o.Embed.LogLevel)
	// Upstream ends the process from its own goroutines when, for example, the
	// disk is full: there is no way back from there.
	log := logger.New(stdio.Err, level, os.Getenv("NOTIFY_SOCKET") != "", func(err error) {
		fmt.Fprintf(stdio.Err, "etcd: %v\n", explain(o.Embed.Dir, fmt.Errorf("run etcd: %w", err)))
		os.Exit(1)
	})
	for _, w := range s.Warnings {
		log.Warn(w)
	}
	o.Embed.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	cfg, err := o.Config()
	if err != nil {
		return err
	}
	backup, err := settings.Backups(environ, cfg.Dir)
	if err != nil {
		return err
	}
	grpc.EnableTracing = false
	if inMemory(cfg.Dir) {
		// etcd lays out two segments in advance; on a live system that is memory.
		wal.SegmentSizeBytes = smallSegment
	}
	cfg.SetupGlobalLoggers()
	trust, err := secure(ctx, s, m, log)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return explain(cfg.Dir, err)
	}
	var handing sync.WaitGroup
	defer handing.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if s.Forming.TLSAuto && trust.Token != "" {
		handing.Go(func() { authority.Serve(ctx, trust) })
	}
	this, err := newMachine(cfg, s.Forming, backup, log)
	if err != nil {
		return err
	}
	return this.run(ctx)
}

// releaseMemory gives back what starting needed and running does not.
func releaseMemory() {
	time.AfterFunc(2*time.Second, debug.FreeOSMemory)
}

func notify(log *zap.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Error("cannot tell the service manager the state", zap.String("state", state), zap.Error(err))
	}
}

// explain adds the next step to errors that owners meet.
func explain(dir string, err error) error {
	text := err.Error()
	switch {
	case errors.Is(err, syscall.EADDRINUSE) || strings.Contains(text, "address already in use"):
		return fmt.Errorf("%w; another program has the port, see `ss -ltnp`, or set other ports with ETCD_LISTEN_CLIENT_URLS and ETCD_LISTEN_PEER_URLS", err)
	case errors.Is(err, syscall.ENOSPC) || strings.Contains(text, "no space left"):
		return fmt.Errorf("%w; the file system of the data directory %q is full, make room and start etcd.service again", err, dir)
	case errors.Is(err, syscall.EACCES) || strings.Contains(text, "permission denied"):
		return fmt.Errorf("%w; the data directory %q must be owned by the user that etcd runs as", err, dir)
	case strings.Contains(text, "resource temporarily unavailable"), strings.Contains(text, "timeout") && strings.Contains(text, "lock"):
		return fmt.Errorf("%w; another etcd uses %q", err, filepath.Join(dir, "member"))
	case strings.Contains(text, "invalid database"), strings.Contains(text, "checksum"), strings.Contains(text, "crc mismatch"):
		return fmt.Errorf("%w; the store in %q is damaged: restore it from a snapshot, or move it away to begin anew or to get the data from the other members", err, dir)
	}
	return err
}
