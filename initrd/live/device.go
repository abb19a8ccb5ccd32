package live

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/image/livename"
	"github.com/coracle-os/coracle/initrd/cmdline"
)

// StateLabel is the label of a state file system.
const StateLabel = "STATE"

// State is where the command line wants /var to be.
type State struct {
	Memory bool   // in memory and nowhere else
	Label  string // on the file system with this label
	Device string // on this device
	Format bool   // make a file system if the device is empty
	Wanted bool   // it was asked for: its absence is worth waiting for
}

// ParseState reads coracle.state= and coracle.state-format. Without them it is
// a partition labelled STATE, if there is one; kind is one of the kinds, and a
// medium, which is carried from machine to machine, leaves their disks alone.
func ParseState(args cmdline.Args, kind string) (State, error) {
	value, found := args.Lookup("coracle.state")
	s := State{Wanted: found, Format: args.Bool("coracle.state-format")}
	_, installs := args.Lookup("coracle.install")
	label, isLabel := strings.CutPrefix(value, "LABEL=")
	switch {
	case !found && (installs || kind == livename.Medium):
		s.Memory = true
	case !found:
		s.Label = StateLabel
	case value == "memory":
		s.Memory = true
	case isLabel && label != "":
		s.Label = label
	case strings.HasPrefix(value, "/dev/"):
		s.Device = value
	default:
		return State{Memory: true}, fmt.Errorf("coracle.state=%q: write memory, LABEL=NAME or /dev/NAME", value)
	}
	if s.Format && s.Device == "" {
		return s, errors.New("coracle.state-format makes a file system only on a device that is named: add coracle.state=/dev/NAME")
	}
	return s, nil
}

// Nodes lists the device nodes of CD drives, disks and partitions, whole disks
// before their partitions. sys and dev are the directories of that name.
func Nodes(sys, dev string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(sys, "class/block"))
	if err != nil {
		return nil, fmt.Errorf("list block devices: %w", err)
	}
	var nodes []string
	for _, entry := range entries {
		name := entry.Name()
		if slices.ContainsFunc([]string{"loop", "ram", "zram", "dm-", "md", "fd", "nbd"}, func(prefix string) bool {
			return strings.HasPrefix(name, prefix)
		}) {
			continue
		}
		nodes = append(nodes, filepath.Join(dev, strings.ReplaceAll(name, "!", "/")))
	}
	return nodes, nil
}

// ByLabel gives the first of the nodes with an ext4 file system of a label.
func ByLabel(nodes []string, label string) (string, bool) {
	for _, node := range nodes {
		if text, err := field(node, 1024+0x38, 2); err != nil || !bytes.Equal(text, []byte{0x53, 0xef}) {
			continue
		}
		if text, err := field(node, 1024+0x78, 16); err == nil && string(bytes.TrimRight(text, "\x00")) == label {
			return node, true
		}
	}
	return "", false
}

// Media gives those of the nodes with an ISO 9660 file system (ECMA-119, 8.4)
// of our label.
func Media(nodes []string) (media []string) {
	for _, node := range nodes {
		text, err := field(node, 16*2048, 72)
		if err == nil && string(text[:6]) == "\x01CD001" && strings.TrimRight(string(text[40:]), " ") == livename.VolumeLabel {
			media = append(media, node)
		}
	}
	return media
}

func field(node string, offset int64, length int) ([]byte, error) {
	f, err := os.Open(node)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text := make([]byte, length)
	_, err = f.ReadAt(text, offset)
	return text, err
}

// ErrNotEmpty says that a device holds something.
var ErrNotEmpty = errors.New("the device is not empty")

// Empty is nil when the first 4 MiB and the last one of a device are zero: no
// partition table, file system, RAID or volume manager leaves them so.
func Empty(device io.ReadSeeker) error {
	size, err := device.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("look whether the device is empty: %w", err)
	}
	const head, tail = 4 << 20, 1 << 20
	for _, part := range [][2]int64{{0, min(head, size)}, {max(0, size-tail), size}} {
		if _, err := device.Seek(part[0], io.SeekStart); err != nil {
			return fmt.Errorf("look whether the device is empty: %w", err)
		}
		buffer := make([]byte, part[1]-part[0])
		if _, err := io.ReadFull(device, buffer); err != nil {
			return fmt.Errorf("look whether the device is empty: %w", err)
		}
		if at := bytes.IndexFunc(buffer, func(r rune) bool { return r != 0 }); at >= 0 {
			return fmt.Errorf("%w: there is something at byte %d", ErrNotEmpty, part[0]+int64(at))
		}
	}
	return nil
}
