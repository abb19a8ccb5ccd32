// Package detect finds Ignition configs on the machine itself. It is also the
// program ignition-detect, which ignition.service runs: most machines have no
// such config, and for them this small program notes that there is nothing to
// do; for all others it becomes the program ignition, which has the parsers,
// net/http and everything else that is large.
package detect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/initrd/cmdline"
	"github.com/coracle-os/coracle/initrd/modules"
	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/ignition/progress"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/rootfs/userdata"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

// fwCfg are the entries of QEMU's fw_cfg that other systems with Ignition read.
var fwCfg = []string{"opt/com.coreos/config", "opt/org.flatcar-linux/config"}

// oemConfig is the last place to look in; updateDatabase is there since a
// machine was first up.
const (
	oemConfig      = "/usr/share/oem/config.ign"
	updateDatabase = "/var/lib/coracle/update.db"
	ignition       = "/usr/lib/coracle/coracled"
)

// ConfigURL is the address of the config on the kernel command line, by the
// names that Fedora CoreOS and Flatcar know, or "".
func ConfigURL(line string) string {
	args := cmdline.Parse(line)
	for _, name := range []string{"ignition.config.url", "flatcar.config.url", "coreos.config.url"} {
		if address, _ := args.Lookup(name); address != "" {
			return address
		}
	}
	return ""
}

// IsConfig tells whether user-data, compressed with gzip or not, is an Ignition
// config.
func IsConfig(data []byte) bool {
	data, err := cloudconfig.Gunzip(data)
	return err == nil && cloudconfig.Detect(data) == cloudconfig.KindIgnition
}

// Local reads the places on the machine itself, the most important first; oem
// is what the OEM partition has, which counts after all else.
func Local(ctx context.Context, root string, places userdata.Places) (sources, oem []userdata.Source) {
	found := places.Find(ctx) // loads the driver of fw_cfg
	for _, entry := range fwCfg {
		data, err := read(filepath.Join(root, "sys/firmware/qemu_fw_cfg/by_name", entry, "raw"))
		if !errors.Is(err, fs.ErrNotExist) {
			sources = append(sources, userdata.Source{Name: "QEMU fw_cfg " + entry, Data: data, Err: err})
		}
	}
	for _, s := range found {
		if s.Name == oemConfig {
			oem = append(oem, s)
		} else {
			sources = append(sources, s)
		}
	}
	return sources, oem
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, cloudconfig.MaxSize+1))
	if err == nil && len(data) > cloudconfig.MaxSize {
		err = fmt.Errorf("read %s: it is larger than %d bytes", path, cloudconfig.MaxSize)
	}
	return data, err
}

// Nothing tells whether there is surely nothing for the program ignition to do,
// and why.
func Nothing(ctx context.Context, root, line string, name platform.Name, places userdata.Places) (note string, nothing bool) {
	before, begun, err := progress.Read(root)
	if begun && before.Awaits == "" || err != nil {
		return "", false
	}
	if !begun && SetUp(root) {
		return "the machine was set up by an earlier release", true
	}
	if ConfigURL(line) != "" || name != platform.None {
		return "", false
	}
	sources, oem := Local(ctx, root, places)
	if slices.ContainsFunc(append(sources, oem...), func(s userdata.Source) bool { return s.Err != nil || IsConfig(s.Data) }) {
		return "", false
	}
	return "there is no Ignition config", true
}

// SetUp tells that the machine was up before there was a program to note it.
func SetUp(root string) bool {
	_, err := os.Stat(filepath.Join(root, updateDatabase))
	return err == nil
}

// Main is the program.
func Main(ctx context.Context, _ []string, stdio program.Stdio) int {
	line, _ := os.ReadFile("/proc/cmdline")
	name, _ := platform.Choose(platform.ReadDMI(os.DirFS("/sys")), string(line))
	places := userdata.Places{Root: "/", Devices: func() []string { return userdata.BlockDevices("/") }, LoadModule: loadModule}
	if note, nothing := Nothing(ctx, "/", string(line), name, places); nothing {
		if err := keep("/", string(line), note); err != nil {
			fmt.Fprintf(stdio.Err, "ignition: %v\n", err)
			return 1
		}
		return 0
	}
	err := unix.Exec(ignition, []string{"coracled", "ignition"}, os.Environ())
	fmt.Fprintf(stdio.Err, "ignition: start %s: %v\n", ignition, err)
	return 1
}

// keep notes that there is nothing to do here: for good or, when the kernel
// command line names a document, until coreos-cloudinit knows what it is.
func keep(root, line, note string) error {
	before, begun, err := progress.Read(root)
	address, _ := userdata.URL(line)
	if err != nil || address == "" || !begun && SetUp(root) {
		return errors.Join(err, progress.Progress{Note: note}.Finish(root))
	}
	before.Awaits = address
	return before.Keep(root)
}

func loadModule(name string) error {
	loader, err := modules.New("/")
	if err != nil {
		return err
	}
	return loader.Load(name)
}
