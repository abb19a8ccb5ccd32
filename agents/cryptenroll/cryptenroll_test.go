package cryptenroll

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/initrd/luks"
	"github.com/coracle-os/coracle/rootfs/program"
)

const id = "6d1fd4ea-4a3b-4c1e-9d3c-0f6b6a8c1d11"

// open is a machine with an open state partition, sealed to a TPM.
func open(t *testing.T) (m machine, recovery string) {
	t.Helper()
	m = machine{sys: t.TempDir(), dev: t.TempDir()}
	f, err := os.Create(filepath.Join(m.dev, "vda8"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if recovery, err = luks.NewRecoveryKey(); err == nil {
		err = f.Truncate(32 << 20)
	}
	if err != nil {
		t.Fatal(err)
	}
	header, volumeKey, err := luks.Format(f, luks.Options{UUID: id}, []byte("of the TPM"), []byte(recovery))
	if err != nil {
		t.Fatal(err)
	}
	header.Tokens["0"] = []byte(`{"type":"coracle-tpm2","keyslots":["0"]}`)
	header.Tokens["1"] = []byte(`{"type":"systemd-recovery","keyslots":["1"]}`)
	target, targetErr := header.Target("state", "/dev/vda8", 32<<20, volumeKey)
	dm := filepath.Join(m.sys, "block/dm-1")
	if err := errors.Join(header.Write(f), targetErr, os.MkdirAll(filepath.Join(dm, "slaves/vda8"), 0o755), os.Mkdir(filepath.Join(dm, "dm"), 0o755),
		os.WriteFile(filepath.Join(dm, "dm/name"), []byte("state\n"), 0o644), os.WriteFile(filepath.Join(dm, "dm/uuid"), []byte(target.UUID+"\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	m.params = func(string) (string, error) { return target.Params, nil }
	return m, recovery
}

// call is a call of the program, as root.
func call(t *testing.T, m machine, args ...string) (string, error) {
	t.Helper()
	var out strings.Builder
	stdio := program.Stdio{Out: &out, Err: t.Output()}
	r, err := parse(args, stdio)
	if err != nil {
		t.Fatal(err)
	}
	err = run(r, m, stdio)
	return strings.TrimSpace(out.String()), err
}

// opens asks cryptsetup whether a key opens the volume.
func opens(t *testing.T, m machine, key string) bool {
	t.Helper()
	c := exec.Command("cryptsetup", "open", "--test-passphrase", "--key-file", "-", filepath.Join(m.dev, "vda8"))
	c.Stdin = strings.NewReader(key)
	return c.Run() == nil
}

func TestRecoveryKey(t *testing.T) {
	m, old := open(t)
	added, err := call(t, m, "--recovery-key")
	if err != nil || !opens(t, m, added) || !opens(t, m, old) {
		t.Fatalf("added %q: %v, or a key does not open", added, err)
	}
	device := filepath.Join(m.dev, "vda8")
	if list, err := call(t, m, device); list != "SLOT TYPE\n   0 tpm2\n   1 recovery\n   2 recovery" || err != nil {
		t.Errorf("list %q, %v", list, err)
	}
	only, err := call(t, m, "--wipe-slot=recovery", device, "--recovery-key")
	if err != nil || !opens(t, m, only) || opens(t, m, added) || opens(t, m, old) || !opens(t, m, "of the TPM") {
		t.Errorf("replaced by %q: %v, or the wrong keys open", only, err)
	}
	if list, err := call(t, m); list != "SLOT TYPE\n   0 tpm2\n   3 recovery" || err != nil {
		t.Errorf("list %q, %v", list, err)
	}
	out, err := exec.Command("cryptsetup", "luksDump", device).CombinedOutput()
	if err != nil || strings.Count(string(out), "systemd-recovery") != 1 {
		t.Errorf("cryptsetup luksDump: %v: %s", err, out)
	}
}

// TestRefused changes nothing.
func TestRefused(t *testing.T) {
	m, recovery := open(t)
	refused := func(m machine, want string, args ...string) {
		t.Helper()
		if out, err := call(t, m, args...); err == nil || !strings.Contains(err.Error(), want) || out != "" {
			t.Errorf("%q: %q, %v, want %q", args, out, err, want)
		}
		if !opens(t, m, recovery) {
			t.Errorf("%q: the recovery key is gone", args)
		}
	}
	refused(m, "no key would be left", "--wipe-slot=recovery")
	refused(m, "no key would be left", "--wipe-slot=1")
	refused(m, "there is none", "--wipe-slot=7", "--recovery-key")
	other := m
	other.params = func(string) (string, error) { return "aes-xts-plain64 0000 0 /dev/vda8 32768", nil }
	refused(other, "nothing is changed", "--recovery-key")
	other.params = func(string) (string, error) { return "aes-xts-plain64 :64:logon:x 0 /dev/vda8 32768", nil }
	refused(other, "does not tell", "--recovery-key")
	other.sys = t.TempDir()
	refused(other, "not on an encrypted state", "--recovery-key")
	refused(other, "is not open", "--recovery-key", filepath.Join(m.dev, "vda8"))
	for _, args := range [][]string{{"a", "b"}, {"--tpm2-device=auto"}, {"--password"}} {
		if _, err := parse(args, program.Stdio{Err: io.Discard}); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}

type closed struct{}

func (closed) Write([]byte) (int, error) { return 0, os.ErrClosed }

// TestNotShown takes a key away again that nobody has seen.
func TestNotShown(t *testing.T) {
	m, recovery := open(t)
	if err := run(request{recovery: true, wipe: []string{"recovery"}}, m, program.Stdio{Out: closed{}, Err: t.Output()}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a key that cannot be shown: %v", err)
	}
	if list, err := call(t, m); list != "SLOT TYPE\n   0 tpm2\n   1 recovery" || err != nil || !opens(t, m, recovery) {
		t.Errorf("list %q, %v", list, err)
	}
}
