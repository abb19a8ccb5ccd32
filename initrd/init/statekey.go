package main

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/image/measure"
	"github.com/coracle-os/coracle/initrd/luks"
	"github.com/coracle-os/coracle/initrd/tpm"
)

// Where the EFI stub leaves sections of the UKI for the initrd (systemd-stub(7)).
const (
	pcrSignature = "/.extra/tpm2-pcr-signature.json"
	pcrKey       = "/.extra/tpm2-pcr-public-key.pem"
)

// tokenType is ours: systemd's tokens have no public key of this kind.
const tokenType = "coracle-tpm2"

// Waits for a recovery key.
const (
	askTime  = 90 * time.Second // since the question or the last key
	askTimes = 10
)

// token says in the header how the TPM opens a slot.
type token struct {
	Type    string   `json:"type"`
	Slots   []string `json:"keyslots"`
	Public  []byte   `json:"public"`
	Private []byte   `json:"private"`
	PCRs    []uint   `json:"pcrs"`
	Key     []byte   `json:"pubkey"` // PEM
}

// tpmKey gets the volume key by the TPM.
func (b *boot) tpmKey(f *os.File, header *luks.Header) ([]byte, error) {
	if b.lock.tpm == nil {
		return nil, b.lock.problem
	}
	name, _, err := header.Place(tokenType)
	if err != nil {
		return nil, err
	}
	var t token
	if err := json.Unmarshal(header.Tokens[name], &t); err != nil || t.Type != tokenType {
		return nil, errors.New("no TPM has a key for it")
	}
	key, err := measure.ParseKey(t.Key)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(pcrSignature)
	if err != nil {
		return nil, fmt.Errorf("this release has no signed measurements: %w", err)
	}
	signed, err := measure.ParseSignatures(text)
	if err != nil {
		return nil, err
	}
	secret, err := tpm.Unseal(b.lock.tpm, tpm.Blob{Public: t.Public, Private: t.Private, PCRs: t.PCRs}, key, signed)
	if err != nil {
		return nil, err
	}
	return header.Unlock(f, secret)
}

// seal gives the TPM a new key for its slot and writes the header. The slot is
// another one when the owner wiped it and gave it to a password.
func (b *boot) seal(f luks.File, header *luks.Header, volumeKey []byte) error {
	name, number, err := header.Place(tokenType)
	if err != nil {
		return err
	}
	secret, t, err := b.newSecret(number)
	if err != nil {
		return err
	}
	if err := header.SetKey(f, number, secret, volumeKey); err != nil {
		return err
	}
	header.Tokens[name] = t
	return header.Write(f)
}

// newSecret makes a key that the TPM keeps, and the token of its slot.
func (b *boot) newSecret(number int) (secret []byte, t json.RawMessage, err error) {
	if b.lock.tpm == nil {
		return nil, nil, b.lock.problem
	}
	text, err := os.ReadFile(pcrKey)
	if err != nil {
		return nil, nil, fmt.Errorf("this release is not signed for a TPM (coracle build -secure-boot does it): %w", err)
	}
	key, err := measure.ParseKey(text)
	if err != nil {
		return nil, nil, err
	}
	random := make([]byte, 32)
	if _, err := rand.Read(random); err != nil {
		return nil, nil, err
	}
	secret = []byte(hex.EncodeToString(random))
	pcrs := []uint{tpm.LinePCR}
	if secureBootEnforced() {
		pcrs = []uint{tpm.SecureBootPCR, tpm.LinePCR}
	}
	blob, err := tpm.Seal(b.lock.tpm, secret, key, pcrs...)
	if err != nil {
		return nil, nil, err
	}
	t, err = json.Marshal(token{tokenType, []string{fmt.Sprint(number)}, blob.Public, blob.Private, pcrs, text})
	return secret, t, err
}

// secureBootEnforced reads what the firmware told the kernel's EFI stub
// (Documentation/arch/x86/zero-page.rst; enum efi_secureboot_mode).
func secureBootEnforced() bool {
	const offset, enabled = 0x1ec, 3
	parameters, err := os.ReadFile("/sys/kernel/boot_params/data")
	return err == nil && len(parameters) > offset && parameters[offset] == enabled
}

// consoles are all that the kernel prints on.
func consoles() []*os.File {
	active, _ := os.ReadFile("/sys/class/tty/console/active")
	names := strings.Fields(string(active))
	if len(names) == 0 {
		names = []string{"console"}
	}
	var files []*os.File
	for _, name := range names {
		if name == "tty0" {
			name = "tty1"
		}
		if f, err := os.OpenFile(filepath.Join("/dev", name), os.O_RDWR|unix.O_NOCTTY, 0); err == nil {
			files = append(files, f)
		}
	}
	return files
}

// showKey prints the recovery key to the consoles only: the log is kept on the
// machine.
func showKey(recovery string) {
	for _, out := range consoles() {
		fmt.Fprintf(out, "\r\n*** coracle: the state partition is encrypted now. This is its recovery key, which is shown only once; write it down:\r\n*** %s\r\n", recovery)
		out.Close()
	}
}

// askKey asks for the recovery key on all consoles.
func (b *boot) askKey(f *os.File, header *luks.Header) ([]byte, error) {
	typed, over := make(chan string), make(chan struct{})
	defer close(over)
	outs := consoles()
	if len(outs) == 0 {
		return nil, errors.New("there is no console to type the recovery key on")
	}
	for _, console := range outs {
		defer console.Close()
		defer hide(console)()
		go func() {
			for lines := bufio.NewScanner(console); lines.Scan(); {
				select {
				case typed <- lines.Text():
				case <-over:
					return
				}
			}
		}()
	}
	say := func(text string) {
		for _, out := range outs {
			fmt.Fprintf(out, "\r\n*** coracle: %s\r\n", text)
		}
	}
	say(fmt.Sprintf("type the recovery key of the state partition, eight groups of eight letters, which are not shown; "+
		"without it the machine goes on after %d s with an empty /var in memory, and asks again at its next start", askTime/time.Second))
	for range askTimes {
		select {
		case <-time.After(askTime):
			return nil, errors.New("nobody typed the recovery key")
		case line := <-typed:
			volumeKey, err := header.Unlock(f, []byte(luks.RecoveryKey(line)))
			if err == nil {
				say("that is the key")
				return volumeKey, nil
			}
			say(err.Error() + ": try again")
		}
	}
	return nil, errors.New("none of the keys that were typed opens it")
}

// hide has a console not show what is typed; what it returns takes that back.
func hide(console *os.File) (show func()) {
	var before unix.Termios
	set := func(change func(t *unix.Termios)) {
		c, err := console.SyscallConn()
		if err != nil {
			return
		}
		_ = c.Control(func(fd uintptr) {
			if now, err := unix.IoctlGetTermios(int(fd), unix.TCGETS); err == nil {
				before = *now
				change(now)
				_ = unix.IoctlSetTermios(int(fd), unix.TCSETS, now)
			}
		})
	}
	set(func(t *unix.Termios) { t.Lflag = t.Lflag&^unix.ECHO | unix.ICANON })
	was := before
	return func() { set(func(t *unix.Termios) { *t = was }) }
}
