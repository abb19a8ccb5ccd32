package locksmith

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/coracle-os/coracle/agents/locksmith/semaphore"
	"github.com/coracle-os/coracle/rootfs/program"
)

const usage = `Usage: locksmithctl [FLAG...] COMMAND [ARGUMENT...]

Commands:
  status            show the reboot lock and who holds it
  lock [ID]         take the reboot lock for a machine (this one)
  unlock [ID]       give it back
  set-max N         let N machines reboot at the same time
  reboot            take the lock if the strategy wants it, and reboot
  send-need-reboot  tell locksmithd that a reboot is needed

Flags, also as variables LOCKSMITHCTL_*:
`

// tool is one call of locksmithctl.
type tool struct {
	program.Stdio
	config Config
	id     string
	reboot func(context.Context) error
	locks  func(context.Context) bool
	flag   string // path of NeedReboot
}

// CtlMain is locksmithctl. It exits with 2 for a wrong call.
func CtlMain(ctx context.Context, args []string, stdio program.Stdio) int {
	config, err := ReadConfig("/", os.Environ(), "LOCKSMITHCTL_")
	if err != nil {
		fmt.Fprintf(stdio.Err, "locksmithctl: %v\n", err)
		return 1
	}
	id, err := machineID()
	if err != nil {
		fmt.Fprintf(stdio.Err, "locksmithctl: %v\n", err)
		return 1
	}
	d, err := onMachine(config, id, stdio)
	if err != nil {
		fmt.Fprintf(stdio.Err, "locksmithctl: %v\n", err)
		return 1
	}
	t := tool{Stdio: stdio, config: config, id: id, locks: d.locks, flag: NeedReboot, reboot: func(ctx context.Context) error {
		d.prepare(ctx)
		return d.reboot(ctx)
	}}
	return t.main(ctx, args[1:])
}

var errUsage = errors.New("see locksmithctl -h")

func (t *tool) main(ctx context.Context, args []string) int {
	flags := t.flags()
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(t.Out, usage)
		flags.SetOutput(t.Out)
		flags.PrintDefaults()
		return 0
	case err != nil:
		fmt.Fprintf(t.Err, "locksmithctl: %v; %v\n", err, errUsage)
		return 2
	}
	switch err := t.command(ctx, flags.Args()); {
	case errors.Is(err, errUsage):
		fmt.Fprintf(t.Err, "locksmithctl: %v\n", err)
		return 2
	case err != nil:
		fmt.Fprintf(t.Err, "locksmithctl: %v\n", err)
		return 1
	}
	return 0
}

func (t *tool) flags() *flag.FlagSet {
	f := flag.NewFlagSet("locksmithctl", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	s := &t.config.Store
	f.Func("endpoint", "`addresses` of the key-value store, separated by commas (default "+defaultEndpoint+")",
		func(v string) error { s.SetEndpoints(v); return nil })
	f.StringVar(&s.CAFile, "etcd-cafile", s.CAFile, "`file` with the authority of the store's certificate")
	f.StringVar(&s.CertFile, "etcd-certfile", s.CertFile, "`file` with the certificate of this client")
	f.StringVar(&s.KeyFile, "etcd-keyfile", s.KeyFile, "`file` with the key of this client")
	f.StringVar(&s.Username, "etcd-username", s.Username, "user `name` for the store")
	f.StringVar(&s.Password, "etcd-password", s.Password, "its `password`")
	f.StringVar(&s.Group, "group", s.Group, "`name` of the group of machines")
	return f
}

func (t *tool) command(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("no command given; %w", errUsage)
	}
	name, args := args[0], args[1:]
	most := map[string]int{"status": 0, "lock": 1, "unlock": 1, "set-max": 1, "reboot": 0, "send-need-reboot": 0}
	n, ok := most[name]
	if !ok {
		return fmt.Errorf("unknown command %q; %w", name, errUsage)
	}
	if len(args) > n {
		return fmt.Errorf("%s: too many arguments %q; %w", name, args, errUsage)
	}
	cluster, id := NewCluster(t.config.Store, nil), t.id
	if len(args) == 1 {
		id = args[0]
	}
	switch name {
	case "status":
		return cluster.with(ctx, t.status)
	case "lock":
		return cluster.Lock(ctx, id)
	case "unlock":
		return cluster.Unlock(ctx, id)
	case "set-max":
		return t.setMax(ctx, cluster, args)
	case "reboot":
		return t.rebootNow(ctx, cluster)
	}
	return t.sendNeedReboot()
}

func (t *tool) status(ctx context.Context, s semaphore.Store) error {
	v, err := s.Get(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(t.Out, "Available: %d\nMax: %d\n", v.Semaphore, v.Max)
	if len(v.Holders) > 0 {
		fmt.Fprint(t.Out, "\nMACHINE ID\n")
	}
	for _, h := range v.Holders {
		fmt.Fprintln(t.Out, h)
	}
	return nil
}

func (t *tool) setMax(ctx context.Context, cluster Cluster, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("set-max: say how many; %w", errUsage)
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return fmt.Errorf("set-max: %q is not a number; %w", args[0], errUsage)
	}
	return cluster.with(ctx, func(ctx context.Context, s semaphore.Store) error {
		old, err := s.SetMax(ctx, n)
		if err != nil {
			return err
		}
		fmt.Fprintf(t.Out, "Old: %d\nNew: %d\n", old, n)
		return nil
	})
}

// rebootNow reboots as the daemon would, without the window and the wait for
// people: a person asks.
func (t *tool) rebootNow(ctx context.Context, cluster Cluster) error {
	if t.locks(ctx) {
		members, err := cluster.Members(ctx)
		if err == nil {
			err = GuardQuorum(members)
		}
		if err == nil {
			err = cluster.Lock(ctx, t.id)
		}
		if err != nil && !errors.Is(err, semaphore.ErrHolds) {
			return fmt.Errorf("reboot: %w; to reboot all the same use systemctl reboot", err)
		}
	}
	return t.reboot(ctx)
}

func (t *tool) sendNeedReboot() error {
	if err := os.MkdirAll(filepath.Dir(t.flag), 0o755); err != nil {
		return fmt.Errorf("send-need-reboot: %w", err)
	}
	if err := os.WriteFile(t.flag, []byte("locksmithctl\n"), 0o644); err != nil {
		return fmt.Errorf("send-need-reboot: %w", err)
	}
	return nil
}
