package tpm

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/coracle-os/coracle/image/measure"
)

// machine is a machine with a TPM, Debian's swtpm.
type machine struct {
	state  string // directory
	socket string
	stop   func()
}

// start starts the TPM, again if it runs.
func (m *machine) start(t *testing.T) transport.TPMCloser {
	t.Helper()
	if m.stop != nil {
		m.stop()
	}
	socket := filepath.Join(t.TempDir(), "tpm")
	m.socket = socket
	command := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+m.state, "--flags", "not-need-init,startup-clear",
		"--server", "type=unixio,path="+socket, "--ctrl", "type=unixio,path="+socket+".ctrl")
	command.Stderr = t.Output()
	if err := command.Start(); err != nil {
		t.Fatalf("start swtpm: %v", err)
	}
	m.stop = func() { _ = command.Process.Kill(); _ = command.Wait() }
	t.Cleanup(m.stop)
	// The socket is there before it is listened to, and Open only looks for it.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	device, err := linuxudstpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { device.Close() })
	return device
}

// boot resets a TPM and measures a UKI into PCR 11 as the stub and stage 1 do.
func (m *machine) boot(t *testing.T, uki string) transport.TPMCloser {
	t.Helper()
	device := m.start(t)
	for _, word := range []string{uki, measure.EnterInitrd} {
		if err := Measure(device, word); err != nil {
			t.Fatal(err)
		}
	}
	return device
}

func release(t *testing.T, uki string, key *rsa.PrivateKey) measure.Signatures {
	t.Helper()
	s, err := measure.Sign(measure.Value{}.Extend([]byte(uki)), key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSeal seals under one release and opens under the next and the one before,
// and not otherwise.
func TestSeal(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{state: t.TempDir()}
	blob, err := Seal(m.boot(t, "release 2"), []byte("secret"), &key.PublicKey, SecureBootPCR, LinePCR)
	if err != nil {
		t.Fatal(err)
	}
	opens := func(name string, device transport.TPM, uki string, signer *rsa.PrivateKey, want bool) {
		t.Helper()
		secret, err := Unseal(device, blob, &signer.PublicKey, release(t, uki, signer))
		if (err == nil && string(secret) == "secret") != want || !want && !errors.Is(err, ErrPolicy) {
			t.Errorf("%s: %q, %v", name, secret, err)
		}
	}
	for _, uki := range []string{"release 2", "release 3", "release 1"} {
		opens(uki, m.boot(t, uki), uki, key, true)
	}
	opens("a foreign signer", m.boot(t, "other"), "other", foreign, false)
	opens("a UKI that the signature is not of", m.boot(t, "other"), "release 2", key, false)
	opens("another TPM", (&machine{state: t.TempDir()}).boot(t, "release 2"), "release 2", key, false)

	for _, pcr := range []uint{SecureBootPCR, LinePCR} {
		changed := m.boot(t, "release 2")
		if err := extend(changed, pcr, "other"); err != nil {
			t.Fatal(err)
		}
		opens(fmt.Sprintf("with another PCR %d", pcr), changed, "release 2", key, false)
	}
	late := m.boot(t, "release 2")
	if err := Measure(late, measure.LeaveInitrd); err != nil {
		t.Fatal(err)
	}
	opens("after stage 1", late, "release 2", key, false)

	again := m.boot(t, "release 2")
	for range 20 { // sessions and objects are given back
		opens("again", again, "release 2", key, true)
	}
}

// TestTools opens what is sealed with Debian's tpm2-tools, which have a policy of
// their own making to satisfy.
func TestTools(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{state: t.TempDir()}
	device := m.boot(t, "release")
	blob, err := Seal(device, []byte("secret"), &key.PublicKey, SecureBootPCR, LinePCR)
	if err != nil {
		t.Fatal(err)
	}
	if err := device.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	zeros := append([]byte{32, 0}, make([]byte, 128)...) // a coordinate as the tools keep it
	for name, content := range map[string][]byte{
		"public": blob.Public, "private": blob.Private, "key.public": tpm2.Marshal(tpm2.New2B(template(&key.PublicKey))),
		"signature": release(t, "release", key)["sha256"][0].Sig, "unique": append(zeros, zeros...),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// There is room for three objects in the TPM, which the tools leave there.
	command := exec.Command("sh", "-ec", `
tpm2_createprimary -Q -C o -g sha256 -G ecc256:aes128cfb -u unique -c primary \
	-a 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt'
tpm2_flushcontext -t
tpm2_load -Q -C primary -u public -r private -c sealed
tpm2_flushcontext -t
tpm2_loadexternal -Q -C o -u key.public -c key -n key.name
tpm2_flushcontext -t
tpm2_startauthsession --policy-session -S session
tpm2_policypcr -Q -S session -l sha256:11 -L policy
tpm2_verifysignature -Q -c key -g sha256 -m policy -s signature -f rsassa -t ticket
tpm2_flushcontext -t
tpm2_policyauthorize -Q -S session -i policy -n key.name -t ticket
tpm2_policypcr -Q -S session -l sha256:7,12
tpm2_unseal -c sealed -p session:session
`)
	command.Dir, command.Stderr = dir, t.Output()
	command.Env = append(os.Environ(), "TPM2TOOLS_TCTI=swtpm:path="+m.socket)
	if out, err := command.Output(); string(out) != "secret" || err != nil {
		t.Errorf("tpm2-tools found %q: %v", out, err)
	}
}
