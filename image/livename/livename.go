// Package livename has the names that the forms of an image for the network and
// for media (image/pxe, image/iso) share with stage 1 and the installer, which
// read them. It has nothing else, so that stage 1 stays small.
package livename

// RootArgument is the kernel argument that makes a system a live one; Memory and
// Medium are its values.
const (
	RootArgument = "coracle.live"
	Memory       = "memory" // the root came with the initrd
	Medium       = "medium" // the root is on a CD or USB stick
)

// Directory is where the files are, in the initrd and on the medium.
const Directory = "coracle"

// Names of the files in Directory. Those of the boot loader are for the
// installer and may be missing.
const (
	Root   = "root.erofs"
	Hashes = "root.verity"
	UKI    = "coracle.efi"
	Loader = "systemd-bootx64.efi"
)

// VolumeLabel is the volume identifier of a medium.
const VolumeLabel = "CORACLE"
