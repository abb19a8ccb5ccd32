package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"

	"github.com/coracle-os/coracle/image/measure"
	"github.com/coracle-os/coracle/initrd/bootinfo"
	"github.com/coracle-os/coracle/initrd/cmdline"
	"github.com/coracle-os/coracle/initrd/devicemapper"
	"github.com/coracle-os/coracle/initrd/luks"
	"github.com/coracle-os/coracle/initrd/partition"
	"github.com/coracle-os/coracle/initrd/state"
	"github.com/coracle-os/coracle/initrd/tpm"
)

// Slots of the volume, its labels, and the name of the opened device.
const (
	tpmSlot, recoverySlot = 0, 1
	labelNew, labelState  = "NEW", "STATE" // NEW: its recovery key was not shown yet
	stateName             = "state"
)

// stateLock is the encryption of the state partition.
type stateLock struct {
	wanted  bool                // a fresh one is to be encrypted
	tpm     transport.TPMCloser // nil without one that works
	problem error               // why it is nil
	fresh   bool                // to be encrypted once the root is there
	closed  error               // why it stays closed
	open    *openVolume         // nil: it is not open
}

// openVolume is the opened volume of a partition.
type openVolume struct {
	device    string // of the partition
	header    *luks.Header
	volumeKey []byte
}

// readEncryption reads the argument that asks for it.
func (b *boot) readEncryption(args cmdline.Args) {
	how, asked := args.Lookup("coracle.encrypt")
	b.lock.wanted = asked && how == bootinfo.ByTPM
	if asked && !b.lock.wanted {
		b.notice(fmt.Sprintf("coracle.encrypt=%s on the kernel command line is not known: write %s", how, bootinfo.ByTPM))
	}
}

// openState opens an encrypted state partition, or notes that it is to be
// encrypted. It never ends the boot: a machine without its state can be reached.
func openState(_ context.Context, b *boot) error {
	b.openTPM()
	if b.info.Live != "" {
		if b.lock.wanted {
			b.notice("coracle.encrypt is for a system on a disk of its own; the state of this one is not encrypted")
		}
		return nil
	}
	if part, ok := partition.State(b.found.Disk); ok {
		if b.lock.closed = b.lookAtState(part.Device); b.lock.closed != nil {
			b.info.StateKey = bootinfo.Closed
		}
	}
	return nil
}

// lookAtState returns why an encrypted state partition stays closed.
func (b *boot) lookAtState(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open state partition: %w", err)
	}
	defer f.Close()
	header, err := luks.Read(f)
	switch {
	case errors.Is(err, luks.ErrNotLUKS):
		b.lock.fresh = b.lock.wanted && state.Fresh(f)
		if b.lock.wanted && !b.lock.fresh {
			b.notice("the state partition is not encrypted, since it is in use already: only that of a new machine is")
		}
		return nil
	case err != nil:
		return err
	case header.Label == labelNew:
		b.lock.fresh = true
		return nil
	}
	return b.unlock(f, header, device)
}

// openTPM opens the TPM and measures that stage 1 runs.
func (b *boot) openTPM() {
	device, err := linuxtpm.Open(tpm.Device)
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("there is no TPM 2")
	}
	if err == nil {
		if err = tpm.Measure(device, measure.EnterInitrd); err != nil {
			device.Close()
		}
	}
	if err != nil {
		b.lock.problem = fmt.Errorf("the TPM is of no use: %w", err)
		return
	}
	b.lock.tpm = device
}

// leaveStage1 has the TPM release no key from here on.
func (b *boot) leaveStage1() {
	if b.lock.tpm == nil {
		return
	}
	if err := tpm.Measure(b.lock.tpm, measure.LeaveInitrd); err != nil {
		b.notice(err.Error())
	}
	b.lock.tpm.Close()
	b.lock.tpm = nil
}

// unlock opens the volume by the TPM, or else by the recovery key.
func (b *boot) unlock(f *os.File, header *luks.Header, device string) error {
	volumeKey, err := b.tpmKey(f, header)
	if err == nil {
		b.info.StateKey = bootinfo.ByTPM
		return b.mapState(openVolume{device, header, volumeKey})
	}
	b.notice("the state partition does not open by itself: " + err.Error())
	volumeKey, askErr := b.askKey(f, header)
	if askErr != nil {
		return fmt.Errorf("it is encrypted and stays closed, since %w; restart the machine and type the recovery key on its console", askErr)
	}
	b.info.StateKey = bootinfo.ByRecoveryKey
	if err := b.seal(f, header, volumeKey); err != nil {
		b.notice("the next boot asks for the recovery key again: " + err.Error())
	} else {
		b.notice("the state partition was opened with its recovery key and is sealed to this machine's TPM again")
	}
	return b.mapState(openVolume{device, header, volumeKey})
}

// openByTPM opens the state partition of a disk, if the TPM has its key, for a
// boot that ends before openState.
func (b *boot) openByTPM(disk partition.Disk) {
	part, ok := partition.State(disk)
	if !ok || b.lock.open != nil || b.info.Live != "" || b.loader == nil {
		return
	}
	f, err := os.OpenFile(part.Device, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	header, err := luks.Read(f)
	if err != nil {
		return
	}
	if b.lock.tpm == nil {
		b.openTPM()
	}
	volumeKey, err := b.tpmKey(f, header)
	if err == nil {
		err = b.mapState(openVolume{part.Device, header, volumeKey})
	}
	if err != nil {
		b.notice("the state partition stays closed: " + err.Error())
	}
}

// mapState makes the device of the opened volume.
func (b *boot) mapState(v openVolume) error {
	// The kernel would ask modprobe for the cipher. Processors without AES
	// instructions do without the last.
	if err := errors.Join(b.loader.Load("dm-crypt"), b.loader.Load("xts")); err != nil {
		return err
	}
	_ = b.loader.Load("aesni-intel")
	f, err := os.Open(v.device)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("size of %s: %w", v.device, err)
	}
	target, err := v.header.Target(stateName, v.device, size, v.volumeKey)
	if err != nil {
		return err
	}
	device, err := devicemapper.Create(target)
	if err != nil {
		return fmt.Errorf("open LUKS volume on %s: %w", v.device, err)
	}
	link := "/dev/mapper/" + stateName
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	b.lock.open = &v
	return os.Symlink("../"+device, link)
}

// growOpen has the opened volume fill its partition, which was enlarged.
func (b *boot) growOpen() error {
	if b.lock.open == nil {
		return nil
	}
	if err := devicemapper.Remove(stateName); err != nil {
		return err
	}
	return b.mapState(*b.lock.open)
}

// stateDevice is the device of the state file system of a disk. A fresh one is
// encrypted first, if that was asked for.
func (b *boot) stateDevice(ctx context.Context, partition string) (string, error) {
	if b.lock.fresh {
		if err := b.encryptState(ctx, partition); err != nil {
			return "", fmt.Errorf("it is to be encrypted, and is not: %w", err)
		}
	}
	if b.lock.closed != nil {
		return "", b.lock.closed
	}
	return b.opened(partition), nil
}

// opened is the device to mount for the state partition of a disk.
func (b *boot) opened(partition string) string {
	if b.lock.open != nil && b.lock.open.device == partition {
		return "/dev/mapper/" + stateName
	}
	return partition
}

// encryptState makes a volume and its file system. The recovery key is shown
// last but for the label, so a machine that loses power before begins anew.
func (b *boot) encryptState(ctx context.Context, device string) error {
	secret, t, err := b.newSecret(tpmSlot)
	if err != nil {
		return err
	}
	recovery, err := luks.NewRecoveryKey()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	header, volumeKey, err := luks.Format(f, luks.Options{Label: labelNew, SectorSize: 4096}, secret, []byte(recovery))
	if err != nil {
		return err
	}
	if err := b.mapState(openVolume{device, header, volumeKey}); err != nil {
		return err
	}
	if err := state.Format(ctx, b.opened(device), sysroot, labelState); err != nil {
		return err
	}
	header.Label = labelState
	header.Tokens["0"] = t
	header.Tokens["1"] = json.RawMessage(fmt.Sprintf(`{"type":"systemd-recovery","keyslots":["%d"]}`, recoverySlot))
	showKey(recovery)
	b.info.StateKey = bootinfo.ByTPM
	return header.Write(f)
}
