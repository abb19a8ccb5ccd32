package ignition

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"
	"github.com/coreos/ignition/v2/config/v3_5/types"

	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// own are the labels of the image's own partitions and file systems.
var own = []string{"BIOS-BOOT", "ESP", "root-A", "root-B", "root-A-verity", "root-B-verity", "oem", "state", "OEM", "STATE", "ROOT", "root"}

// isOwn tells whether a device is a partition of the image by its name.
func isOwn(device string) bool {
	dir, name := path.Split(device)
	return (dir == "/dev/disk/by-partlabel/" || dir == "/dev/disk/by-label/") && slices.Contains(own, name)
}

// formats are the file systems that can be made here.
var formats = []string{"ext4", "xfs", "vfat", "swap", "none"}

func (c *compiler) storage() {
	s := c.config.Storage
	for i, d := range s.Disks {
		c.add(Partition{Disk: d}, "storage.disks", "storage", "disks", i)
	}
	for i, r := range s.Raid {
		at := []any{"storage", "raid", i}
		for _, d := range r.Devices {
			if isOwn(string(d)) {
				c.refuse(at, "%s is part of the system; use another disk", d)
			}
		}
		c.add(MakeRAID{Raid: r}, "storage.raid", at...)
	}
	for i, l := range s.Luks {
		at := []any{"storage", "luks", i}
		refused, unused := checkLUKS(l)
		for _, what := range refused {
			c.refuse(at, "%s; give LUKS %s a key file, or none for a random key", what, l.Name)
		}
		for _, option := range unused {
			c.problems.Add(c.where(at...), plan.Warning, "LUKS %s: %s is not used: volumes are LUKS2 with AES-256 in XTS mode, and their keys PBKDF2's with SHA-256", l.Name, option)
		}
		if isOwn(deref(l.Device)) {
			c.refuse(at, "%s is part of the system; use another disk", deref(l.Device))
		}
		c.add(MakeLUKS{Luks: l}, "storage.luks", at...)
	}
	for i, f := range s.Filesystems {
		at := []any{"storage", "filesystems", i}
		c.checkFilesystem(f, at)
		c.add(MakeFilesystem{Filesystem: f}, "storage.filesystems", at...)
	}
}

// mounts makes the steps for file systems with a path, the higher in the tree
// first.
func (c *compiler) mounts() {
	filesystems := c.config.Storage.Filesystems
	sorted := slices.Clone(filesystems)
	slices.SortStableFunc(sorted, func(a, b types.Filesystem) int { return strings.Compare(deref(a.Path), deref(b.Path)) })
	for _, f := range sorted {
		if format := deref(f.Format); format == "none" || format == "swap" || deref(f.Path) == "" {
			continue
		}
		m := c.mount(f)
		at := []any{"storage", "filesystems", slices.IndexFunc(filesystems, func(o types.Filesystem) bool { return o.Device == f.Device })}
		c.add(m, "storage.filesystems", at...)
		if !m.Own {
			c.add(Preset{Name: m.Unit, Enabled: true}, "storage.filesystems", at...)
		}
	}
}

func (c *compiler) checkFilesystem(f types.Filesystem, at []any) {
	where := path.Clean(deref(f.Path))
	if where == "/" || (isOwn(f.Device) && isTrue(f.WipeFilesystem)) {
		c.refuse(at, "the root file system is a verified image and is not made anew, and the system's other partitions are kept; put data on another disk, or under /var")
		return
	}
	if isOwn(f.Device) {
		c.refuse(at, "%s is part of the system; use another disk", f.Device)
	}
	if format := deref(f.Format); format != "" && !slices.Contains(formats, format) {
		c.refuse(at, "this kernel has no %s; use ext4 or xfs", format)
	}
	for _, dir := range append([]string{"/etc", "/var", "/run", "/tmp"}, fixed...) {
		if where == dir {
			c.refuse(at, "%s is the system's own; mount at a place below it", dir)
		}
	}
	if top := strings.Count(where, "/") == 1; top && !slices.Contains([]string{"/home", "/root", "/opt", "/srv", "/mnt", "/media"}, where) && !slices.Contains(append(fixed, "/etc", "/var", "/run", "/tmp"), where) {
		c.refuse(at, "the top directory is in the verified image, so there can be no %s; mount below /var, /mnt or /srv", where)
	}
}

// real is where a top directory is that is a link in the image; mounts do not
// follow links in their unit's name.
var real = map[string]string{"/home": "/var/home", "/root": "/var/roothome", "/opt": "/var/opt", "/srv": "/var/srv"}

// mount makes the step for a file system with a path.
func (c *compiler) mount(f types.Filesystem) Mount {
	where := path.Clean(deref(f.Path))
	top := "/" + strings.SplitN(strings.TrimPrefix(where, "/"), "/", 2)[0]
	if moved, ok := real[top]; ok {
		where = moved + strings.TrimPrefix(where, top)
	}
	m := Mount{Filesystem: f, Unit: unit.UnitNamePathEscape(where) + ".mount"}
	m.Path = &where
	for _, u := range c.config.Systemd.Units {
		if u.Name == m.Unit && deref(u.Contents) != "" {
			m.Own, m.Content = true, []byte(*u.Contents)
			return m
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Of the Ignition config.\n[Unit]\nDescription=%s of the Ignition config\nAfter=%s\n", where, DevicesUnit)
	fmt.Fprintf(&b, "\n[Mount]\nWhat=%s\nWhere=%s\nType=%s\n", f.Device, where, deref(f.Format))
	var options []string
	for _, o := range f.MountOptions {
		options = append(options, string(o))
	}
	if len(options) > 0 {
		fmt.Fprintf(&b, "Options=%s\n", strings.Join(options, ","))
	}
	b.WriteString("\n[Install]\nRequiredBy=local-fs.target\n")
	m.Content = []byte(b.String())
	return m
}

// DevicesUnit opens on every boot what the mount units need.
const DevicesUnit = "ignition-devices.service"
