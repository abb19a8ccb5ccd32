package storage

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// System is the machine, as far as storage goes.
type System struct {
	// Root stands for "/"; /dev, /sys and /proc are below it.
	Root string
	// Run runs a program and returns an error with what it said.
	Run func(ctx context.Context, name string, args ...string) error
	// LoadModule loads a kernel module.
	LoadModule func(name string) error
	// Say tells the owner one line.
	Say func(string)
	// DeviceTimeout bounds the wait for a device; 0 is 30 s.
	DeviceTimeout time.Duration
	// Memory of the machine in bytes: a volume's Argon2 may take half of it, as
	// cryptsetup does.
	Memory int64
}

// wait waits until a device is there and returns its node.
func (s *System) wait(ctx context.Context, device string) (string, error) {
	timeout := s.DeviceTimeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		node, err := filepath.EvalSymlinks(filepath.Join(s.Root, device))
		if err == nil {
			return node, nil
		}
		if err := s.Links(); err != nil {
			return "", err
		}
		if node, err = filepath.EvalSymlinks(filepath.Join(s.Root, device)); err == nil {
			return node, nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("device %s: it did not appear within %v; see /dev/disk for those that are there", device, timeout)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Links makes the links in /dev/disk and /dev/mapper that udev makes elsewhere:
// by-partlabel, by-partuuid, by-label, by-uuid, by-id for disks with a serial
// number, and by-id/coreos-boot-disk.
func (s *System) Links() error {
	dir := filepath.Join(s.Root, "sys/class/block")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list block devices: %w", err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasPrefix(name, "loop") || strings.HasPrefix(name, "ram") || strings.HasPrefix(name, "sr") {
			continue
		}
		for _, link := range s.linksOf(name) {
			if err := replaceLink(filepath.Join(s.Root, "dev", link), name); err != nil {
				return fmt.Errorf("name device %s: %w", name, err)
			}
		}
	}
	return nil
}

func (s *System) linksOf(name string) (links []string) {
	dir := filepath.Join(s.Root, "sys/class/block", name)
	for key, kind := range map[string]string{"PARTNAME": "by-partlabel", "PARTUUID": "by-partuuid"} {
		if value := uevent(dir, key); value != "" {
			links = append(links, filepath.Join("disk", kind, escape(value)))
			if kind == "by-partlabel" && value == "state" {
				if real, err := filepath.EvalSymlinks(dir); err == nil {
					_ = replaceLink(filepath.Join(s.Root, "dev/disk/by-id/coreos-boot-disk"), filepath.Base(filepath.Dir(real)))
				}
			}
		}
	}
	if serial := text(dir, "serial"); serial != "" {
		links = append(links, "disk/by-id/virtio-"+escape(serial))
	}
	if mapper := text(dir, "dm/name"); mapper != "" {
		links = append(links, "mapper/"+mapper)
	}
	found, err := s.probe(filepath.Join(s.Root, "dev", name))
	if err != nil {
		return links
	}
	if found.Label != "" && found.Kind != "linux_raid_member" {
		links = append(links, "disk/by-label/"+escape(found.Label))
	}
	if found.UUID != "" && found.Kind != "linux_raid_member" {
		id := found.UUID
		if found.Kind == "vfat" {
			id = strings.ToUpper(id)
		}
		links = append(links, "disk/by-uuid/"+id)
	}
	return links
}

func uevent(dir, key string) string {
	f, err := os.Open(filepath.Join(dir, "uevent"))
	if err != nil {
		return ""
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), key+"="); ok {
			return value
		}
	}
	return ""
}

func text(dir, name string) string {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// escape is how udev writes names in links.
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("#+-.:=@_", c) >= 0 || c >= 0x80 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "\\x%02x", c)
		}
	}
	return b.String()
}

// replaceLink makes link point at the device name. A node of that name, as
// mdadm makes it, stays.
func replaceLink(link, name string) error {
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return err
	}
	depth := "../.."
	if filepath.Base(filepath.Dir(link)) == "mapper" {
		depth = ".."
	}
	target := filepath.Join(depth, name)
	now, err := os.Readlink(link)
	if err == nil && now == target {
		return nil
	}
	if info, err := os.Lstat(link); err == nil && info.Mode()&fs.ModeSymlink == 0 {
		return nil
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(target, link)
}

// probe looks for what a device holds.
func (s *System) probe(node string) (Found, error) {
	f, err := os.Open(node)
	if err != nil {
		return Found{}, fmt.Errorf("look for what is there: %w", err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return Found{}, fmt.Errorf("look for what is there: %w", err)
	}
	return Probe(f, size)
}

// InUse says why a device, or a partition of it, must not be changed; nil when
// nothing speaks against it.
func (s *System) InUse(node string) error {
	name := filepath.Base(node)
	dir := filepath.Join(s.Root, "sys/class/block", name)
	names := []string{name}
	if parts, err := os.ReadDir(dir); err == nil {
		for _, p := range parts {
			if strings.HasPrefix(p.Name(), name) {
				names = append(names, p.Name())
			}
		}
	}
	mounted, err := os.ReadFile(filepath.Join(s.Root, "proc/self/mountinfo"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("ask what is mounted: %w", err)
	}
	swaps, _ := os.ReadFile(filepath.Join(s.Root, "proc/swaps"))
	for _, n := range names {
		sys := filepath.Join(s.Root, "sys/class/block", n)
		if holders, err := os.ReadDir(filepath.Join(sys, "holders")); err == nil && len(holders) > 0 {
			return fmt.Errorf("%s is in use by %s", n, holders[0].Name())
		}
		number := text(sys, "dev")
		for line := range bytes.Lines(mounted) {
			if fields := bytes.Fields(line); len(fields) > 4 && number != "" && string(fields[2]) == number {
				return fmt.Errorf("%s is mounted on %s", n, fields[4])
			}
		}
		if slices.ContainsFunc(strings.Fields(string(swaps)), func(w string) bool { return w == "/dev/"+n }) {
			return fmt.Errorf("%s is swapped to", n)
		}
	}
	return nil
}
