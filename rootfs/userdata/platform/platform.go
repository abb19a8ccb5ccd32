// Package platform tells on which cloud a machine runs, from what its firmware
// says (DMI, the SMBIOS of the DMTF), and has the form in which every cloud's
// user-data and metadata come. A machine that is on none of the clouds asks
// nobody and waits for nothing; what DMI does not tell can be said on the kernel
// command line with coracle.platform=NAME, or coracle.platform=none.
//
// It is for provisioning, and for the program that asks metadata services,
// which is apart from it (see package metadata): so this package has no network
// in it. Left out on purpose: clouds that are told by their network only, and
// guessing by asking 169.254.169.254, which a stranger on the network can answer.
package platform

import (
	"io/fs"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/initrd/cmdline"
	"github.com/coracle-os/coracle/rootfs/cloudconfig"
)

// Program is what the program is called that asks for a platform's metadata.
const Program = "coreos-cloudinit-metadata"

// Name is a platform.
type Name string

// The platforms. None is bare metal, QEMU and everything else without a
// metadata service that this system asks.
const (
	None         Name = ""
	EC2          Name = "ec2"
	GCE          Name = "gce"
	Azure        Name = "azure"
	DigitalOcean Name = "digitalocean"
	OpenStack    Name = "openstack"
	Hetzner      Name = "hetzner"
	VMware       Name = "vmware"
)

// Names are all platforms but None.
func Names() []Name {
	return []Name{EC2, GCE, Azure, DigitalOcean, OpenStack, Hetzner, VMware}
}

// NeedsNetwork tells whether the platform's metadata comes over the network.
func (n Name) NeedsNetwork() bool { return n != VMware && n != None }

// File is a network file, such as "10-cloud-0.network".
type File struct{ Name, Content string }

// Result is what a platform says about a machine.
type Result struct {
	UserData []byte // nil when there is none
	Metadata cloudconfig.Metadata
	// URL is where the platform says that the user-data is, "" when it does not.
	URL string
	// Network is what DHCP does not set up.
	Network []File
	// Notes are sentences about what was found and is not used.
	Notes []string
	// Errors are sentences about what should be there and could not be read.
	Errors []string
}

// DMI is what the firmware says about a machine, as the kernel shows it in
// /sys/class/dmi/id.
type DMI struct {
	SysVendor, ProductName, ProductUUID, ChassisAssetTag, BIOSVendor, BIOSVersion string
}

// ReadDMI reads /sys; what is not there is "".
func ReadDMI(sys fs.FS) DMI {
	read := func(name string) string {
		data, err := fs.ReadFile(sys, "class/dmi/id/"+name)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(data))
	}
	return DMI{
		SysVendor: read("sys_vendor"), ProductName: read("product_name"), ProductUUID: read("product_uuid"),
		ChassisAssetTag: read("chassis_asset_tag"), BIOSVendor: read("bios_vendor"), BIOSVersion: read("bios_version"),
	}
}

// azureTag is the asset tag that Microsoft gives all of Azure's machines; other
// machines on Hyper-V have another.
const azureTag = "7783-7084-3265-9085-8269-3286-77"

// openStackTags are asset tags of public clouds that are OpenStack.
var openStackTags = []string{"OpenStack Nova", "OpenStack Compute", "OpenTelekomCloud", "SAP CCloud VM", "HUAWEICLOUD", "Samsung Cloud Platform"}

// Detect tells the platform by the firmware.
func Detect(dmi DMI) Name {
	switch {
	case dmi.ChassisAssetTag == azureTag:
		return Azure
	case isEC2(dmi):
		return EC2
	case dmi.ProductName == "Google Compute Engine", dmi.SysVendor == "Google" && dmi.ProductName == "Google":
		return GCE
	case dmi.SysVendor == "DigitalOcean":
		return DigitalOcean
	case dmi.SysVendor == "Hetzner":
		return Hetzner
	case strings.HasPrefix(dmi.ProductName, "OpenStack "), dmi.SysVendor == "OpenStack Foundation",
		slices.Contains(openStackTags, dmi.ChassisAssetTag):
		return OpenStack
	case strings.HasPrefix(dmi.SysVendor, "VMware, Inc."), strings.HasPrefix(dmi.ProductName, "VMware"):
		return VMware
	}
	return None
}

// isEC2 knows Nitro and bare metal by the vendor, and the older Xen machines by
// their BIOS or, as AWS documents it, a UUID that begins with "ec2".
func isEC2(dmi DMI) bool {
	isXen := dmi.BIOSVendor == "Xen" || dmi.SysVendor == "Xen"
	return dmi.SysVendor == "Amazon EC2" || dmi.BIOSVendor == "Amazon EC2" ||
		isXen && (strings.Contains(dmi.BIOSVersion, "amazon") || strings.HasPrefix(strings.ToLower(dmi.ProductUUID), "ec2"))
}

// Choose is Detect, unless the kernel command line says coracle.platform=. The
// problem is "" or why what it says is not followed.
func Choose(dmi DMI, kernelArgs string) (name Name, problem string) {
	said, found := cmdline.Parse(kernelArgs).Lookup("coracle.platform")
	switch {
	case !found || said == "":
		return Detect(dmi), ""
	case said == "none":
		return None, ""
	case slices.Contains(Names(), Name(said)):
		return Name(said), ""
	}
	var known []string
	for _, n := range Names() {
		known = append(known, string(n))
	}
	return Detect(dmi), "coracle.platform=" + said + " on the kernel command line is not a platform; use none, " + strings.Join(known, ", ")
}
