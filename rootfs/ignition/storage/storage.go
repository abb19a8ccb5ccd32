package storage

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coreos/ignition/v2/config/v3_5/types"
	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/initrd/devicemapper"
	"github.com/coracle-os/coracle/initrd/luks"
	"github.com/coracle-os/coracle/initrd/partition"
	"github.com/coracle-os/coracle/rootfs/ignition"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// KeptPath says what every boot opens, and KeyDirectory has the keys.
const (
	KeptPath     = "/etc/coracle/storage.json"
	KeyDirectory = "/etc/luks"
)

// Kept is what every boot opens and assembles, in this order.
type Kept struct {
	RAID []KeptRAID `json:"raid,omitempty"`
	LUKS []KeptLUKS `json:"luks,omitempty"`
	Swap []string   `json:"swap,omitempty"`
}

// KeptRAID is an array; Devices are its members.
type KeptRAID struct {
	Name    string   `json:"name"`
	Level   string   `json:"level"`
	Devices []string `json:"devices"`
}

// KeptLUKS is a volume.
type KeptLUKS struct {
	Name    string `json:"name"`
	Device  string `json:"device"`
	KeyFile string `json:"keyFile"`
	Discard bool   `json:"discard,omitempty"` // as earlier releases wrote it; Flags has it now
	// Flags are options of dm-crypt.
	Flags []string `json:"flags,omitempty"`
}

// Executor takes the steps of storage.
type Executor struct {
	System
	// Contents returns a document that was fetched before.
	Contents func(context.Context, types.Resource) ([]byte, error)
	kept     Kept
	wiped    []string // nodes of disks whose tables were wiped
}

// Do takes a step. known is false for one that is not of this package.
func (e *Executor) Do(ctx context.Context, action plan.Action) (changed, known bool, err error) {
	switch a := action.(type) {
	case ignition.Partition:
		changed, err = e.partition(ctx, a.Disk)
	case ignition.MakeRAID:
		changed, err = e.raid(ctx, a.Raid)
	case ignition.MakeLUKS:
		changed, err = e.luks(ctx, a.Luks)
	case ignition.MakeFilesystem:
		changed, err = e.filesystem(ctx, a.Filesystem)
	case ignition.KeepStorage:
		changed, err = true, e.keep()
	default:
		return false, false, nil
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", action, err)
	}
	return changed, true, err
}

func newGUID() string { return strings.ToUpper(uuid.NewString()) }

func (e *Executor) partition(ctx context.Context, d types.Disk) (changed bool, err error) {
	node, err := e.wait(ctx, d.Device)
	if err != nil {
		return false, err
	}
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	g, err := geometry(f)
	if err != nil {
		return false, err
	}
	now, err := partition.ReadTable(f, g.Size, g.Sector)
	if now == nil && !errors.Is(err, partition.ErrNoTable) {
		return false, err
	}
	damaged := errors.Is(err, partition.ErrDamaged) // the kernel reads the first copy only
	if now != nil && slices.ContainsFunc(now.Partitions, func(p *gpt.Partition) bool { return p.Name == "root-A-verity" }) {
		return false, errors.New("it holds Coracle itself; the state partition fills it, use another disk")
	}
	if now == nil && !isTrue(d.WipeTable) {
		found, err := Probe(f, g.Size)
		if err != nil {
			return false, err
		}
		if found.Kind != "" {
			return false, fmt.Errorf("it holds %s and no GPT; set wipeTable to true to lose that", found.Kind)
		}
	}
	table, changed, err := PlanTable(now, d, g, newGUID)
	if err != nil || !changed && !damaged {
		return false, err
	}
	if err := e.InUse(node); err != nil {
		return false, err
	}
	if isTrue(d.WipeTable) {
		e.wiped = append(e.wiped, node)
		if err := wipe(f, g.Size); err != nil {
			return false, err
		}
	}
	if err := table.Write(f, g.Size); err != nil {
		return false, fmt.Errorf("write partition table: %w", err)
	}
	if err := f.Sync(); err != nil {
		return false, err
	}
	return true, e.reread(ctx, f, node, table)
}

func geometry(f *os.File) (Geometry, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return Geometry{}, err
	}
	sector, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET)
	if err != nil {
		sector = 512 // a file
	}
	if size < 4*align {
		return Geometry{}, fmt.Errorf("it has only %d bytes", size)
	}
	return Geometry{size, sector}, nil
}

// wipe clears where tables and signatures are.
func wipe(f *os.File, size int64) error {
	zeros := make([]byte, min(align, size))
	for _, at := range []int64{0, size - int64(len(zeros))} {
		if _, err := f.WriteAt(zeros, at); err != nil {
			return fmt.Errorf("wipe: %w", err)
		}
	}
	return f.Sync()
}

// reread makes the kernel read a table, and waits for the partitions.
func (e *Executor) reread(ctx context.Context, f *os.File, node string, table *gpt.Table) error {
	if info, err := f.Stat(); err != nil || info.Mode()&fs.ModeDevice == 0 {
		return err
	}
	if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKRRPART, 0); err != nil {
		return fmt.Errorf("have the kernel read the new table: %w", err)
	}
	for _, p := range table.Partitions {
		separator := ""
		if last := node[len(node)-1]; last >= '0' && last <= '9' {
			separator = "p"
		}
		part := fmt.Sprintf("%s%s%d", strings.TrimPrefix(node, filepath.Clean(e.Root)), separator, p.Index)
		if _, err := e.wait(ctx, "/"+strings.TrimPrefix(part, "/")); err != nil {
			return err
		}
	}
	return e.Links()
}

// free says why a device that nothing is allowed to be lost of can not be
// taken.
func (e *Executor) free(node string, wipeIt bool, how string) error {
	if err := e.InUse(node); err != nil {
		return err
	}
	found, err := e.probe(node)
	switch {
	case err != nil:
		return err
	case found.Kind == "" || wipeIt:
		return nil
	case slices.ContainsFunc(e.wiped, func(disk string) bool { return strings.HasPrefix(node, disk) }):
		return nil
	}
	return fmt.Errorf("%s holds %s%s; %s to lose that", node, found.Kind, labelled(found), how)
}

func labelled(f Found) string {
	if f.Label == "" {
		return ""
	}
	return fmt.Sprintf(" %q", f.Label)
}

func (e *Executor) luks(ctx context.Context, l types.Luks) (changed bool, err error) {
	node, err := e.wait(ctx, deref(l.Device))
	if err != nil {
		return false, err
	}
	keyFile := filepath.Join(KeyDirectory, l.Name)
	key, err := e.key(ctx, l, keyFile)
	if err != nil {
		return false, err
	}
	kept := KeptLUKS{Name: l.Name, Device: deref(l.Device), KeyFile: keyFile, Flags: ignition.LUKSFlags(l)}
	e.kept.LUKS = append(e.kept.LUKS, kept)
	if _, err := os.Stat(filepath.Join(e.Root, "dev/mapper", l.Name)); err == nil {
		return false, nil // of an earlier try on this boot
	}
	found, err := e.probe(node)
	if err != nil {
		return false, err
	}
	right := found.Kind == "crypto_LUKS" && (deref(l.Label) == "" || *l.Label == found.Label) && (deref(l.UUID) == "" || strings.EqualFold(*l.UUID, found.UUID))
	again := isTrue(l.WipeVolume) || e.unfinished(found)
	if !right || again {
		if err := e.free(node, again, "set wipeVolume to true"); err != nil {
			return false, err
		}
		if deref(l.UUID) == "" {
			id := uuid.NewString()
			l.UUID = &id
		}
		if err := e.making(*l.UUID, func() error { return e.format(node, l, key) }); err != nil {
			return false, err
		}
		changed = true
	}
	return changed, e.open(ctx, kept, key)
}

// key returns the key of a volume and keeps it for later boots; without one in
// the config it is random.
func (e *Executor) key(ctx context.Context, l types.Luks, keyFile string) ([]byte, error) {
	path := filepath.Join(e.Root, keyFile)
	key, err := e.Contents(ctx, l.KeyFile)
	if err != nil {
		return nil, err
	}
	if l.KeyFile.Source == nil || len(key) == 0 {
		if now, err := os.ReadFile(path); err == nil && len(now) > 0 {
			return now, nil
		}
		b := make([]byte, 2048)
		if _, err := rand.Read(b); err != nil {
			return nil, err
		}
		key = []byte(hex.EncodeToString(b))
	}
	return key, writeSecret(path, key)
}

func writeSecret(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func (e *Executor) format(node string, l types.Luks, key []byte) error {
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if size < luks.DataOffset+align {
		return fmt.Errorf("%s has only %d bytes; a volume needs %d MiB", node, size, (luks.DataOffset+align)>>20)
	}
	if err := wipe(f, size); err != nil {
		return err
	}
	o := luks.Options{Label: deref(l.Label), UUID: deref(l.UUID)}
	if l.KeyFile.Source != nil {
		o.Iterations = 100_000 // it may be less random than ours
	}
	_, _, err = luks.Format(f, o, key)
	return err
}

// open makes /dev/mapper/NAME.
func (e *Executor) open(ctx context.Context, l KeptLUKS, key []byte) error {
	if _, err := os.Stat(filepath.Join(e.Root, "dev/mapper", l.Name)); err == nil {
		return nil
	}
	node, err := e.wait(ctx, l.Device)
	if err != nil {
		return err
	}
	f, err := os.Open(node)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	header, err := luks.Read(f)
	var volumeKey []byte
	if err == nil {
		header.Memory = e.Memory / 2
		volumeKey, err = header.Unlock(f, key)
	}
	if errors.Is(err, luks.ErrUnknown) {
		err = fmt.Errorf("%w; make the volume with wipeVolume", err)
	}
	if err != nil {
		return fmt.Errorf("open LUKS volume %s on %s: %w", l.Name, l.Device, err)
	}
	for _, module := range []string{"aesni_intel", "ecb", "xts", "dm_crypt"} {
		if err := e.LoadModule(module); err != nil && module == "dm_crypt" {
			return fmt.Errorf("load module %s: %w", module, err)
		}
	}
	options := slices.Clone(l.Flags)
	if l.Discard && !slices.Contains(options, "allow_discards") {
		options = append(options, "allow_discards")
	}
	target, err := header.Target(l.Name, node, size, volumeKey, options...)
	if err != nil {
		return err
	}
	device, err := devicemapper.Create(target)
	if err != nil {
		return fmt.Errorf("open LUKS volume %s on %s: %w", l.Name, l.Device, err)
	}
	return replaceLink(filepath.Join(e.Root, "dev/mapper", l.Name), device)
}

// keep writes down what later boots open.
func (e *Executor) keep() error {
	data, err := json.MarshalIndent(e.kept, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(e.Root, KeptPath)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := writeSecret(path, append(data, '\n')); err != nil {
		return err
	}
	return e.swapOn(context.Background())
}

// swapOn begins to swap to the devices that are for it.
func (e *Executor) swapOn(ctx context.Context) (err error) {
	for _, device := range e.kept.Swap {
		node, werr := e.wait(ctx, device)
		if werr == nil && e.InUse(node) == nil {
			werr = swapOn(node)
		}
		err = errors.Join(err, werr)
	}
	return err
}

// Open opens and assembles what KeptPath says; every one of it is tried.
func (e *Executor) Open(ctx context.Context) error {
	data, err := os.ReadFile(filepath.Join(e.Root, KeptPath))
	if err != nil {
		return fmt.Errorf("open storage: %w", err)
	}
	if err := json.Unmarshal(data, &e.kept); err != nil {
		return fmt.Errorf("open storage: %s: %w", KeptPath, err)
	}
	var errs []error
	for _, r := range e.kept.RAID {
		errs = append(errs, e.assemble(ctx, r))
	}
	for _, l := range e.kept.LUKS {
		key, err := os.ReadFile(filepath.Join(e.Root, l.KeyFile))
		if err == nil {
			err = e.open(ctx, l, key)
		}
		errs = append(errs, err)
	}
	errs = append(errs, e.swapOn(ctx), e.Links())
	return errors.Join(errs...)
}
