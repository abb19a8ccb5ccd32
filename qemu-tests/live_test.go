package qemutests

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/image/iso"
	"github.com/coracle-os/coracle/image/live"
	"github.com/coracle-os/coracle/image/pxe"
	"github.com/coracle-os/coracle/initrd/bootinfo"
	"github.com/coracle-os/coracle/qemu-tests/machine"
	"github.com/coracle-os/coracle/tools/pxe/site"
	"github.com/coracle-os/coracle/tools/qemu"
)

// liveParts are the parts of the image under test.
func liveParts(t testing.TB) *live.Parts {
	t.Helper()
	f, err := os.Open(machine.Image(t))
	must(t, err)
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	must(t, err)
	p, err := live.Open(f, info.Size())
	must(t, err)
	return p
}

// scratch is a folder beside the machines' own.
func scratch(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(filepath.Dir(machine.Image(t)), "qemu-tests", t.Name()+"-files")
	must(t, os.RemoveAll(dir))
	must(t, os.MkdirAll(dir, 0o755))
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// blankDisk makes a disk with nothing on it.
func blankDisk(t *testing.T, dir string) string {
	t.Helper()
	disk := filepath.Join(dir, "blank.qcow2")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", disk, "6G")
	return disk
}

// bootOf reads what stage 1 says.
func bootOf(t *testing.T, m *machine.Machine) (info bootinfo.Info) {
	t.Helper()
	must(t, json.Unmarshal([]byte(m.Run("cat /run/coracle/boot.json")), &info))
	return info
}

// healthy waits until the machine has judged itself, and looks for what failed.
func healthy(t *testing.T, m *machine.Machine) {
	t.Helper()
	m.Eventually("systemctl is-system-running", "running", 5*time.Minute)
	m.Eventually("cat /run/coracle/health-judged", "", 5*time.Minute)
	if failed := m.Run("systemctl --failed --no-legend"); failed != "" {
		t.Errorf("failed units:\n%s", failed)
	}
}

// verified checks that the root is the release's, behind dm-verity.
func verified(t *testing.T, m *machine.Machine, p *live.Parts, kind string) {
	t.Helper()
	if info := bootOf(t, m); info.RootHash != p.RootHash || info.Live != kind || info.BootFiles == "" || len(info.Notices) > 0 {
		t.Errorf("stage 1 says %+v", info)
	}
	if got := m.Run("cat /proc/mounts"); !strings.Contains(got, "/dev/mapper/root / erofs ro") {
		t.Errorf("the root is not the verified one:\n%s", got)
	}
}

// TestPXE starts a machine with 768 MiB over the network, by legacy BIOS, with an
// empty disk for its state.
func TestPXE(t *testing.T) {
	t.Parallel()
	p, dir := liveParts(t), scratch(t)
	must(t, pxe.Write(p, dir))
	data := filepath.Join(dir, "user-data")
	s := &site.Site{Dir: dir, UserData: data, Args: []string{"coracle.state=/dev/vda", "coracle.state-format"}, Now: time.Now, Log: t.Logf}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	m := machine.Boot(t, machine.Options{
		Memory: 768, Disk: blankDisk(t, dir),
		WithKey: func(key string) {
			must(t, os.WriteFile(data, []byte("#cloud-config\nhostname: diskless\nssh_authorized_keys:\n  - "+key+"\n"), 0o644))
		},
		Change: func(c *qemu.Config) {
			c.BIOS, c.NetBoot = true, strings.Replace(server.URL, "127.0.0.1", "10.0.2.2", 1)+"/boot.ipxe"
		},
	})
	healthy(t, m)
	verified(t, m, p, "memory")
	if info := bootOf(t, m); info.VolatileState || info.StateDevice != "/dev/vda" {
		t.Errorf("the state is on %q, in memory: %v", info.StateDevice, info.VolatileState)
	}
	if got := m.Run("hostname"); got != "diskless" {
		t.Errorf("hostname %q: the user-data was not applied", got)
	}
	if r := m.Exec("core", "sudo coracle-install -d /dev/vda"); r.Code != 1 || !strings.Contains(r.Err, "vda is mounted on /var") {
		t.Errorf("installing over the disk in use: exit %d, %q", r.Code, r.Err)
	}
	available := m.Run("awk '/^MemAvailable/ {print int($2/1024)}' /proc/meminfo")
	t.Logf("%s of 768 MiB are available", available)
	if len(available) < 3 {
		t.Errorf("only %s MiB are available", available)
	}
	if got := m.Run("sudo sh -c 'cat > /etc/kept; cat /etc/kept' <<< kept"); got != "kept" {
		t.Errorf("/etc: %q", got)
	}
}

// TestPXEInstall starts a machine over the network that installs itself, tells
// the server so, and is sent to its disk from then on: nobody touches it.
func TestPXEInstall(t *testing.T) {
	t.Parallel()
	p, dir := liveParts(t), scratch(t)
	must(t, pxe.Write(p, dir))
	data := filepath.Join(dir, "user-data")
	s := &site.Site{Dir: dir, UserData: data, Install: "/dev/vda", Record: filepath.Join(dir, "record"), Now: time.Now, Log: t.Logf}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	m := machine.Boot(t, machine.Options{
		Memory: 1024, Disk: blankDisk(t, dir),
		WithKey: func(key string) {
			must(t, os.WriteFile(data, []byte("#cloud-config\nssh_authorized_keys:\n  - "+key+"\nwrite_files:\n  - {path: /etc/from-oem, content: yes}\n"), 0o644))
		},
		Change: func(c *qemu.Config) {
			c.NetBoot = strings.Replace(server.URL, "127.0.0.1", "10.0.2.2", 1) + "/boot.ipxe"
		},
	})
	m.WaitConsole(`100 %`, 0, 4*time.Minute)
	// The firmware tries all its other ways over the network before the disk.
	m.Eventually("cat /run/coracle/boot.json", `"slot": "A"`, 8*time.Minute)
	healthy(t, m)
	checkInstalled(t, m, p)
	checkReset(t, m)
}

// TestISO starts the medium by UEFI, and by BIOS, from where it installs itself.
func TestISO(t *testing.T) {
	t.Parallel()
	p, dir := liveParts(t), scratch(t)
	image := filepath.Join(dir, "coracle.iso")
	must(t, iso.Write(t.Context(), p, image, dir))
	medium := []qemu.Drive{{File: image, Format: "raw", CDROM: true, Boot: true}}
	disk := blankDisk(t, dir)
	t.Run("uefi", func(t *testing.T) {
		m := machine.Boot(t, machine.Options{UserData: keyOnly, Memory: 1024, Disk: disk, ExtraDrives: medium})
		healthy(t, m)
		verified(t, m, p, "medium")
	})
	var key string
	t.Run("bios", func(t *testing.T) {
		m := machine.Boot(t, machine.Options{UserData: keyOnly, Memory: 1024, Disk: disk, ExtraDrives: medium,
			WithKey: func(k string) { key = k }, Change: func(c *qemu.Config) { c.BIOS = true }})
		healthy(t, m)
		verified(t, m, p, "medium")
		checkInstall(t, m, key)
	})
}

// checkInstall installs on the blank disk, with a configuration.
func checkInstall(t *testing.T, m *machine.Machine, key string) {
	m.Run(fmt.Sprintf("printf '#cloud-config\\nssh_authorized_keys:\\n  - %s\\nwrite_files:\\n  - {path: /etc/from-oem, content: yes}\\n' > config", key))
	if r := m.Exec("core", "sudo coracle-install -d /dev/vda -c /etc/passwd"); r.Code != 1 || !strings.Contains(r.Err, "no cloud-config") {
		t.Errorf("a configuration that is none: exit %d, %q", r.Code, r.Err)
	}
	if r := m.Exec("core", "sudo coracle-install -d /dev/vda -c config"); r.Code != 0 || !strings.Contains(r.Out, "100 %") {
		t.Fatalf("install: exit %d, %s%s", r.Code, r.Out, r.Err)
	}
	if got := m.Run("grep -c vda /proc/partitions"); got != "9" {
		t.Errorf("the kernel shows %s of 9 devices of the installed disk", got)
	}
	m.Exec("core", "sudo systemctl poweroff")
	m.WaitEnd(90 * time.Second)
}

func checkInstalled(t *testing.T, m *machine.Machine, p *live.Parts) {
	if info := bootOf(t, m); info.Live != "" || info.Slot != "A" || info.RootHash != p.RootHash || info.VolatileState {
		t.Errorf("stage 1 says %+v", info)
	}
	if got := m.Run("cat /etc/from-oem"); got != "yes" && got != "true" {
		t.Errorf("the configuration of the installer was not applied: %q", got)
	}
	if got := m.Run("df -k /var | tail -1 | awk '{print $2}'"); len(got) < 7 {
		t.Errorf("/var has %s KiB: it did not grow", got)
	}
}

// checkReset resets the machine but for a file.
func checkReset(t *testing.T, m *machine.Machine) {
	m.Run("echo kept > keep-me; echo gone > lose-me; sudo sh -c 'echo changed > /etc/changed'")
	id, boot := m.Run("cat /etc/machine-id"), m.Run("cat /proc/sys/kernel/random/boot_id")
	m.Exec("core", "sudo coracle-reset -y -keep /home/core/keep-me")
	m.Eventually("cat /proc/sys/kernel/random/boot_id | grep -cv "+boot, "1", 5*time.Minute)
	if got := m.Run("ls /home/core /etc/changed 2>/dev/null; cat keep-me"); !strings.HasPrefix(got, "/home/core:\nkeep-me\n") || !strings.HasSuffix(got, "kept") || strings.Contains(got, "changed") || strings.Contains(got, "lose-me") {
		t.Errorf("after the reset:\n%s", got)
	}
	if got := m.Run("cat /etc/machine-id"); got == id {
		t.Error("after the reset the machine is the same one")
	}
}
