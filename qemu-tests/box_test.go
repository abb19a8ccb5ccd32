package qemutests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/coracle-os/coracle/image/format"
	"github.com/coracle-os/coracle/qemu-tests/machine"
)

// vagrantKey is Vagrant's well-known private key.
func vagrantKey(t *testing.T) ssh.Signer {
	t.Helper()
	text, err := os.ReadFile("testdata/vagrant.key")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParsePrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestBox boots the disk of a Vagrant box as small and as differently from the
// other tests' machines as can be, and does to it what Vagrant does first.
func TestBox(t *testing.T) {
	t.Parallel()
	f, err := format.Find("vagrant-libvirt")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	box := filepath.Join(dir, "coracle"+f.File)
	if err := f.Write(t.Context(), format.Source{Raw: machine.Image(t), Name: "coracle"}, box); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "tar", "-xzf", box, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	disk := filepath.Join(dir, "box.qcow2")
	if err := os.Rename(filepath.Join(dir, "box.img"), disk); err != nil {
		t.Fatal(err)
	}
	m := machine.Boot(t, machine.Options{Image: disk, Key: vagrantKey(t), Bus: "sata", Memory: 768})
	m.Dial("core")
	m.Eventually("systemctl is-active coreos-cloudinit.service", "active\n", 2*time.Minute)
	if missing := m.Exec("core", "command -v scp cloud-init && systemctl -q list-unit-files | grep system-cloudinit"); missing.Code != 0 {
		t.Errorf("what Vagrant's guest of CoreOS's kind looks for is not there: %+v", missing)
	}
	if size := m.Run("df -k /var | tail -1 | awk '{print $2}'"); len(size) < 8 {
		t.Errorf("/var has %s KiB: the disk of a box is large enough for containers", size)
	}
	copyFolder(t, m)
	// In one command: nobody can log in by the old key afterwards.
	keys := m.Run(`echo "ssh-ed25519 AAAA new" >> ~/.ssh/authorized_keys
		sed -i "/vagrant insecure/d" ~/.ssh/authorized_keys
		sudo systemctl restart coreos-cloudinit.service # as each boot does
		cat $(find ~/.ssh -type f)`)
	if keys != "ssh-ed25519 AAAA new" {
		t.Errorf("after Vagrant has replaced its well-known key, these let people in:\n%s", keys)
	}
}

// copyFolder gives the machine a folder in Vagrant's way: rsync on both sides.
func copyFolder(t *testing.T, m *machine.Machine) {
	text, err := os.ReadFile("testdata/vagrant.key")
	must(t, err)
	dir := t.TempDir()
	key, folder := filepath.Join(dir, "key"), filepath.Join(dir, "folder")
	must(t, os.WriteFile(key, text, 0o600))
	must(t, os.MkdirAll(filepath.Join(folder, "sub"), 0o755))
	must(t, os.WriteFile(filepath.Join(folder, "sub/file"), []byte("from the host"), 0o644))
	must(t, os.Symlink("sub/file", filepath.Join(folder, "link")))
	m.Run("sudo mkdir -p /home/core/folder; sudo touch /home/core/folder/gone")
	run(t, "rsync", "--verbose", "--archive", "--delete", "-z", "--copy-links", "--no-owner", "--no-group", "--rsync-path", "sudo rsync",
		"-e", fmt.Sprintf("ssh -p %d -i %s -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes", m.Port(22), key),
		"--exclude", ".vagrant/", folder+"/", "core@127.0.0.1:/home/core/folder")
	if got := m.Run("cd folder; cat sub/file link; ls"); got != "from the hostfrom the hostlink\nsub" {
		t.Errorf("the folder: %q", got)
	}
}
