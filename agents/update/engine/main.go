package engine

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/coracle-os/coracle/agents/esp"
	"github.com/coracle-os/coracle/agents/update"
	"github.com/coracle-os/coracle/agents/update/slots"
	"github.com/coracle-os/coracle/agents/update/store"
	"github.com/coracle-os/coracle/initrd/bootinfo"
	"github.com/coracle-os/coracle/initrd/entries"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/rootfs/updatectl"
)

// memory is what the runtime keeps to, in bytes: the process stays under 64 MiB
// however large the image is.
const memory = 40 << 20

const usage = `Usage: update-engine
       update-engine apply [--force] FILE

Without a command it is the service. apply asks the service to install the
release in a bundle.
`

// Main runs update-engine.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	switch {
	case len(args) == 1:
	case args[1] == "apply":
		return updatectl.Main(ctx, append([]string{"updatectl"}, args[1:]...), stdio)
	default:
		fmt.Fprint(stdio.Err, usage)
		return 2
	}
	if err := run(ctx, stdio); err != nil {
		fmt.Fprintf(stdio.Err, "update-engine: %v\n", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, stdio program.Stdio) error {
	debug.SetMemoryLimit(memory)
	debug.SetGCPercent(50)
	log := slog.New(slog.NewTextHandler(stdio.Err, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey && len(groups) == 0 {
			return slog.Attr{} // the journal has it
		}
		return a
	}}))
	d, err := machine(log)
	if err != nil {
		return err
	}
	e := New(d)
	l, err := Listen(updatectl.Socket)
	if err != nil {
		return err
	}
	defer l.Close()
	go e.Serve(ctx, l)
	return e.Run(ctx)
}

// machine is the machine that the program runs on.
func machine(log *slog.Logger) (Deps, error) {
	info, err := bootinfo.Read(bootinfo.Path)
	if err != nil {
		return Deps{}, fmt.Errorf("%w; only a machine that was started from a Coracle image can update itself", err)
	}
	release, err := os.ReadFile("/usr/lib/os-release")
	if err != nil {
		return Deps{}, fmt.Errorf("read version: %w", err)
	}
	version := ""
	for line := range strings.Lines(string(release)) {
		if v, ok := strings.CutPrefix(line, "VERSION_ID="); ok {
			version = strings.Trim(strings.TrimSpace(v), `"'`)
		}
	}
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		return Deps{}, fmt.Errorf("read machine id: %w", err)
	}
	return Deps{
		Root: "/", Environ: os.Environ(), MachineID: strings.TrimSpace(string(id)), Slot: info.Slot,
		Running: update.Target{Version: version, RootHash: info.RootHash},
		Store:   store.New(store.Path), Forgetful: info.StateKey == bootinfo.Closed, TrustDir: "/var/lib/coracle/tuf", SpareDir: "/run/update-engine/tuf",
		NeedReboot: "/run/update-engine/reboot-needed", Now: time.Now, Log: log,
		Disk: func() (slots.Disk, func() error, error) {
			disk, err := slots.Open("/sys", "/dev", info.RootDevice)
			if err != nil {
				return slots.Disk{}, nil, err
			}
			return disk, disk.File.Close, nil
		},
		ESP: func(f func(entries.Dir) error) error { return esp.Entries(info.RootDevice, f) },
	}, nil
}
