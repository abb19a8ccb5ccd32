package qemutests

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/image/efisign"
	"github.com/coracle-os/coracle/image/measure"
	"github.com/coracle-os/coracle/image/recipe"
	"github.com/coracle-os/coracle/image/secureboot"
	"github.com/coracle-os/coracle/image/uki"
	"github.com/coracle-os/coracle/qemu-tests/machine"
	"github.com/coracle-os/coracle/tools/qemu"
	"github.com/coracle-os/coracle/tools/variant"
)

// sealed is a machine with Secure Boot, a TPM and an encrypted state.
type sealed struct {
	*follower
	uki     string   // of 0.1.0
	refused []string // entries that are older than its first boot
	keys    secureboot.Store
}

// build builds a release and keeps what was built.
func (s *sealed) build(v variant.Variant) {
	s.follower.t.Helper()
	source, err := filepath.Abs("..")
	must(s.follower.t, err)
	must(s.follower.t, v.Build(s.follower.t.Context(), source, filepath.Dir(machine.Image(s.follower.t)), filepath.Join(s.dir, v.Version)))
}

// TestSecureBoot takes a machine in setup mode, whose clock is behind the expiry
// of its keys, through its first boot, another TPM, a damaged boot loader, an
// update and two ways back, all with its state; programs that were changed do not
// start, or get nothing.
func TestSecureBoot(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	keys := secureboot.Store{Dir: filepath.Join(t.TempDir(), "keys"), Now: time.Now, Valid: 24 * time.Hour}
	must(t, keys.Create())
	release := func(version string) variant.Variant {
		return variant.Variant{Version: version, Change: func(r *recipe.Recipe) {
			r.SecureBoot = recipe.SecureBoot{Keys: keys.Dir, Encrypt: "tpm2"}
		}}
	}
	s := firstRelease(p, release("0.1.0"))
	s.keys = keys
	s.build(release("0.2.0"))
	p.publish(filepath.Join(p.dir, "0.2.0"), "built-0-2-0")
	s.enrolled()
	s.otherSystem()
	recovery := s.encrypted()
	s.opened(recovery)
	s.updated()
	s.damaged()
	s.revoked()
	s.attacked()
}

// firstRelease boots a release on a disk that has another system's ESP too, of
// the same name, and entries that the firmware must refuse.
func firstRelease(p *publisher, v variant.Variant) *sealed {
	t := p.t
	t.Helper()
	v.Disk = true
	s := &sealed{follower: &follower{publisher: p, t: t}}
	s.build(v)
	dir := filepath.Join(p.dir, v.Version)
	raw := filepath.Join(dir, "coracle.raw")
	s.uki = filepath.Join(dir, "coracle.efi")
	s.refused = badEntries(t, raw, s.uki, filepath.Join(filepath.Dir(machine.Image(t)), "coracle.efi"))
	run(t, "sgdisk", "-a", "1", "-n", "9:64:2047", "-t", "9:ef00", "-c", "9:ESP", raw)
	run(t, "mkfs.vfat", "-F", "12", "--offset", "64", "-n", "ESP", raw, "992")
	run(t, "mmd", "-i", raw+"@@32768", "::/EFI", "::/EFI/other")
	run(t, "mcopy", "-i", raw+"@@32768", filepath.Join(dir, "manifest.json"), "::/EFI/other/loader.efi")
	s.Machine = machine.Boot(t, machine.Options{UserData: p.userData(), DiskSize: 6 << 30, Change: func(c *qemu.Config) {
		c.Image, c.SecureBoot, c.TPM = raw, true, true
		c.ExtraArgs = append(c.ExtraArgs, "-rtc", "base="+time.Now().Add(72*time.Hour).UTC().Format("2006-01-02T15:04:05"))
	}})
	return s
}

// enrolled checks the first boot: the keys are enrolled, what does not fit them
// is refused, and the entry that does is in lockdown.
func (s *sealed) enrolled() {
	t, m := s.follower.t, s.Machine
	m.WaitConsole("Linux version", 0, 6*time.Minute) // after six starts
	m.Dial("core")
	console := m.Console()
	for _, want := range []string{"keys successfully enrolled", "UEFI Secure Boot is enabled", "Kernel is locked down from EFI Secure Boot", "Linux version"} {
		if n := strings.Count(console, want); n != 1 {
			t.Errorf("the console shows %q %d times, want once", want, n)
		}
	}
	entries := m.Run("sudo sh -c 'mount -t vfat /dev/vda2 /mnt && ls /mnt/EFI/Linux && rm /mnt/EFI/Linux/coracle-9* && umount /mnt'")
	for i, name := range s.refused {
		started := 1
		if i < len(damages) && damages[i] == "header" {
			started = 0 // it is no entry
		}
		if n := len(regexp.MustCompile(`Error loading [^\n]*`+name+`[^\n]*(Access denied|Security violation)`).FindAllString(console, -1)); n != started {
			t.Errorf("%s was refused %d times, want %d", name, n, started)
		}
		if want := fmt.Sprintf("%s+%d-%d.efi", name, 1-started, started); !strings.Contains(entries, want) {
			t.Errorf("the ESP holds %q, want %s", entries, want)
		}
	}
	// Who has the partition mounted read-only keeps the boot loader from its update.
	m.Eventually(secondEntry, "second copy", 3*time.Minute)
	s.enforced()
	m.Eventually("systemctl is-system-running", "running", 2*time.Minute)
	m.Run("sudo modprobe wireguard && docker info")
}

func (s *sealed) enforced() {
	s.follower.t.Helper()
	if got := s.Run("hostnamectl"); !regexp.MustCompile(`Secure Boot: enabled, kernel lockdown: integrity\n\s*TPM: version 2`).MatchString(got) {
		s.follower.t.Errorf("hostnamectl: %s", got)
	}
}

// otherSystem checks that the other system's ESP is as it was.
func (s *sealed) otherSystem() {
	s.follower.t.Helper()
	if got := s.Run("sudo sh -c 'mount -t vfat /dev/vda9 /mnt && find /mnt -type f && umount /mnt'"); got != "/mnt/EFI/other/loader.efi" {
		s.follower.t.Errorf("another system's ESP holds %q", got)
	}
}

// encrypted checks the state after the first boot, and returns the recovery key
// that replaces the first.
func (s *sealed) encrypted() (recovery string) {
	t, m := s.follower.t, s.Machine
	first := m.WaitConsole(`its recovery key, .*\n\*\*\* ([cbdefghijklnrtuv]{8}(-[cbdefghijklnrtuv]{8}){7})\n`, 0, machine.BootTimeout)[1]
	s.sealed("tpm2", "")
	s.measured(s.uki)
	if got := m.Run("sudo head -c 16384 /dev/vda8; sudo systemctl status"); !strings.Contains(got, `"pcrs":[7,12]`) ||
		!regexp.MustCompile(`TPM: version 2\n *Encryption: state partition, opened by the TPM`).MatchString(got) {
		t.Errorf("the key is not sealed to Secure Boot, or systemctl status does not tell of it: %s", got)
	}
	m.Run("echo kept | sudo tee /var/kept && sync")
	recovery = m.Run("sudo systemd-cryptenroll --wipe-slot=recovery --recovery-key 2> /dev/null")
	if got := m.Run("sudo systemd-cryptenroll"); got != "SLOT TYPE\n   0 tpm2\n   2 recovery" {
		t.Errorf("after a new recovery key the slots are %q", got)
	}
	log := m.Run("sudo journalctl -b --no-pager; sudo dmesg; cat /run/coracle/boot.json")
	for _, secret := range []string{first, recovery} {
		if strings.Contains(log, secret) {
			t.Error("a recovery key is in the log")
		}
	}

	m.Run("sudo sh -c 'mount -t vfat /dev/vda2 /mnt && dd if=/dev/urandom of=/mnt/EFI/BOOT/BOOTX64.EFI bs=1 count=8 seek=40000 conv=notrunc && umount /mnt && " + flush + "'")
	m.Kill()
	must(t, os.RemoveAll(filepath.Join(m.Dir, "tpm")))
	run(t, "qemu-img", "resize", filepath.Join(m.Dir, "disk.qcow2"), "8G") // the open volume grows too
	from := len(m.Console())
	m.PowerCut()
	m.WaitConsole(`type the recovery key of the state partition`, from, machine.BootTimeout)
	m.Type(first + "\n" + strings.ToUpper(recovery) + "\n")
	m.WaitConsole(`the key does not open the volume: try again`, from, time.Minute)
	return recovery
}

// opened checks the machine whose TPM is another one, and whose boot loader the
// firmware has refused.
func (s *sealed) opened(recovery string) {
	t, m := s.follower.t, s.Machine
	from := len(m.Console())
	s.sealed("recovery key", "kept")
	if kib, err := strconv.Atoi(m.Run("df -k /var | tail -1 | awk '{print $2}'")); err != nil || kib < 4<<20 {
		t.Errorf("/var has %d KiB after the disk grew from 6 to 8 GiB (%v)", kib, err)
	}
	m.Eventually("sudo journalctl -b -u coracle-health --no-pager", "first copy cannot be read", machine.BootTimeout)
	if got := m.Run(bothLoaders); got != "both" {
		t.Errorf("the copies of the boot loader: %s", got)
	}
	s.enforced()
	for _, never := range []string{recovery, strings.ToUpper(recovery)} {
		if strings.Contains(m.Console()[from:], never) {
			t.Error("the console shows the recovery key that was typed")
		}
	}
}

// Bad luck with the room on the ESP.
const (
	fillESP  = "sudo sh -c 'mount -t vfat /dev/vda2 /mnt; dd if=/dev/zero of=/mnt/fill bs=1M count=$(($(df -m /mnt | tail -1 | awk \"{print \\$4}\") - 10)); umount /mnt'"
	makeRoom = "sudo sh -c 'mount -t vfat /dev/vda2 /mnt && ls /mnt/EFI/Linux && rm /mnt/fill && umount /mnt'; test $(sudo head -c 1048576 /dev/vda5 | tr -d '\\000' | wc -c) = 0 && echo empty"
)

// updated takes the machine to 0.2.0, once there is room for it, and back.
func (s *sealed) updated() {
	t, m := s.follower.t, s.Machine
	from := len(m.Console())
	s.runs("0.1.0", "A")
	m.Run(fillESP)
	s.offer("0.2.0")
	m.Eventually("updatectl status", "the EFI system partition is full", 2*time.Minute)
	if got := m.Run(makeRoom); got != "coracle-0.1.0.efi\nempty" {
		t.Errorf("an update without room on the ESP has changed something: %s", got)
	}
	s.runs("0.2.0", "B")
	s.sealed("tpm2", "kept")
	m.Run("sudo updatectl rollback")
	s.runs("0.1.0", "A")
	// What is gone back to is on trial, too; power cuts would use up its tries.
	m.Eventually("updatectl history | grep 'good *0.1.0'", "0.1.0", 3*time.Minute)
	s.sealed("tpm2", "kept")
	if strings.Contains(m.Console()[from:], "type the recovery key") {
		t.Error("the machine asks for the recovery key at an update")
	}
}

// flush writes everything, and has the disk write what it keeps, which neither
// umount nor sync of a FAT asks it to: a power cut may lose it.
const flush = "sync && sync -d /dev/vda2"

// onTrial gives 0.2.0 one try.
const onTrial = "sudo sh -c 'mount -t vfat /dev/vda2 /mnt && mv /mnt/EFI/Linux/coracle-0.2.0* /mnt/EFI/Linux/coracle-0.2.0+1-0.efi && umount /mnt && " + flush + "'"

// damaged has changed bytes in the root, and then at the top of its hash tree, of
// a release with one try left.
func (s *sealed) damaged() {
	m := s.Machine
	for _, d := range []struct{ at, console string }{
		{"/dev/vda5 bs=1 seek=1024", `verity: .*: data block \d+ is corrupted`},
		{"/dev/vda6 bs=1 seek=4096", `boot failed: verity: .*the hash tree does not belong to the root hash`},
	} {
		m.Run("printf xxxxxxxx | sudo dd conv=notrunc of=" + d.at)
		m.Run(onTrial)
		from := len(m.Console())
		m.PowerCut()
		m.WaitConsole(d.console, from, machine.BootTimeout)
		s.sealed("tpm2", "kept")
	}
	s.otherSystem()
}

// revoked has the owner revoke 0.2.0, which the firmware then refuses. The list
// of what is revoked is measured: without the recovery key the machine comes up,
// and its owner can log in, without the state.
func (s *sealed) revoked() {
	t, m := s.follower.t, s.Machine
	program, err := os.Open(filepath.Join(s.dir, "0.2.0", "coracle.efi"))
	must(t, err)
	defer program.Close()
	digest, err := efisign.Digest(program)
	must(t, err)
	if n, err := s.keys.Revoke(digest); n != 1 || err != nil {
		t.Fatalf("%d digests were revoked: %v", n, err)
	}
	auth, err := os.ReadFile(filepath.Join(s.keys.Dir, "dbx.auth"))
	must(t, err)
	const dbx = "/sys/firmware/efi/efivars/dbx-d719b2cb-3d3a-4596-a3bc-dad00e67656f"
	m.Run("cd /tmp && echo " + base64.StdEncoding.EncodeToString(auth) + " | base64 -d > dbx.auth && (printf '\\047\\0\\0\\0'; cat dbx.auth) > dbx && " +
		"{ sudo chattr -i " + dbx + "; sudo sh -c 'cat dbx > " + dbx + "'; }")
	m.Run(onTrial)
	from := len(m.Console())
	m.PowerCut()
	m.WaitConsole(`Error loading [^\n]*coracle-0.2.0[^\n]*(Access denied|Security violation)`, from, machine.BootTimeout)
	m.WaitConsole(`Linux version[^\a]*type the recovery key of the state partition`, from, machine.BootTimeout)
	if got := m.Run("grep ' /var ' /proc/mounts"); !strings.HasPrefix(got, "tmpfs") {
		t.Errorf("without the recovery key /var is %q", got)
	}
}

// attacked is a machine whose Secure Boot an attacker has switched off for a UKI
// with another command line: the firmware forgets its keys, and those on the ESP,
// which it would enrol again, are removed.
func (s *sealed) attacked() {
	t, m := s.follower.t, s.Machine
	content, err := os.ReadFile(s.uki)
	must(t, err)
	at := bytes.Index(content, []byte("loglevel=6")) + len("loglevel=")
	m.Run(fmt.Sprintf("sudo sh -c 'mount -t vfat /dev/vda2 /mnt && cd /mnt/EFI/Linux && mv coracle-0.1.0* coracle-8.0.0.efi && "+
		"printf 7 | dd of=coracle-8.0.0.efi bs=1 seek=%d conv=notrunc && rm -r ../../loader/keys && cd / && umount /mnt && "+flush+"'", at))
	m.Kill()
	must(t, os.Remove(filepath.Join(m.Dir, "vars.fd")))
	m.SecureBoot, m.Firmware = false, qemu.Firmware{}
	from := len(m.Console())
	m.PowerCut()
	m.WaitConsole(`Kernel command line: [^\n]* loglevel=7[^\a]*does not open by itself: .*no signature for policy`, from, machine.BootTimeout)
	m.WaitConsole(`type the recovery key of the state partition`, from, time.Minute)
}

// sealed checks that /var is the encrypted state partition, what opened it and
// what it holds.
func (f *follower) sealed(by, holds string) {
	f.t.Helper()
	got := f.Run("grep ' /var ' /proc/mounts; cat /run/coracle/boot.json; sudo head -c 4 /dev/vda8; cat /var/kept || true")
	if !strings.Contains(got, "/dev/mapper/state /var ext4") || !strings.Contains(got, fmt.Sprintf("\"stateKey\": %q", by)) ||
		!strings.HasSuffix(got, "LUKS"+holds) {
		f.t.Errorf("the state is not encrypted, opened by %s and holds %q: %s", by, holds, got)
	}
}

// measured compares PCR 11 with what the UKI's sections and stage 1 give.
func (f *follower) measured(file string) {
	f.t.Helper()
	program, err := os.Open(file)
	must(f.t, err)
	defer program.Close()
	image, err := uki.Read(program)
	must(f.t, err)
	value, err := measure.UKI(image)
	must(f.t, err)
	want := value.Running()
	if got := f.Run("cat /sys/class/tpm/tpm0/pcr-sha256/11"); !strings.EqualFold(got, hex.EncodeToString(want[:])) {
		f.t.Errorf("PCR 11 is %s, want %x", got, want)
	}
}
