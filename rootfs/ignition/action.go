package ignition

import (
	"fmt"
	"path"
	"strings"

	"github.com/coreos/ignition/v2/config/v3_5/types"
	"github.com/vincent-petithory/dataurl"

	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// The actions of a first boot, in the order in which a plan has them.
type (
	// KernelArguments compares the kernel's arguments with what is asked for.
	KernelArguments struct {
		plan.FirstBoot
		types.KernelArguments
	}
	// Partition makes and deletes partitions of a disk.
	Partition struct {
		plan.FirstBoot
		types.Disk
	}
	// MakeRAID makes an array of md.
	MakeRAID struct {
		plan.FirstBoot
		types.Raid
	}
	// MakeLUKS encrypts a device and opens it.
	MakeLUKS struct {
		plan.FirstBoot
		types.Luks
	}
	// MakeFilesystem makes a file system, unless the right one is there.
	MakeFilesystem struct {
		plan.FirstBoot
		types.Filesystem
	}
	// Mount mounts a file system that the config gives a path. Unit is the
	// mount unit that does it on every boot, with its Content; Own is one that
	// the config has itself.
	Mount struct {
		plan.FirstBoot
		types.Filesystem
		Unit    string
		Content []byte
		Own     bool
	}
	// Group creates, changes or deletes a group.
	Group struct {
		plan.FirstBoot
		types.PasswdGroup
	}
	// User creates, changes or deletes a user.
	User struct {
		plan.FirstBoot
		types.PasswdUser
	}
	// MakeDirectory makes a directory.
	MakeDirectory struct {
		plan.FirstBoot
		types.Directory
	}
	// WriteFile writes a file or appends to one.
	WriteFile struct {
		plan.FirstBoot
		types.File
	}
	// MakeLink makes a hard or symbolic link.
	MakeLink struct {
		plan.FirstBoot
		types.Link
	}
	// Preset says whether a unit is enabled, now and by `systemctl preset`.
	Preset struct {
		plan.FirstBoot
		Name    string
		Enabled bool
	}
	// KeepStorage writes down what every later boot has to open and assemble,
	// and begins to swap.
	KeepStorage struct{ plan.FirstBoot }
)

func (a KernelArguments) String() string {
	var words []string
	for _, k := range a.ShouldExist {
		words = append(words, string(k))
	}
	for _, k := range a.ShouldNotExist {
		words = append(words, "no "+string(k))
	}
	return "kernel arguments " + strings.Join(words, ", ")
}

func (a Partition) String() string {
	text := fmt.Sprintf("partition %s (%d partitions)", a.Device, len(a.Partitions))
	if isTrue(a.WipeTable) {
		text += ", WIPE its table"
	}
	return text
}

func (a MakeRAID) String() string {
	return fmt.Sprintf("RAID %s level %s of %v", a.Name, deref(a.Level), a.Devices)
}

func (a MakeLUKS) String() string {
	text := fmt.Sprintf("LUKS %s on %s", a.Name, deref(a.Device))
	if isTrue(a.WipeVolume) {
		text += ", WIPE what is there"
	}
	return text
}

func (a MakeFilesystem) String() string {
	text := fmt.Sprintf("filesystem %s on %s", deref(a.Format), a.Device)
	if isTrue(a.WipeFilesystem) {
		text += ", WIPE what is there"
	}
	return text
}

func (a Mount) String() string {
	return fmt.Sprintf("mount %s on %s by %s", a.Device, deref(a.Path), a.Unit)
}

func (a Group) String() string {
	if isFalse(a.ShouldExist) {
		return "delete group " + a.Name
	}
	return "group " + a.Name
}

func (a User) String() string {
	if isFalse(a.ShouldExist) {
		return "delete user " + a.Name
	}
	return fmt.Sprintf("user %s (%d keys)", a.Name, len(a.SSHAuthorizedKeys))
}

func (a MakeDirectory) String() string { return "directory " + a.Path }

func (a WriteFile) String() string {
	text := "write " + a.Path
	if a.Contents.Source != nil {
		text += " from " + short(*a.Contents.Source)
	}
	if len(a.Append) > 0 {
		text += fmt.Sprintf(", append %d parts", len(a.Append))
	}
	return text
}

// Inline returns the file and its content when the config has it in itself, as
// data: addresses, and not packed.
func (a WriteFile) Inline() (file string, content []byte, known bool) {
	for _, r := range append([]types.Resource{a.Contents}, a.Append...) {
		if r.Source == nil || *r.Source == "" {
			continue
		}
		decoded, err := dataurl.DecodeString(*r.Source)
		if err != nil || deref(r.Compression) != "" {
			return "", nil, false
		}
		content = append(content, decoded.Data...)
	}
	return path.Clean(a.Path), content, len(a.Append) == 0 || a.Contents.Source != nil
}

func (a MakeLink) String() string {
	return fmt.Sprintf("link %s to %s hard=%t", a.Path, deref(a.Target), isTrue(a.Hard))
}

func (a Preset) String() string {
	if a.Enabled {
		return "enable " + a.Name
	}
	return "disable " + a.Name
}

func (KeepStorage) String() string { return "keep what every boot opens and assembles" }

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func isTrue(b *bool) bool  { return b != nil && *b }
func isFalse(b *bool) bool { return b != nil && !*b }
