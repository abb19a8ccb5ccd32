package firstboot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/coreos/ignition/v2/config/v3_5/types"

	"github.com/coracle-os/coracle/rootfs/early"
	"github.com/coracle-os/coracle/rootfs/tmpfiles"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
)

// effects are what of a config the system has read already when it is written:
// elsewhere Ignition runs before anything else, so it must count on this boot.
type effects struct {
	hostname, sysctl bool
	tmpfiles         []string // of these files
	restart          []string // these units
}

func effectsOf(config types.Config) (e effects) {
	var paths []string
	for _, f := range config.Storage.Files {
		paths = append(paths, path.Clean(f.Path))
	}
	for _, l := range config.Storage.Links {
		paths = append(paths, path.Clean(l.Path))
	}
	modules, network := false, false
	for _, p := range paths {
		below := func(dir string) bool { return strings.HasPrefix(p, dir+"/") }
		switch {
		case p == "/etc/hostname":
			e.hostname = true
		case p == "/etc/sysctl.conf" || below("/etc/sysctl.d"):
			e.sysctl = true
		case below("/etc/tmpfiles.d") && path.Ext(p) == ".conf":
			e.tmpfiles = append(e.tmpfiles, p)
		case below("/etc/modules-load.d"):
			modules = true
		case below("/etc/systemd/network") || below("/run/systemd/network") || p == "/etc/systemd/timesyncd.conf":
			network = true
		}
	}
	if modules {
		e.restart = append(e.restart, "systemd-modules-load.service")
	}
	if network {
		e.restart = append(e.restart, "systemd-networkd.service")
	}
	return e
}

// take lets a config's files count. One that can not is for a warning: the
// next boot reads it anyway.
func (e effects) take(ctx context.Context, root string, host specifier.Host, restart func(ctx context.Context, unit string) error) error {
	var errs []error
	if e.hostname {
		_, err := early.Hostname(root)
		errs = append(errs, err)
	}
	if e.sysctl {
		errs = append(errs, early.Sysctl(root, filepath.Join(root, "proc")))
	}
	for _, name := range e.tmpfiles {
		data, err := os.ReadFile(filepath.Join(root, name))
		items, bad := tmpfiles.Parse(name, string(data))
		env := tmpfiles.Env{BootID: host.BootID, MachineID: host.MachineID, Host: host.Hostname, Kernel: host.Kernel}
		errs = append(append(append(errs, err), bad...), tmpfiles.Apply(root, items, env)...)
	}
	for _, unit := range e.restart {
		if err := restart(ctx, unit); err != nil {
			errs = append(errs, fmt.Errorf("restart %s: %w", unit, err))
		}
	}
	return errors.Join(errs...)
}
