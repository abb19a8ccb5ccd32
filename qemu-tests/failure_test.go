package qemutests

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/qemu-tests/machine"
	"github.com/coracle-os/coracle/tools/qemu"
	"github.com/erofs/go-erofs"
)

const keyOnly = "#cloud-config\nssh_authorized_keys:\n  - $KEY\n"

func image(path string) func(*qemu.Config) { return func(c *qemu.Config) { c.Image = path } }

// TestFlippedByte damages a program that nothing runs during a boot, and then
// reads it: the block is not served, the machine restarts.
func TestFlippedByte(t *testing.T) {
	t.Parallel()
	disk := diskCopy(t)
	flip(t, disk, offsetInRoot(t, disk, "usr/bin/docker"))
	m := machine.Boot(t, machine.Options{UserData: keyOnly, Change: func(c *qemu.Config) { c.Image, c.BIOS = disk, true }})
	m.Dial("core")
	from := len(m.Console())
	// In the background: the restart takes the connection with it.
	m.Run("sudo sh -c 'sleep 1; cat /usr/bin/docker > /dev/null && echo damage served > /dev/kmsg' > /dev/null 2>&1 &")
	m.WaitConsole(`Linux version`, from, 2*time.Minute)
	console := m.Console()[from:]
	if !strings.Contains(console, "verity") {
		t.Errorf("the console does not say why the machine restarted:\n%s", console)
	}
	if strings.Contains(console, "damage served") {
		t.Error("a damaged block was served")
	}
}

// offsetInRoot returns where on the disk the middle of a file of root-A lies.
func offsetInRoot(t *testing.T, disk, path string) int64 {
	t.Helper()
	f, err := os.Open(disk)
	must(t, err)
	defer f.Close()
	p := findPartition(t, disk, "root-A")
	section := io.NewSectionReader(f, p.Start*512, p.Size*512)
	root, err := erofs.Open(section)
	must(t, err)
	content, err := fs.ReadFile(root, path)
	must(t, err)
	const block = 4096
	middle := content[len(content)/2/block*block:][:block]
	buffer := make([]byte, block)
	for at := int64(0); at < section.Size(); at += block {
		if _, err := section.ReadAt(buffer, at); err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(buffer, middle) {
			return p.Start*512 + at + 100
		}
	}
	t.Fatalf("%s is not in the root as whole blocks", path)
	return 0
}

// TestMissingVerity boots a disk without its hash tree under a counted entry:
// stage 1 names the cause and restarts, and the boot loader counts the tries.
func TestMissingVerity(t *testing.T) {
	t.Parallel()
	disk := diskCopy(t)
	run(t, "sgdisk", "-d", fmt.Sprint(findPartition(t, disk, "root-A-verity").Number), disk)
	list := strings.Fields(onESP(t, disk, "mdir", "-b", "::/EFI/Linux"))
	if len(list) != 1 {
		t.Fatalf("the ESP holds %q, want one UKI", list)
	}
	name := strings.TrimSuffix(filepath.Base(list[0]), ".efi")
	onESP(t, disk, "mren", "::/EFI/Linux/"+name+".efi", name+"+3-0.efi")
	overlay := ""
	m := machine.Boot(t, machine.Options{UserData: keyOnly, Change: func(c *qemu.Config) {
		c.Image, overlay = disk, filepath.Join(c.Dir, "disk.qcow2")
	}})
	m.WaitConsole(`verity`, 0, 2*time.Minute)
	m.WaitConsole(`(?i)(reboot|restart)\w* in 10`, 0, 2*time.Minute)
	from := len(m.Console())
	m.WaitConsole(`Linux version`, from, 2*time.Minute)
	m.Kill()
	after := disk + ".after"
	t.Cleanup(func() { os.Remove(after) })
	run(t, "qemu-img", "convert", "-O", "raw", overlay, after)
	if got := onESP(t, after, "mdir", "-b", "::/EFI/Linux"); !strings.Contains(got, name+"+1-2.efi") {
		t.Errorf("after two tries the ESP holds %q, want %s+1-2.efi", got, name)
	}
}

// TestNoState boots a disk without a state partition: it comes up on memory,
// says so, and lets its owner in, whose key is on a NoCloud disk.
func TestNoState(t *testing.T) {
	t.Parallel()
	disk := diskCopy(t)
	run(t, "sgdisk", "-d", fmt.Sprint(findPartition(t, disk, "state").Number), disk)
	var seed qemu.Drive
	m := machine.Boot(t, machine.Options{
		WithKey: func(key string) {
			seed = noCloud(t, "#cloud-config\nhostname: seed\n", "local-hostname: other\npublic-keys: ["+key+"]\n")
		},
		Change: func(c *qemu.Config) { c.Image, c.ExtraDrives = disk, []qemu.Drive{seed} },
	})
	if got := m.Run("hostname"); got != "seed" {
		t.Errorf("hostname %q, want that of the NoCloud disk's user-data", got)
	}
	if got := m.Run("cat /run/coracle/boot.json"); !regexp.MustCompile(`"volatileState":\s*true`).MatchString(got) {
		t.Errorf("boot.json: %s", got)
	}
	if !regexp.MustCompile(`(?i)state partition`).MatchString(m.Console()) {
		t.Error("the console does not name the missing state partition")
	}
}

// TestTruncated boots a disk that ends inside the root partition.
func TestTruncated(t *testing.T) {
	t.Parallel()
	disk := diskCopy(t)
	root := findPartition(t, disk, "root-A")
	must(t, os.Truncate(disk, (root.Start+root.Size/16)*512))
	m := machine.Boot(t, machine.Options{UserData: keyOnly, Change: image(disk)})
	m.WaitConsole(`(?i)(truncated|ends|beyond|smaller|short)`, 0, 2*time.Minute)
	m.WaitConsole(`(?i)(reboot|restart)\w* in 10`, 0, 2*time.Minute)
}

// TestAlone boots without DHCP, config drive or user-data on a disk bus that
// is not virtio: the console still lets its owner in.
func TestAlone(t *testing.T) {
	t.Parallel()
	m := machine.Boot(t, machine.Options{NoNetwork: true, Bus: "nvme", KernelArgs: "coracle.autologin"})
	m.WaitConsole(`core@localhost\S* ~ \$`, 0, machine.BootTimeout)
	from := len(m.Console())
	m.Type("test -d /etc/systemd/system && until journalctl -u systemd-networkd --no-pager | grep -i 'no dhcp'; do sleep 1; done && echo end-$((1+1))\n")
	m.WaitConsole(`end-2`, from, 2*time.Minute)
	m.WaitConsole(`Reached target Multi-User System`, 0, 2*time.Minute)
	must(t, m.PowerButton())
	m.WaitEnd(90 * time.Second)
}

// badUserData is wrong in the ways that users get it wrong.
const badUserData = `#cloud-config
hostname: [not, a, name]
colour: blue
ssh_authorized_keys:
  - $KEY
write_files:
  - path: /etc/good
    content: good
  - path: /etc/bad
    encoding: base64
    content: "%%%"
coreos:
  units:
    - name: fine.service
      command: start
      content: |
        [Service]
        Type=oneshot
        RemainAfterExit=yes
        ExecStart=/bin/true
    - name: odd.service
      command: dance
`

// TestBadUserData takes its document from a URL on the kernel command line, on
// a SATA disk and as a machine of EC2 whose metadata comes before it, fills the state partition and reboots.
func TestBadUserData(t *testing.T) {
	t.Parallel()
	document := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, document) }))
	defer server.Close()
	url := strings.Replace(server.URL, "127.0.0.1", "10.0.2.2", 1)
	cloud := ec2(t, map[string]string{
		"user-data": publicAddress, "meta-data/hostname": "cloud", "meta-data/public-ipv4": "203.0.113.25", "meta-data/local-ipv4": "10.0.0.5",
	})
	m := machine.Boot(t, machine.Options{Bus: "sata", KernelArgs: "cloud-config-url=" + url + "/user-data", Change: cloud})
	document = strings.ReplaceAll(badUserData, "$KEY", m.AuthorizedKey())
	m.Dial("core")
	m.Eventually("systemctl is-active fine.service", "active", time.Minute)
	if got := m.Run("cat /etc/good; ls /etc/bad 2>&1 || true"); !strings.HasPrefix(got, "good") {
		t.Errorf("the valid file is not there: %q", got)
	}
	if got := m.Run("cat /etc/public /etc/hostname"); got != "203.0.113.25 10.0.0.5cloud" {
		t.Errorf("of EC2's metadata the machine has %q", got)
	}
	for _, want := range []string{`line 2\b.*hostname`, `line 3\b.*colour`, `line 1[01]\b.*content`, `command`} {
		for where, text := range map[string]string{"console": m.Console(), "journal": m.Run("journalctl -u coreos-cloudinit --no-pager")} {
			if !regexp.MustCompile(want).MatchString(text) {
				t.Errorf("the %s has no message like %q", where, want)
			}
		}
	}

	m.Exec("core", "sudo sh -c 'dd if=/dev/zero of=/var/fill bs=1M; sync'")
	from := len(m.Console())
	m.Exec("core", "sudo systemctl reboot")
	m.WaitConsole(`Linux version`, from, 2*time.Minute)
	// etcd gives back what it had preallocated; the rest is as it was.
	m.Run("test -s /var/fill && systemctl is-active sshd.service")
	m.Run("sudo rm /var/fill")
}

// TestConfigDrive takes hostname, key and user-data from a config drive, on a
// SCSI disk and a legacy BIOS; the metadata service that the firmware tells of is not asked.
func TestConfigDrive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	iso := filepath.Join(dir, "config.iso")
	m := machine.Boot(t, machine.Options{Bus: "scsi", Change: func(c *qemu.Config) {
		c.BIOS = true
		c.ExtraDrives = []qemu.Drive{{File: iso, Format: "raw", CDROM: true}}
		c.ExtraArgs = append(c.ExtraArgs, "-smbios", smbiosEC2)
	}, WithKey: func(key string) {
		latest := filepath.Join(dir, "root", "openstack", "latest")
		must(t, os.MkdirAll(latest, 0o755))
		must(t, os.WriteFile(filepath.Join(latest, "user_data"), []byte("#!/bin/bash\necho \"script on $(hostname)\" > /etc/ran\n"), 0o644))
		must(t, os.WriteFile(filepath.Join(latest, "meta_data.json"),
			[]byte(fmt.Sprintf(`{"hostname": "drive", "public_keys": {"mine": %q}}`, key)), 0o644))
		run(t, "genisoimage", "-quiet", "-V", "config-2", "-r", "-J", "-o", iso, filepath.Join(dir, "root"))
	}})
	m.Dial("core")
	m.Eventually("cat /etc/ran", "script on drive", time.Minute)
	if got := m.Run("journalctl -u coreos-cloudinit --no-pager"); !strings.Contains(got, "it is used, the metadata of platform ec2 is not asked for") {
		t.Errorf("the journal does not say which source won:\n%s", got)
	}
}
