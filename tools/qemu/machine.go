// Package qemu starts a Coracle image as a QEMU machine: for `coracle run`,
// for the tests and for the benchmarks, which all want the same firmware,
// disk overlay, serial console and port forwarding.
//
// Config.Args is pure: the whole machine as a command line. Start adds what
// needs the host: the overlay, the firmware variables, the process. The guest
// is never given the image itself to write on, only a qcow2 overlay, so that
// an image can be booted any number of times, side by side.
//
// Left out on purpose: a QMP client of the full protocol. The only command
// that is needed (the power button) is one line of JSON.
package qemu

import (
	"fmt"
	"path/filepath"
	"strconv"
)

// Config describes one machine. Sizes are in MiB unless named otherwise.
type Config struct {
	Name     string // for messages and file names
	Dir      string // holds overlay, variables, console log, sockets; must exist
	Image    string // the image to boot, raw or qcow2; never written to
	Disk     string // overlay file; empty: Dir/disk.qcow2, made anew
	DiskSize int64  // size of the overlay in bytes; 0: the image's own
	WriteLog string // file that gets all writes to the disk, as dm-log-writes has them; empty: none
	Bus      string // virtio (default), nvme, sata, usb, scsi
	Memory   int    // MiB; 0: 2048
	CPUs     int    // 0: 2, and 1 under TCG
	CodeSize int    // MiB that TCG may use for translated code; 0: 1024

	Accel    string // kvm or tcg; empty: DetectAccel
	Firmware Firmware
	BIOS     bool // QEMU's own legacy BIOS in place of Firmware
	// SecureBoot takes a firmware that can enforce Secure Boot, in setup mode: it
	// enrols the image's keys at the first start.
	SecureBoot bool
	TPM        bool // a TPM 2 by swtpm, whose state is in Dir/tpm

	UserData    string // file given as fw_cfg opt/coracle/user-data; empty: none
	MetaData    string // file given as fw_cfg opt/coracle/meta-data; empty: none
	KernelArgs  string // added to the command line through SMBIOS
	ExtraDrives []Drive
	Forwards    []Forward
	NoNetwork   bool // a network card with nothing behind it: no DHCP answers
	// NetBoot is what the network's DHCP server names as boot file, an address
	// for iPXE; the machine starts from the network then. Empty: from the disk.
	NetBoot   string
	LAN       LAN  // a second network card, to other machines of this host
	Stdio     bool // serial console on this process's terminal
	ExtraArgs []string
}

// LAN is a network of machines on one host. Nothing on it gives addresses.
type LAN struct {
	Group string // multicast address and port, the same for all; empty: no LAN
	MAC   string // of this machine's card
}

// Firmware is an OVMF build: the code, mapped read-only, and the template of
// its variable store, of which each machine gets a copy.
type Firmware struct{ Code, Vars string }

// Drive is a further disk.
type Drive struct {
	File, Format string // Format is raw or qcow2
	ReadOnly     bool
	CDROM        bool
	Boot         bool // the machine starts from it
}

// Forward is a TCP port of the host's loopback that leads into the guest.
type Forward struct{ Host, Guest int }

func (c Config) disk() string {
	if c.Disk != "" {
		return c.Disk
	}
	return filepath.Join(c.Dir, "disk.qcow2")
}

// ConsoleLog is the file that receives all that the serial console prints.
func (c Config) ConsoleLog() string { return filepath.Join(c.Dir, "console.log") }

func (c Config) consoleSocket() string { return filepath.Join(c.Dir, "console.sock") }
func (c Config) qmpSocket() string     { return filepath.Join(c.Dir, "qmp.sock") }
func (c Config) vars() string          { return filepath.Join(c.Dir, "vars.fd") }

// Args returns QEMU's arguments for the machine.
func (c Config) Args() ([]string, error) {
	memory, cpus := c.Memory, c.CPUs
	if memory == 0 {
		memory = 2048
	}
	if cpus == 0 {
		cpus = 2
		if c.Accel != "kvm" {
			// The kernel patches its own text, and QEMU 7.2's emulation of several
			// processors at times still runs the old one: "Oops: int3" in 1 of 25 boots.
			cpus = 1
		}
	}
	machine := "q35,smm=off"
	if c.SecureBoot {
		machine = "q35,smm=on" // only the firmware may write its variables
	}
	args := []string{
		"-name", "coracle-" + c.Name,
		"-machine", machine,
		"-m", strconv.Itoa(memory),
		"-smp", strconv.Itoa(cpus),
		"-display", "none",
		"-no-user-config", "-nodefaults",
		"-device", "virtio-rng-pci",
		"-global", "ICH9-LPC.noreboot=off", // or the chipset's watchdog counts for nothing
		"-qmp", "unix:" + c.qmpSocket() + ",server=on,wait=off",
	}
	if !c.BIOS {
		args = append(args, "-drive", "if=pflash,format=raw,unit=0,readonly=on,file="+c.Firmware.Code,
			"-drive", "if=pflash,format=raw,unit=1,file="+c.vars())
	}
	if c.SecureBoot {
		args = append(args, "-global", "driver=cfi.pflash01,property=secure,value=on")
	}
	if c.TPM {
		args = append(args, "-chardev", "socket,id=tpm,path="+c.tpmSocket(),
			"-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0")
	}
	switch c.Accel {
	case "kvm":
		args = append(args, "-accel", "kvm", "-cpu", "host")
	case "tcg", "":
		code := c.CodeSize
		if code == 0 {
			code = 1024
		}
		args = append(args, "-accel", fmt.Sprintf("tcg,thread=multi,tb-size=%d", code), "-cpu", "max,-cx16")
	default:
		return nil, fmt.Errorf("qemu arguments: accelerator %q: use kvm or tcg", c.Accel)
	}
	disk, err := diskArgs(c.Bus)
	if err != nil {
		return nil, err
	}
	args = append(append(args, c.driveArgs()...), disk...)
	for i, d := range c.ExtraDrives {
		args = append(args, extraDriveArgs(i, d)...)
	}
	args = append(args, c.networkArgs()...)
	if c.LAN.Group != "" {
		args = append(args, "-netdev", "socket,id=lan,mcast="+c.LAN.Group+",localaddr=127.0.0.1",
			"-device", "virtio-net-pci,netdev=lan,romfile=,mac="+c.LAN.MAC)
	}
	args = append(args, c.consoleArgs()...)
	if c.UserData != "" {
		args = append(args, "-fw_cfg", "name=opt/coracle/user-data,file="+c.UserData)
	}
	if c.MetaData != "" {
		args = append(args, "-fw_cfg", "name=opt/coracle/meta-data,file="+c.MetaData)
	}
	if c.KernelArgs != "" {
		args = append(args, "-smbios", "type=11,value=io.systemd.stub.kernel-cmdline-extra="+c.KernelArgs)
	}
	return append(args, c.ExtraArgs...), nil
}

// driveArgs make disk0. The host's cache may lose what the guest has flushed,
// but a log shows the flushes.
func (c Config) driveArgs() []string {
	if c.WriteLog == "" {
		return []string{"-drive", "if=none,id=disk0,format=qcow2,discard=unmap,cache=unsafe,file=" + c.disk()}
	}
	return []string{
		"-blockdev", "driver=qcow2,node-name=overlay,discard=unmap,cache.no-flush=on,file.driver=file,file.filename=" + c.disk(),
		"-blockdev", "driver=file,node-name=writes,cache.no-flush=on,filename=" + c.WriteLog,
		"-blockdev", "driver=blklogwrites,node-name=disk0,file=overlay,log=writes",
	}
}

func diskArgs(bus string) ([]string, error) {
	var args, devices []string
	switch bus {
	case "", "virtio":
		devices = []string{"virtio-blk-pci,drive=disk0"}
	case "nvme":
		devices = []string{"nvme,drive=disk0,serial=coracle0"}
	case "sata":
		devices = []string{"ide-hd,drive=disk0,bus=ide.0"}
	case "usb":
		devices = []string{"qemu-xhci,id=usb", "usb-storage,drive=disk0,bus=usb.0"}
	case "scsi":
		devices = []string{"virtio-scsi-pci,id=scsi0", "scsi-hd,drive=disk0,bus=scsi0.0"}
	default:
		return nil, fmt.Errorf("qemu arguments: disk bus %q: use virtio, nvme, sata, usb or scsi", bus)
	}
	devices[len(devices)-1] += ",bootindex=1"
	for _, device := range devices {
		args = append(args, "-device", device)
	}
	return args, nil
}

func extraDriveArgs(i int, d Drive) []string {
	id := fmt.Sprintf("extra%d", i)
	spec := fmt.Sprintf("if=none,id=%s,format=%s,file=%s", id, d.Format, d.File)
	if d.ReadOnly || d.CDROM {
		spec += ",readonly=on"
	}
	device := "virtio-blk-pci,drive=" + id
	if d.CDROM {
		device = fmt.Sprintf("ide-cd,drive=%s,bus=ide.%d", id, i+1)
	}
	if d.Boot {
		device += ",bootindex=0"
	}
	return []string{"-drive", spec, "-device", device}
}

func (c Config) networkArgs() []string {
	if c.NoNetwork {
		return []string{"-netdev", "socket,id=net0,udp=127.0.0.1:9,localaddr=127.0.0.1:0", "-device", "virtio-net-pci,netdev=net0,romfile="}
	}
	spec := "user,id=net0"
	for _, f := range c.Forwards {
		spec += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-:%d", f.Host, f.Guest)
	}
	if c.NetBoot != "" {
		// The card's ROM is iPXE.
		return []string{"-netdev", spec + ",bootfile=" + c.NetBoot, "-device", "virtio-net-pci,netdev=net0,bootindex=0"}
	}
	return []string{"-netdev", spec, "-device", "virtio-net-pci,netdev=net0,romfile="}
}

func (c Config) consoleArgs() []string {
	if c.Stdio {
		return []string{"-chardev", "stdio,id=con,mux=on,signal=off,logappend=on,logfile=" + c.ConsoleLog(),
			"-serial", "chardev:con", "-mon", "chardev=con,mode=readline"}
	}
	return []string{"-chardev", "socket,id=con,server=on,wait=off,path=" + c.consoleSocket() + ",logappend=on,logfile=" + c.ConsoleLog(),
		"-serial", "chardev:con"}
}
