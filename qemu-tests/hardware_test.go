package qemutests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/qemu-tests/machine"
	"github.com/coracle-os/coracle/tools/qemu"
)

// TestHardware starts a machine from a USB stick that has what servers and other
// hypervisors have: each device must find its driver by itself, in stage 1 or
// later, wherever the disk is.
func TestHardware(t *testing.T) {
	dir := scratch(t)
	disks := []string{"pvscsi,id=pv", "scsi-hd,bus=pv.0,drive=",
		"megasas-gen2,id=mega", "scsi-hd,bus=mega.0,drive=",
		"mptsas1068", "piix3-ide", // QEMU's show the kernel no disk on this board
		"virtio-scsi-pci,id=vs", "scsi-hd,bus=vs.0,drive=",
		"ide-hd,bus=ide.2,drive=", "nvme,serial=1,drive=", "virtio-blk-pci,drive=",
		"sdhci-pci", "sd-card,drive="}
	var args []string
	for i, device := range disks {
		if strings.HasSuffix(device, "drive=") {
			file := filepath.Join(dir, string(rune('a'+i)))
			must(t, os.WriteFile(file, nil, 0o644))
			must(t, os.Truncate(file, 16<<20))
			device += filepath.Base(file)
			args = append(args, "-drive", "if=none,format=raw,id="+filepath.Base(file)+",file="+file)
		}
		args = append(args, "-device", device)
	}
	for i, card := range []string{"e1000", "e1000e", "vmxnet3"} {
		args = append(args, "-netdev", fmt.Sprintf("user,id=%s,net=10.0.%d.0/24", card, 3+i), "-device", card+",romfile=,netdev="+card)
	}
	args = append(args, "-device", "ich9-usb-ehci1,id=ehci", "-device", "usb-kbd,bus=ehci.0",
		"-device", "ipmi-bmc-sim,id=bmc", "-device", "isa-ipmi-kcs,bmc=bmc")
	m := machine.Boot(t, machine.Options{UserData: keyOnly, Bus: "usb", Change: func(c *qemu.Config) { c.ExtraArgs = args }})
	healthy(t, m)
	if info := bootOf(t, m); info.Slot != "A" || info.VolatileState || len(info.Notices) > 0 || !strings.HasPrefix(info.RootDevice, "/dev/sd") {
		t.Errorf("stage 1 says %+v", info)
	}
	if w := bootOf(t, m).Watchdogs; len(w) < 2 || w[0].TimeoutSeconds != 60 || w[1].TimeoutSeconds != 60 {
		t.Errorf("the watchdogs of hardware and kernel: %+v", w)
	}
	drivers := "pci/drivers/xhci_hcd usb/drivers/usb-storage pci/drivers/vmw_pvscsi pci/drivers/megaraid_sas pci/drivers/mptsas " +
		"virtio/drivers/virtio_scsi pci/drivers/ata_piix pci/drivers/ahci pci/drivers/nvme virtio/drivers/virtio_blk " +
		"pci/drivers/sdhci-pci mmc/drivers/mmcblk pci/drivers/e1000 pci/drivers/e1000e pci/drivers/vmxnet3 " +
		"virtio/drivers/virtio_net pci/drivers/ehci-pci usb/drivers/usbhid platform/drivers/ipmi_si"
	// Devices of a driver are links with their names; the rest are files, and "module".
	m.Eventually("for d in "+drivers+"; do find /sys/bus/$d/ -type l ! -name module | grep -q . || { echo nothing for $d; exit 1; }; done", "", time.Minute)
	m.Eventually("n=$(grep -c 'sd[a-z]$\\|vda$\\|nvme0n1$\\|mmcblk0$' /proc/partitions); test $n = 8 || { cat /proc/partitions; exit 1; }", "", time.Minute)
	m.Eventually("grep -A4 'USB Keyboard' /proc/bus/input/devices | grep -o kbd", "kbd", time.Minute)
}
