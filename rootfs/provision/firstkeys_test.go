package provision

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestFirstKeys has the well-known key replaced as Vagrant does it, over SSH, by
// shell commands: the new key goes into ~/.ssh/authorized_keys and the old line
// out of it. It must not be back after a restart.
func TestFirstKeys(t *testing.T) {
	w := newWorld(t, nil)
	if given, err := firstKeys(w.root); given || err != nil {
		t.Errorf("without a file: %v, %v", given, err)
	}
	const insecure = "ssh-ed25519 AAAAinsecure vagrant insecure public key"
	write(t, w.root, FirstKeys, "# Vagrant's\n"+insecure+"\n\n")
	if given, err := firstKeys(w.root); !given || err != nil {
		t.Fatalf("%v, %v", given, err)
	}
	const file = "/home/core/.ssh/authorized_keys"
	if got := w.file(t, file); got != insecure+"\n" {
		t.Errorf("first %q", got)
	}
	home := filepath.Join(w.root, "home/core")
	write(t, w.root, "/tmp/old", insecure+"\n")
	write(t, w.root, "/tmp/new", "ssh-ed25519 AAAAown vagrant\n")
	sh := exec.Command("sh", "-ec", `mkdir -p ~/.ssh; chmod 0700 ~/.ssh
cat "$R/tmp/new" >> ~/.ssh/authorized_keys; chmod 0600 ~/.ssh/authorized_keys
grep -v -x -f "$R/tmp/old" ~/.ssh/authorized_keys > ~/.ssh/authorized_keys.tmp; mv ~/.ssh/authorized_keys.tmp ~/.ssh/authorized_keys`)
	sh.Env = append(os.Environ(), "HOME="+home, "R="+w.root)
	if out, err := sh.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if given, err := firstKeys(w.root); given || err != nil {
		t.Errorf("after a restart: %v, %v", given, err)
	}
	if got := w.file(t, file); got != "ssh-ed25519 AAAAown vagrant\n" {
		t.Errorf("after a restart %q", got)
	}
}

// TestFirstKeysKeepTheOwners adds to what is there, once.
func TestFirstKeysKeepTheOwners(t *testing.T) {
	w := newWorld(t, nil)
	write(t, w.root, FirstKeys, "ssh-ed25519 A\n")
	write(t, w.root, "/home/core/.ssh/authorized_keys", "ssh-ed25519 B\nssh-ed25519 A")
	if _, err := firstKeys(w.root); err != nil {
		t.Fatal(err)
	}
	if got := w.file(t, "/home/core/.ssh/authorized_keys"); got != "ssh-ed25519 B\nssh-ed25519 A\n" {
		t.Errorf("%q", got)
	}
}
