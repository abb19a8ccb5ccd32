// Package cryptenroll is systemd-cryptenroll on this machine: it shows the key
// slots of an encrypted volume, gives it another recovery key and takes keys
// away, for an owner who has lost a key or no longer trusts who knows it.
//
// It needs no key: while a volume is open, the kernel has the volume key and
// shows it to root. Left out on purpose: the TPM, to which stage 1 seals the
// state partition itself as soon as its recovery key was typed (only stage 1
// may: what runs later cannot open what is sealed), and passwords, PKCS #11 and
// FIDO2, which cryptsetup on any computer adds.
package cryptenroll

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/initrd/devicemapper"
	"github.com/coracle-os/coracle/initrd/luks"
	"github.com/coracle-os/coracle/rootfs/program"
)

// Name is the program's.
const Name = "systemd-cryptenroll"

const usage = `Usage: systemd-cryptenroll [DEVICE]                    lists the key slots
       systemd-cryptenroll --recovery-key [DEVICE]     adds a recovery key and shows it, once
       systemd-cryptenroll --wipe-slot=SLOT,... [DEVICE]
DEVICE is the partition of an open LUKS2 volume; without it, that of /var. SLOT is a number, or
"recovery" for all recovery keys; with --recovery-key all but the new one.
`

var errUsage = errors.New("usage")

// kinds are the words of the list for the types of tokens.
var kinds = map[string]string{"": "password", "coracle-tpm2": "tpm2", "systemd-tpm2": "tpm2", luks.RecoveryToken: "recovery"}

// request is a command line.
type request struct {
	device   string
	recovery bool
	wipe     []string
}

func parse(args []string, stdio program.Stdio) (r request, err error) {
	f := flag.NewFlagSet(Name, flag.ContinueOnError)
	f.SetOutput(stdio.Err)
	f.Usage = func() { fmt.Fprint(stdio.Err, usage) }
	f.BoolVar(&r.recovery, "recovery-key", false, "")
	f.Func("wipe-slot", "", func(s string) error {
		r.wipe = append(r.wipe, strings.Split(s, ",")...)
		return nil
	})
	f.Func("tpm2-device", "", func(string) error {
		return errors.New("the state partition is sealed to the TPM by itself, at the start at which its recovery key is typed")
	})
	for len(args) > 0 {
		if err := f.Parse(args); err != nil {
			return r, err
		}
		if args = f.Args(); len(args) > 0 {
			if r.device != "" {
				fmt.Fprintf(stdio.Err, "%s: one device, not %q and %q\n", Name, r.device, args[0])
				return r, errUsage
			}
			r.device, args = args[0], args[1:]
		}
	}
	return r, nil
}

// Main runs systemd-cryptenroll.
func Main(_ context.Context, args []string, stdio program.Stdio) int {
	r, err := parse(args[1:], stdio)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case os.Geteuid() != 0:
		err = errors.New("this needs root's rights: use sudo")
	default:
		err = run(r, machine{sys: "/sys", dev: "/dev", params: devicemapper.Params}, stdio)
	}
	if err != nil {
		fmt.Fprintf(stdio.Err, "%s: %v\n", Name, err)
		return 1
	}
	return 0
}

func run(r request, m machine, stdio program.Stdio) error {
	if r.device == "" {
		var err error
		if r.device, err = m.state(); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(r.device, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open volume: %w", err)
	}
	defer f.Close()
	// One at a time: each writes the whole header.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", r.device, err)
	}
	header, err := luks.Read(f)
	if err != nil {
		return fmt.Errorf("%s: %w", r.device, err)
	}
	if !r.recovery && len(r.wipe) == 0 {
		fmt.Fprintln(stdio.Out, "SLOT TYPE")
		for _, s := range header.Slots() {
			fmt.Fprintf(stdio.Out, "%4d %s\n", s.Number, kind(s))
		}
		return nil
	}
	wipe, err := chosen(header.Slots(), r)
	if err != nil {
		return err
	}
	if r.recovery {
		volumeKey, err := m.volumeKey(header, r.device)
		if err == nil {
			err = addRecovery(f, header, volumeKey, stdio)
		}
		if err != nil {
			return err
		}
	}
	for _, number := range wipe {
		if err := header.RemoveKey(f, number); err != nil {
			return err
		}
		fmt.Fprintf(stdio.Err, "Wiped slot %d.\n", number)
	}
	return nil
}

// addRecovery shows the key when it is good, and not before.
func addRecovery(f luks.File, header *luks.Header, volumeKey []byte, stdio program.Stdio) error {
	recovery, err := luks.NewRecoveryKey()
	if err != nil {
		return err
	}
	number, err := header.AddKey(f, luks.RecoveryToken, []byte(recovery), volumeKey)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdio.Err, "This is the recovery key in slot %d, which is shown only once; write it down:\n", number)
	if _, err := fmt.Fprintln(stdio.Out, recovery); err != nil {
		return errors.Join(fmt.Errorf("show the recovery key, which is taken away again: %w", err), header.RemoveKey(f, number))
	}
	return nil
}

func kind(s luks.Slot) string {
	if word, ok := kinds[s.Token]; ok {
		return word
	}
	return "other"
}

// chosen are the slots to wipe. Somebody must still get in: a TPM is lost with
// its machine.
func chosen(slots []luks.Slot, r request) ([]int, error) {
	var numbers []int
	for _, word := range r.wipe {
		found := false
		for _, s := range slots {
			if word == strconv.Itoa(s.Number) || word == "recovery" && kind(s) == word {
				found = true
				if !slices.Contains(numbers, s.Number) {
					numbers = append(numbers, s.Number)
				}
			}
		}
		if !found && word != "recovery" {
			return nil, fmt.Errorf("wipe slot %q: there is none; want a number of the list, or recovery", word)
		}
	}
	people := func(s luks.Slot) bool { return kind(s) != "tpm2" && !slices.Contains(numbers, s.Number) }
	if !r.recovery && len(numbers) > 0 && !slices.ContainsFunc(slots, people) {
		return nil, errors.New("wipe slot: no key would be left but the TPM's, and with it all would be lost; add --recovery-key")
	}
	return numbers, nil
}
