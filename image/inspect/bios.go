package inspect

import (
	"bytes"
	"errors"
	"io"
	"path"
	"strings"

	"github.com/coracle-os/coracle/image/esp"
	"github.com/coracle-os/coracle/image/gpt"
	"github.com/coracle-os/coracle/image/grub"
)

// BIOS is the way that the image boots on legacy BIOS.
type BIOS struct {
	Core       int64       `json:"core"`       // byte of the disk at which GRUB's core image is
	Generation uint32      `json:"generation"` // of the boot state
	Entries    []BIOSEntry `json:"entries"`    // in the order in which GRUB takes them
}

// A BIOSEntry is a release in GRUB's boot state.
type BIOSEntry struct {
	Version   string `json:"version"`
	TriesLeft *int   `json:"triesLeft,omitempty"` // nil for one that was marked good
}

// readBIOS reads what GRUB would. An image without GRUB boots on UEFI only, which
// is no problem.
func (img *Image) readBIOS(volume *esp.Volume, files []esp.File) {
	contents := map[string][]byte{}
	for _, f := range files {
		if f.Dir || !strings.EqualFold(path.Dir(f.Path), grub.Directory) {
			continue
		}
		content, err := read(volume, f)
		if err != nil {
			img.problem("%s: %v; GRUB cannot read it either", f.Path, err)
		}
		contents[path.Base(f.Path)] = content
	}
	part, _ := img.layout.Find(gpt.BIOSBoot)
	core, ok := grub.Installed(img.disk, part.Start)
	if !ok && len(contents) == 0 {
		return
	}
	if !ok {
		img.problem("the boot sector does not lead to GRUB in partition %s: a machine with a legacy BIOS does not start; write the image anew", gpt.BIOSBoot)
		return
	}
	img.BIOS = &BIOS{Core: core}
	state, err := grub.Latest(contents[grub.EnvNames[0]], contents[grub.EnvNames[1]])
	if err != nil {
		img.problem("GRUB's boot state: %v; on legacy BIOS the newest whole version is taken", err)
	}
	img.BIOS.Generation = state.Generation
	for _, e := range state.Entries {
		entry := BIOSEntry{Version: e.Version}
		if !e.Good {
			entry.TriesLeft = &e.Left
		}
		img.BIOS.Entries = append(img.BIOS.Entries, entry)
	}
	for _, f := range files {
		if err := checkForBIOS(volume, f, contents); err != nil {
			img.problem("%s: on legacy BIOS GRUB does not start it: %v", f.Path, err)
		}
	}
}

// checkForBIOS compares GRUB's files of a UKI with what they should be.
func checkForBIOS(volume *esp.Volume, f esp.File, contents map[string][]byte) error {
	name := path.Base(f.Path)
	if f.Dir || !strings.EqualFold(path.Dir(f.Path), "EFI/Linux") || !strings.HasPrefix(name, "coracle-") {
		return nil
	}
	version := strings.TrimSuffix(strings.TrimPrefix(name, "coracle-"), path.Ext(name))
	version, _, _ = strings.Cut(version, "+")
	r, err := volume.OpenFile(f)
	if err != nil {
		return err
	}
	want, err := grub.Describe(version, r, f.Size)
	if err != nil {
		return err
	}
	if !bytes.Equal(want.Script, contents[version+grub.ScriptSuffix]) || !bytes.Equal(want.Sum, contents[version+grub.SumSuffix]) {
		return errors.New("it or its files in " + grub.Directory + " are missing or damaged")
	}
	return nil
}

func read(volume *esp.Volume, f esp.File) ([]byte, error) {
	r, err := volume.OpenFile(f)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(r, 0, f.Size))
}
