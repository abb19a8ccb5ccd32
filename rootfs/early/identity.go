package early

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MachineID makes sure that /etc/machine-id below root holds 32 hexadecimal
// digits, and returns them. A new id is the machine's UUID when it is virtual
// and has one, so that reinstalling keeps it, and random otherwise. first tells
// whether there was none, which makes this the first boot. An error says that
// the id could not be kept.
func MachineID(root, sys string, virtual bool) (id string, first bool, err error) {
	path := filepath.Join(root, "etc/machine-id")
	b, _ := os.ReadFile(path)
	if id := strings.TrimSpace(string(b)); validID(id) {
		return id, false, nil
	}
	if virtual {
		id = smbiosID(sys)
	}
	if id == "" {
		id = randomID()
	}
	if err := replace(path, id+"\n", 0o444); err != nil {
		// The programs that read it still find it for this boot.
		_ = os.WriteFile(filepath.Join(root, "run/machine-id"), []byte(id+"\n"), 0o444)
		_ = unix.Mount(filepath.Join(root, "run/machine-id"), path, "", unix.MS_BIND, "")
		return id, true, fmt.Errorf("keep the machine id: %w", err)
	}
	return id, true, nil
}

func validID(id string) bool {
	b, err := hex.DecodeString(id)
	return err == nil && len(b) == 16 && strings.ToLower(id) == id && strings.Trim(id, "0") != ""
}

// smbiosID returns the machine's UUID as an id, or "" when the firmware has
// none that is its own.
func smbiosID(sys string) string {
	b, err := os.ReadFile(filepath.Join(sys, "class/dmi/id/product_uuid"))
	if err != nil {
		return ""
	}
	id := strings.ReplaceAll(strings.ToLower(strings.TrimSpace(string(b))), "-", "")
	if !validID(id) || strings.Trim(id, "f") == "" {
		return ""
	}
	return id
}

// randomID returns a random UUID (version 4) without dashes.
func randomID() string {
	b := ID()
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return hex.EncodeToString(b[:])
}

// ID returns 128 bits that name something. Unlike crypto/rand it does not wait
// for the kernel's random numbers to be good enough for keys, which early at
// boot can take seconds.
func ID() [16]byte {
	var b [16]byte
	const insecure = 4 // GRND_INSECURE, Linux 5.6
	if random(b[:], insecure) != nil {
		_ = random(b[:], 0)
	}
	return b
}

// random fills b from getrandom(2). It is a plain system call: crypto/rand
// and x/sys go through the vDSO in a way that stops all goroutines at the next
// garbage collection while the kernel gathers randomness.
func random(b []byte, flags uintptr) error {
	for len(b) > 0 {
		n, _, errno := unix.Syscall(unix.SYS_GETRANDOM, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), flags)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return errno
		}
		b = b[n:]
	}
	return nil
}

// replace writes a file so that it has its old or its new content whatever
// happens.
func replace(path, content string, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// Hostname sets the hostname from /etc/hostname below root; without one it is
// "localhost" until provisioning or DHCP gives another.
func Hostname(root string) (string, error) {
	name := "localhost"
	b, _ := os.ReadFile(filepath.Join(root, "etc/hostname"))
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			name = line
			break
		}
	}
	if len(name) > 64 {
		name = name[:64]
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return name, fmt.Errorf("set the hostname %q: %w", name, err)
	}
	return name, nil
}

// Loopback brings the interface "lo" up.
func Loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring up the loopback interface: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req)
	}
	if err == nil {
		req.SetUint16(req.Uint16() | unix.IFF_UP)
		err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
	}
	if err != nil {
		return fmt.Errorf("bring up the loopback interface: %w", err)
	}
	return nil
}
