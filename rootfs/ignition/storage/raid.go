package storage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/coreos/ignition/v2/config/v3_5/types"
)

func (e *Executor) raid(ctx context.Context, r types.Raid) (changed bool, err error) {
	var nodes, devices []string
	for _, d := range r.Devices {
		node, err := e.wait(ctx, string(d))
		if err != nil {
			return false, err
		}
		nodes, devices = append(nodes, node), append(devices, string(d))
	}
	kept := KeptRAID{Name: r.Name, Level: deref(r.Level), Devices: devices}
	if err := e.LoadModule(raidModule(kept.Level)); err != nil {
		return false, fmt.Errorf("load the driver of the array: %w", err)
	}
	e.kept.RAID = append(e.kept.RAID, kept)
	if e.members(nodes, r.Name) {
		return false, e.assemble(ctx, kept)
	}
	for _, node := range nodes {
		if err := e.free(node, false, "wipe its disk's table with wipeTable"); err != nil {
			return false, err
		}
	}
	spares := 0
	if r.Spares != nil {
		spares = *r.Spares
	}
	args := []string{"--create", r.Name, "--force", "--run", "--homehost", "any", "--level", deref(r.Level),
		"--raid-devices", fmt.Sprint(len(nodes) - spares)}
	if spares > 0 {
		args = append(args, "--spare-devices", fmt.Sprint(spares))
	}
	for _, o := range r.Options {
		args = append(args, string(o))
	}
	if err := e.Run(ctx, "/usr/sbin/mdadm", append(args, nodes...)...); err != nil {
		return false, err
	}
	_, err = e.wait(ctx, "/dev/md/"+r.Name)
	return true, err
}

// raidModule is the driver of a level.
func raidModule(level string) string {
	switch level {
	case "linear", "raid0", "raid1", "raid10":
		return level
	case "0", "stripe":
		return "raid0"
	case "1", "mirror":
		return "raid1"
	case "10":
		return "raid10"
	}
	return "raid456"
}

// members tells whether all devices are of the array already.
func (e *Executor) members(nodes []string, name string) bool {
	return !slices.ContainsFunc(nodes, func(node string) bool {
		found, err := e.probe(node)
		return err != nil || found.Kind != "linux_raid_member" || found.Label != "any:"+name
	})
}

// assemble starts an array. One that lacks members is started all the same.
func (e *Executor) assemble(ctx context.Context, r KeptRAID) error {
	if _, err := os.Stat(filepath.Join(e.Root, "dev/md", r.Name)); err == nil {
		return nil
	}
	if err := e.LoadModule(raidModule(r.Level)); err != nil {
		return fmt.Errorf("assemble array %s: load its driver: %w", r.Name, err)
	}
	var nodes []string
	var missing error
	for _, d := range r.Devices {
		node, err := e.wait(ctx, d)
		if err != nil {
			missing = err
			continue
		}
		nodes = append(nodes, node)
	}
	if missing != nil {
		e.Say(fmt.Sprintf("warning: array %s: %v; it is started without", r.Name, missing))
	}
	if err := e.Run(ctx, "/usr/sbin/mdadm", append([]string{"--assemble", "--run", "/dev/md/" + r.Name}, nodes...)...); err != nil {
		return fmt.Errorf("assemble array %s: %w", r.Name, err)
	}
	_, err := e.wait(ctx, "/dev/md/"+r.Name)
	return err
}
