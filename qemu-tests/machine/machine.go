// Package machine boots the built image for a test and drives it from
// outside, as its owner would: over SSH and over the serial console.
//
// Every machine gets a folder of its own under the image's folder
// (build/qemu-tests/TEST); its console log stays there after the test and is
// scanned for kernel panics and Go crashes when the machine ends.
package machine

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/tools/qemu"
	"golang.org/x/crypto/ssh"
)

// Options say how a machine differs from the plain one.
type Options struct {
	Name        string // of the machine's folder; the test's without it
	UserData    string // document; "$KEY" becomes the test's public key
	KernelArgs  string
	DiskSize    int64 // bytes; 0: the image's own size
	Disk        string
	Image       string     // to boot; empty: the image under test
	Key         ssh.Signer // that logs in; nil: a new one
	Bus         string
	Memory      int // MiB
	NoNetwork   bool
	ExtraDrives []qemu.Drive
	Forwards    []int                // guest ports besides 22
	Allow       *regexp.Regexp       // console lines that are no failure in this test
	WithKey     func(key string)     // prepares what needs the owner's public key
	Change      func(c *qemu.Config) // last word on the machine
}

// Machine is a booted image under test.
type Machine struct {
	*qemu.VM
	t     testing.TB
	key   ssh.Signer
	ports map[int]int // guest to host
	allow *regexp.Regexp
}

// Image returns the image under test: CORACLE_IMAGE, else build/coracle.raw.
func Image(t testing.TB) string {
	t.Helper()
	path := os.Getenv("CORACLE_IMAGE")
	if path == "" {
		path = filepath.Join("..", "build", "coracle.raw")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no image to boot: %v (make image builds it)", err)
	}
	return path
}

// Boot starts a machine and returns at once; the machine ends with the test.
func Boot(t testing.TB, o Options) *Machine {
	t.Helper()
	image := Image(t)
	if o.Name == "" {
		o.Name = t.Name()
	}
	dir := filepath.Join(filepath.Dir(image), "qemu-tests", strings.ReplaceAll(o.Name, "/", "-"))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m := &Machine{t: t, key: o.Key, ports: map[int]int{}, allow: o.Allow}
	if m.key == nil {
		m.key = newKey(t)
	}
	if o.Image != "" {
		image = o.Image
	}
	c := qemu.Config{Name: filepath.Base(dir), Dir: dir, Image: image, Disk: o.Disk, DiskSize: o.DiskSize, Bus: o.Bus,
		Memory: o.Memory, KernelArgs: o.KernelArgs, NoNetwork: o.NoNetwork, ExtraDrives: o.ExtraDrives}
	for _, guest := range append([]int{22}, o.Forwards...) {
		port, err := qemu.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		m.ports[guest] = port
		c.Forwards = append(c.Forwards, qemu.Forward{Host: port, Guest: guest})
	}
	if o.UserData != "" {
		c.UserData = filepath.Join(dir, "user-data")
		doc := strings.ReplaceAll(o.UserData, "$KEY", m.AuthorizedKey())
		if err := os.WriteFile(c.UserData, []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if o.WithKey != nil {
		o.WithKey(m.AuthorizedKey())
	}
	if o.Change != nil {
		o.Change(&c)
	}
	vm, err := qemu.Start(context.WithoutCancel(t.Context()), c)
	if err != nil {
		t.Fatal(err)
	}
	m.VM = vm
	t.Cleanup(m.finish)
	return m
}

// In returns the machine with its failures reported to a subtest.
func (m *Machine) In(t testing.TB) *Machine {
	in := *m
	in.t = t
	return &in
}

func newKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// AuthorizedKey is the machine owner's public key in one line.
func (m *Machine) AuthorizedKey() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(m.key.PublicKey())))
}

// Port is the host's port that leads to a forwarded port of the guest.
func (m *Machine) Port(guest int) int { return m.ports[guest] }

// crash matches what no console may show.
var crash = regexp.MustCompile(`Kernel panic|BUG: |Oops: |general protection fault|^panic: |fatal error: |goroutine \d+ \[|soft lockup|unhandled level`)

func (m *Machine) finish() {
	m.Kill()
	_ = os.Remove(filepath.Join(m.Dir, "disk.qcow2"))
	console := m.Console()
	for i, line := range strings.Split(console, "\n") {
		if crash.MatchString(line) && (m.allow == nil || !m.allow.MatchString(line)) {
			m.t.Errorf("console line %d: %s", i+1, line)
		}
	}
	if m.t.Failed() {
		lines := strings.Split(console, "\n")
		m.t.Logf("console (%s), last lines:\n%s", m.ConsoleLog(), strings.Join(lines[max(0, len(lines)-60):], "\n"))
	}
}

// Console returns all that the serial console has printed.
func (m *Machine) Console() string {
	data, err := os.ReadFile(m.ConsoleLog())
	if err != nil && !os.IsNotExist(err) {
		m.t.Fatal(err)
	}
	return strings.ReplaceAll(string(data), "\r", "")
}

// WaitConsole waits until the console has printed a match of pattern, and
// returns the submatches. Only text behind the first `from` bytes counts.
func (m *Machine) WaitConsole(pattern string, from int, within time.Duration) []string {
	m.t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.Now().Add(within)
	for {
		text := m.Console()
		if match := re.FindStringSubmatch(text[min(from, len(text)):]); match != nil {
			return match
		}
		select {
		case <-m.Done():
			if re.MatchString(m.Console()[min(from, len(text)):]) {
				continue
			}
			m.t.Fatalf("the machine ended before its console showed %q", pattern)
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("the console did not show %q within %s", pattern, within)
		}
	}
}

// WaitEnd waits for the machine to switch itself off.
func (m *Machine) WaitEnd(within time.Duration) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if err := m.Wait(ctx); err != nil {
		m.t.Fatal(err)
	}
}

// Type writes text to the serial console. The connection stays open: QEMU
// forgets what the guest has not yet taken when its peer goes.
func (m *Machine) Type(text string) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := m.DialConsole(ctx)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { conn.Close() })
	go io.Copy(io.Discard, conn)
	if _, err := fmt.Fprint(conn, text); err != nil {
		m.t.Fatal(err)
	}
}

// PowerCut ends the machine at once and starts it again with its disk as it is.
func (m *Machine) PowerCut() {
	m.t.Helper()
	m.Kill()
	vm, err := qemu.Start(context.WithoutCancel(m.t.Context()), m.Config)
	if err != nil {
		m.t.Fatal(err)
	}
	*m.VM = *vm
}
