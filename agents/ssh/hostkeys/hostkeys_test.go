package hostkeys

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLoadKeeps(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ssh")
	for _, kind := range []Kind{Ed25519, ECDSA, RSA} {
		first, err := Load(dir, kind)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Load(dir, kind)
		if err != nil || !bytes.Equal(first.PublicKey().Marshal(), again.PublicKey().Marshal()) {
			t.Errorf("%s: another key the second time, error %v", kind, err)
		}
		info, err := os.Stat(kind.Path(dir))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", kind, info.Mode(), err)
		}
		// ssh-keygen is the judge of the format: public from private is what we wrote.
		out, err := exec.Command("ssh-keygen", "-y", "-f", kind.Path(dir)).Output()
		public, _ := os.ReadFile(kind.Path(dir) + ".pub")
		if err != nil || !strings.HasPrefix(string(out), strings.TrimSpace(string(public))) {
			t.Errorf("%s: ssh-keygen reads %q, %v, want %q", kind, out, err, public)
		}
	}
	if names, _ := filepath.Glob(dir + "/.*"); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

func TestLoadReadsOpenSSH(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", ECDSA.Path(dir)).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	k, err := Load(dir, ECDSA)
	if err != nil || k.PublicKey().Type() != "ecdsa-sha2-nistp256" {
		t.Errorf("got %v, %v", k, err)
	}
}

func TestLoadWithoutLuck(t *testing.T) {
	full := t.TempDir()
	if err := unix.Mount("tmpfs", full, "tmpfs", 0, "size=4k,nr_inodes=64"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(full, unix.MNT_DETACH)
	if err := os.WriteFile(full+"/fill", make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := t.TempDir()
	if err := os.WriteFile(Ed25519.Path(damaged), []byte("-----BEGIN OPENSSH PRI"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, dir, want string }{
		{"full disk", full, "no space left on device; clients will see another key after a restart"},
		{"damaged key", damaged, "remove it to get a new one"},
		{"directory is a file", file, "not a directory"},
	} {
		k, err := Load(c.dir, Ed25519)
		if k == nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: key %v, error %v, want a key and %q", c.name, k, err, c.want)
		}
	}
	data, err := os.ReadFile(Ed25519.Path(damaged))
	if err != nil || string(data) != "-----BEGIN OPENSSH PRI" {
		t.Error("the damaged key was changed")
	}
	if left, _ := os.ReadDir(full); len(left) != 1 {
		t.Errorf("left on the full disk: %v", left)
	}
	if _, err := Load(damaged, "dsa"); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("a kind that there is not: %v", err)
	}
}
