package qemutests

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/image/grub"
	"github.com/coracle-os/coracle/qemu-tests/machine"
	"github.com/coracle-os/coracle/tools/qemu"
	"github.com/coracle-os/coracle/tools/variant"
)

func legacy(c *qemu.Config) { c.BIOS = true }

// secondBoot is a check of health that fails in the first boot that asks it.
const secondBoot = `deadline: 5s
checks:
  - command: [/usr/bin/sh, -c, "read b < /proc/sys/kernel/random/boot_id; test -e /var/asked || echo $b > /var/asked; read a < /var/asked; test $a != $b"]
`

// TestBIOS takes a machine with a legacy BIOS through a good and through bad
// releases: what GRUB counts and refuses there is what systemd-boot and the
// firmware do on UEFI in TestUpdates. What else can be damaged is in TestGRUB.
func TestBIOS(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	m := machine.Boot(t, machine.Options{UserData: p.userData(), DiskSize: 6 << 30, Bus: "sata", Change: legacy})
	p.build(variant.Empty("0.2.0"))
	p.build(variant.Next("0.3.0"))
	f := &follower{m, p, t}
	f.runs("0.1.0", "A")
	f.lean()
	f.Run("! test -e /sys/firmware/efi")
	f.fails("0.2.0", "0.1.0", "A", "crashed or hung", "boot failed: switch root", 3)

	// One release has all sorts of luck: not healthy, a power cut, healthy.
	f.Run("sudo mkdir -p /etc/coracle/health.d && sudo tee /etc/coracle/health.d/second.yaml <<'END'\n" + secondBoot + "END")
	from := len(f.Console())
	f.offer("0.3.0")
	f.WaitConsole("health check failed.*rebooting", from, 8*time.Minute)
	from = len(f.Console())
	f.WaitConsole("starting version 0.3.0", from, 2*time.Minute)
	f.WaitConsole("Linux version", from, 2*time.Minute)
	m.PowerCut()
	f.runs("0.3.0", "B")
	if n := strings.Count(f.Console(), "starting version 0.3.0"); n < 3 {
		t.Errorf("GRUB started 0.3.0 %d times, want 3", n)
	}

	// The disk is moved to a machine with UEFI and back; meanwhile both copies of
	// the state are lost, and the good release is destroyed.
	m.Config.BIOS = false
	m.PowerCut()
	f.runs("0.3.0", "B")
	f.Run("test -e /sys/firmware/efi")
	m.Config.BIOS = true
	f.Run("sudo sh -c 'mount -t vfat /dev/sda2 /mnt && cd /mnt && rm coracle/boot-1.env && dd if=/dev/zero of=coracle/boot-2.env bs=512 count=1 conv=notrunc" +
		" && dd if=/dev/zero of=EFI/Linux/coracle-0.3.0.efi bs=4096 count=1 seek=1000 conv=notrunc && cd / && umount /mnt'")
	from = len(f.Console())
	m.PowerCut()
	f.WaitConsole("neither copy of the boot state can be read", from, time.Minute)
	f.WaitConsole("version 0.3.0 is damaged", from, time.Minute)
	f.WaitConsole("starting version 0.1.0", from, time.Minute)
	f.runs("0.1.0", "A")
}

// TestGRUB damages what GRUB reads, one thing at a time, on a disk with a good
// release and one on trial: another release starts by itself, or the machine
// restarts; it never waits for somebody.
func TestGRUB(t *testing.T) {
	t.Parallel()
	disk := twoReleases(t)
	for _, c := range []struct {
		name   string
		damage func(disk string)
		want   []string // what the console says, one start after the other
	}{
		{"three tries", nil, []string{"starting version 0.2.0", "starting version 0.2.0", "starting version 0.2.0", "starting version 0.1.0"}},
		{"kernel", func(d string) { flipFile(t, d, "EFI/Linux/coracle-0.2.0+3-0.efi", 1<<20) }, []string{"version 0.2.0 is damaged[^\a]*starting version 0.1.0"}},
		{"initrd", func(d string) { flipFile(t, d, "EFI/Linux/coracle-0.2.0+3-0.efi", -1<<20) }, []string{"version 0.2.0 is damaged[^\a]*starting version 0.1.0"}},
		{"no UKI", func(d string) { onESP(t, d, "mdel", "::/EFI/Linux/coracle-0.2.0+3-0.efi") }, []string{"0.2.0 has no file[^\a]*starting version 0.1.0"}},
		{"configuration", func(d string) { flipFile(t, d, "coracle/0.2.0.cfg", 130) }, []string{"version 0.2.0 is damaged[^\a]*starting version 0.1.0"}},
		{"no configuration", func(d string) { onESP(t, d, "mdel", "::/coracle/0.2.0.cfg") }, []string{"version 0.2.0 is damaged[^\a]*starting version 0.1.0"}},
		{"sums", func(d string) { flipFile(t, d, "coracle/0.2.0.sum", 3) }, []string{"version 0.2.0 is damaged[^\a]*starting version 0.1.0"}},
		{"first state", func(d string) { flipFile(t, d, "coracle/boot-1.env", 3) }, []string{"starting version 0.2.0"}},
		{"both states", func(d string) {
			flipFile(t, d, "coracle/boot-1.env", 3)
			flipFile(t, d, "coracle/boot-2.env", 3)
		}, []string{"neither copy[^\a]*starting version 0.2.0"}},
		{"everything", func(d string) { onESP(t, d, "mdel", "::/EFI/Linux/*") }, []string{"no version on this disk can be started; restarting", "no version on this disk"}},
		{"no directory", func(d string) { onESP(t, d, "mdeltree", "::/coracle") }, []string{"no version on this disk can be started; restarting"}},
		{"ESP at another place", func(d string) { run(t, "sgdisk", "-r", "2:7", d) }, []string{"starting version 0.2.0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			damaged := disk
			if c.damage != nil {
				damaged = disk + "." + strings.ReplaceAll(c.name, " ", "-")
				t.Cleanup(func() { os.Remove(damaged) })
				run(t, "cp", "--sparse=always", "--reflink=auto", disk, damaged)
				c.damage(damaged)
			}
			m := machine.Boot(t, machine.Options{Change: func(q *qemu.Config) { q.BIOS, q.Image = true, damaged }})
			from := 0
			for i, want := range c.want {
				if i > 0 && !strings.Contains(want, "no version") {
					must(t, m.Reset())
				}
				m.WaitConsole(want, from, 2*time.Minute)
				from = len(m.Console())
			}
			m.Kill()
		})
	}
	// The disk that the firmware starts wins, not the first one.
	t.Run("two disks", func(t *testing.T) {
		plain := qemu.Drive{File: machine.Image(t), Format: "raw", ReadOnly: true, Boot: true}
		m := machine.Boot(t, machine.Options{Change: func(q *qemu.Config) { q.BIOS, q.Image, q.ExtraDrives = true, disk, []qemu.Drive{plain} }})
		m.WaitConsole("starting version 0.1.0", 0, 2*time.Minute)
		m.Kill()
	})
}

// twoReleases is a disk whose release has a second version beside it, on trial.
func twoReleases(t *testing.T) string {
	t.Helper()
	disk := diskCopy(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "uki")
	onESP(t, disk, "mcopy", "::/EFI/Linux/coracle-0.1.0.efi", file)
	content, err := os.ReadFile(file)
	must(t, err)
	files, err := grub.Describe("0.2.0", bytes.NewReader(content), int64(len(content)))
	must(t, err)
	state := grub.State{Generation: 2, Entries: []grub.Entry{
		{Version: "0.2.0", Release: "0", Given: 3, Left: 3}, {Version: "0.1.0", Release: "0", Good: true},
	}}.Encode()
	for name, content := range map[string][]byte{
		"EFI/Linux/coracle-0.2.0+3-0.efi": content, "coracle/0.2.0.cfg": files.Script, "coracle/0.2.0.sum": files.Sum,
		"coracle/boot-1.env": state, "coracle/boot-2.env": state,
	} {
		must(t, os.WriteFile(file, content, 0o644))
		onESP(t, disk, "mcopy", "-o", file, "::/"+name)
	}
	return disk
}

// flipFile inverts a byte of a file on the ESP; a negative offset is from its end.
func flipFile(t *testing.T, disk, name string, offset int64) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	onESP(t, disk, "mcopy", "::/"+name, file)
	if offset < 0 {
		info, err := os.Stat(file)
		must(t, err)
		offset += info.Size()
	}
	flip(t, file, offset)
	onESP(t, disk, "mcopy", "-o", file, "::/"+name)
}
