// Package userdata finds the user-data of a machine: on the OEM partition, on a
// config drive, in QEMU's fw_cfg, in files that an installer or Vagrant left,
// and at an address on the kernel command line. Each place is looked at once
// and none is waited for; all that are found apply, in the order of Find, so
// that the owner's come after the OEM's.
//
// The places are those of CoreOS (see package cloudconfig), fw_cfg, which
// systemd and others use the same way, and the disks of platforms (OpenStack's
// config-2 before NoCloud's cidata: of the two only one applies). Metadata
// services are asked by a program of their own: see packages platform and
// metadata.
package userdata

import (
	"cmp"
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

	"github.com/coracle-os/coracle/initrd/cmdline"
	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/userdata/configdrive"
	"github.com/coracle-os/coracle/rootfs/userdata/nocloud"
	"github.com/coracle-os/coracle/rootfs/userdata/openstack"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

// Source is user-data and the metadata that came with it.
type Source struct {
	Name     string // for people, with the place: "config drive /dev/vdb"
	Data     []byte // as found: may be gzip; nil when there is none
	Metadata cloudconfig.Metadata
	// Network is what the platform says about it and DHCP does not.
	Network []platform.File
	// IsPlatform tells that the platform made this for the machine, so that its
	// metadata service, which would say the same, need not be asked.
	IsPlatform bool
	// Notes are sentences about what was found and is not used.
	Notes []string
	// Err says why a place that exists could not be read.
	Err error
}

// FromPlatform makes a source of what a platform says.
func FromPlatform(name string, r platform.Result, err error) Source {
	for _, problem := range r.Errors {
		err = errors.Join(err, errors.New(problem))
	}
	return Source{Name: name, Data: r.UserData, Metadata: r.Metadata, Network: r.Network, IsPlatform: true, Notes: r.Notes, Err: err}
}

// Places is where to look.
type Places struct {
	// Root is the directory that stands for "/".
	Root string
	// Devices lists the block devices that may be a config drive; nil is none.
	Devices func() []string
	// LoadModule loads a kernel module; nil loads none.
	LoadModule func(name string) error
}

// FWCfg is where the kernel shows QEMU's fw_cfg entry opt/coracle/user-data.
const FWCfg = "/sys/firmware/qemu_fw_cfg/by_name/opt/coracle/user-data/raw"

// FWCfgMetadata is the entry opt/coracle/meta-data beside it: what belongs to
// this one machine, where the user-data is the same for many.
const FWCfgMetadata = "/sys/firmware/qemu_fw_cfg/by_name/opt/coracle/meta-data/raw"

// fwCfgDevice is there when the machine has fw_cfg, with or without its driver.
const fwCfgDevice = "/sys/bus/acpi/devices/QEMU0002:00"

// Find reads every place on the machine itself.
func (p Places) Find(ctx context.Context) []Source {
	var found []Source
	add := func(name, path string) {
		data, err := p.read(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			found = append(found, Source{Name: name, Err: fmt.Errorf("read %s: %w", path, err)})
		case len(data) > 0:
			found = append(found, Source{Name: name, Data: data})
		}
	}
	add("/usr/share/oem/cloud-config.yml", "/usr/share/oem/cloud-config.yml")
	add("/usr/share/oem/config.ign", "/usr/share/oem/config.ign")
	if p.Devices != nil {
		p.loadCDROM(ctx)
		found = append(found, fromDrives(ctx, p.Devices())...)
	}
	p.loadFWCfg()
	found = append(found, p.fwCfg()...)
	for _, path := range []string{"/var/lib/coreos-install/user_data", "/var/lib/coreos-vagrant/vagrantfile-user-data"} {
		add(path, path)
	}
	return found
}

// fwCfg reads the entries of fw_cfg. Metadata that cannot be read is an error;
// the user-data applies all the same.
func (p Places) fwCfg() []Source {
	source := Source{Name: "QEMU fw_cfg opt/coracle/user-data"}
	var err error
	if source.Data, err = p.read(FWCfg); err != nil && !errors.Is(err, fs.ErrNotExist) {
		source.Err = fmt.Errorf("read %s: %w", FWCfg, err)
	}
	metadata, err := p.read(FWCfgMetadata)
	if err == nil && len(metadata) > 0 {
		source.Metadata, err = parseMetadata(metadata)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		source.Err = errors.Join(source.Err, fmt.Errorf("read %s: %w", FWCfgMetadata, err))
	}
	if len(source.Data) == 0 && len(metadata) == 0 && source.Err == nil {
		return nil
	}
	return []Source{source}
}

func (p Places) read(path string) ([]byte, error) {
	f, err := os.Open(filepath.Join(p.Root, path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, cloudconfig.MaxSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > cloudconfig.MaxSize {
		return nil, fmt.Errorf("it is larger than %d bytes", cloudconfig.MaxSize)
	}
	return data, nil
}

// fromDrives reads the disk that the platform made for the machine.
func fromDrives(ctx context.Context, devices []string) []Source {
	drive, isDrive := configdrive.Find(devices, openstack.Label)
	seed, isSeed := configdrive.Find(devices, nocloud.Label)
	var found Source
	switch {
	case isDrive:
		found = ConfigDrive(ctx, drive)
	case isSeed:
		files, err := configdrive.Open(ctx, seed, nocloud.UserData, nocloud.MetaData, nocloud.NetworkConfig)
		found = FromPlatform("NoCloud disk "+seed, nocloud.Parse(files), err)
	default:
		return nil
	}
	if isDrive && isSeed {
		found.Notes = append(found.Notes, fmt.Sprintf("there is a NoCloud disk %s too; it is not used, the config drive wins", seed))
	}
	return []Source{found}
}

// ConfigDrive reads OpenStack's config drive on a block device.
func ConfigDrive(ctx context.Context, device string) Source {
	files, err := configdrive.Open(ctx, device, openstack.DriveFiles()...)
	// The metadata names one more file, if a network was injected.
	if name := openstack.NetworkConfig(files[openstack.MetaData]); name != "" && err == nil {
		var more configdrive.Files
		if more, err = configdrive.Open(ctx, device, name); err == nil && more[name] != nil {
			files[openstack.Injected] = more[name]
		}
	}
	return FromPlatform("config drive "+device, openstack.ParseDrive(files), err)
}

// loadFWCfg loads the driver of fw_cfg on machines that have fw_cfg.
func (p Places) loadFWCfg() {
	if p.LoadModule == nil {
		return
	}
	_, hasDriver := os.Stat(filepath.Join(p.Root, "/sys/firmware/qemu_fw_cfg/rev"))
	_, hasDevice := os.Stat(filepath.Join(p.Root, fwCfgDevice))
	if hasDriver != nil && hasDevice == nil {
		// Without the driver there is no file, and that is all there is to say.
		_ = p.LoadModule("qemu_fw_cfg")
	}
}

// cdromTimeout bounds the wait for a CD drive that is there to get its device,
// once its driver is loaded.
const cdromTimeout = 2 * time.Second

// loadCDROM sees to it that a CD drive has its driver: config drives are most
// often CDs. A machine without a CD drive does not wait.
func (p Places) loadCDROM(ctx context.Context) {
	if p.LoadModule == nil || !p.hasCDDrive() || p.hasCDDevice() {
		return
	}
	if err := p.LoadModule("sr_mod"); err != nil {
		return // the drive stays unread, as one without a label
	}
	for deadline := time.Now().Add(cdromTimeout); !p.hasCDDevice() && time.Now().Before(deadline); {
		select {
		case <-ctx.Done():
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// hasCDDrive looks for SCSI devices of type 5, which CD and DVD drives are
// behind every kind of controller.
func (p Places) hasCDDrive() bool {
	types, _ := filepath.Glob(filepath.Join(p.Root, "/sys/bus/scsi/devices/*/type"))
	return slices.ContainsFunc(types, func(path string) bool {
		data, err := os.ReadFile(path)
		return err == nil && strings.TrimSpace(string(data)) == "5"
	})
}

func (p Places) hasCDDevice() bool {
	devices, _ := filepath.Glob(filepath.Join(p.Root, "/sys/class/block/sr*"))
	return len(devices) > 0
}

// URL returns the address that cloud-config-url= names on a kernel command
// line; the last one counts, and "-" and "_" are the same in the name.
func URL(line string) (address string, found bool) {
	address, _ = cmdline.Parse(line).Lookup("cloud-config-url")
	return address, address != ""
}

// BlockDevices lists the device nodes below root that may hold a file system,
// CD drives and whole disks before partitions. Loop, RAM and mapped devices are
// left out.
func BlockDevices(root string) []string {
	entries, err := os.ReadDir(filepath.Join(root, "/sys/class/block"))
	if err != nil {
		return nil
	}
	type device struct {
		path string
		part bool
	}
	var devices []device
	for _, entry := range entries {
		name := entry.Name()
		if slices.ContainsFunc([]string{"loop", "ram", "zram", "dm-", "md", "nbd"}, func(prefix string) bool {
			return strings.HasPrefix(name, prefix)
		}) {
			continue
		}
		_, err := os.Stat(filepath.Join(root, "/sys/class/block", name, "partition"))
		devices = append(devices, device{filepath.Join(root, "/dev", strings.ReplaceAll(name, "!", "/")), err == nil})
	}
	slices.SortStableFunc(devices, func(a, b device) int {
		if a.part != b.part {
			if a.part {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.path, b.path)
	})
	var paths []string
	for _, d := range devices {
		paths = append(paths, d.path)
	}
	return paths
}
