package format

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/template"
)

// What a virtual machine gets when nobody says otherwise.
const (
	processors = 2
	memoryMiB  = 2048
)

//go:embed machine.ovf
var ovfText string

// hardware is where the hosts of a description differ. Debian's cloud kernel has
// no driver for the network cards of real machines that they offer first.
type hardware struct{ NIC string }

var (
	vmware     = hardware{NIC: "VmxNet3"}
	virtualBox = hardware{NIC: "VirtioNet"}
)

// ovf describes the virtual machine (DMTF DSP0243, OVF 1.0, which VMware and
// VirtualBox read).
func ovf(j job, h hardware, disk string, capacity, diskBytes int64) ([]byte, error) {
	t, err := template.New("ovf").Parse(ovfText)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, map[string]any{
		"Name": j.Name, "Version": j.Version, "Disk": disk, "Capacity": capacity, "Bytes": diskBytes,
		"Processors": processors, "Memory": memoryMiB, "NIC": h.NIC,
	})
	return b.Bytes(), err
}

// machine writes raw as a VMDK of that name in j.dir and describes a machine
// with it.
func (j job) machine(ctx context.Context, h hardware, raw string, capacity int64, name string) (path string, description []byte, err error) {
	path = filepath.Join(j.dir, name)
	if err := j.vmdk(ctx, raw, path); err != nil {
		return "", nil, err
	}
	disk, err := os.Stat(path)
	if err != nil {
		return "", nil, err
	}
	description, err = ovf(j, h, name, capacity, disk.Size())
	return path, description, err
}

// writeOVA packs description, digests and disk, in this order, as OVF asks for.
func writeOVA(ctx context.Context, j job) error {
	raw, capacity, err := j.grown(ctx)
	if err != nil {
		return err
	}
	disk, name := j.Name+"-disk1.vmdk", j.Name+".ovf"
	path, description, err := j.machine(ctx, vmware, raw, capacity, disk)
	if err != nil {
		return err
	}
	sum, err := digest(path)
	if err != nil {
		return err
	}
	digests := fmt.Appendf(nil, "SHA256(%s)= %x\nSHA256(%s)= %x\n", name, sha256.Sum256(description), disk, sum)
	return writeFile(j.out, func(f *os.File) error {
		return pack(ctx, f, []member{{Name: name, Text: description}, {Name: j.Name + ".mf", Text: digests}, {Name: disk, Path: path}})
	})
}

func digest(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return h.Sum(nil), err
}
