package banner

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func machine(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"usr/lib/os-release": "NAME=Coracle\nPRETTY_NAME=\"Coracle 1.2.3 (stable)\"\nVERSION_ID=1.2.3\n",
		"proc/net/tcp":       "sl local\n 0: 00000000:0947 00000000:0000 0A\n",
		"sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c": "\x06\x00\x00\x00\x01",
		"sys/class/tpm/tpm0/tpm_version_major":                                     "2\n",
		"run/coracle/boot.json":                                                    `{"rootHash":"17b621b6819496f8aaaa","slot":"B","stateKey":"tpm2","notices":["the state partition is missing:\u001b[2J /var is in memory"]}`,
	} {
		path := filepath.Join(root, name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestText(t *testing.T) {
	got := Text(context.Background(), Sources{Root: machine(t),
		Alarms:      func(context.Context) ([]string, error) { return []string{"etcd.service: Alarm: NOSPACE"}, nil },
		FailedUnits: func(context.Context) ([]string, error) { return []string{"web.service", "db.service"}, nil },
		Addresses: func(context.Context) ([]Address, error) {
			return []Address{{"eth0", "10.0.2.15"}, {"eth0", "fd00::1"}, {"eth1", "192.0.2.1"}}, nil
		}})
	want := "Coracle 1.2.3 (stable), slot B, root 17b621b6819496f8\nSecure Boot enabled, TPM 2, state encrypted\neth0: 10.0.2.15 fd00::1\neth1: 192.0.2.1\n" +
		"Notice: the state partition is missing: [2J /var is in memory\netcd.service: Alarm: NOSPACE\n" +
		"Docker's API is open on 0.0.0.0:2375: whoever reaches it is root here. Let docker-tcp.socket listen on 127.0.0.1:2375, or give dockerd certificates (tlsverify in /etc/docker/daemon.json)\n" +
		"Failed units: db.service web.service (see: systemctl --failed)\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestNothingAnswers has sources that fail or hang.
func TestNothingAnswers(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	begin := time.Now()
	got := Text(context.Background(), Sources{Root: t.TempDir(),
		FailedUnits: func(context.Context) ([]string, error) { <-release; return nil, nil },
		Addresses:   func(context.Context) ([]Address, error) { return nil, errors.New("no") }})
	if took := time.Since(begin); took > 10*Limit {
		t.Errorf("took %v", took)
	}
	if got != "Coracle\n" {
		t.Errorf("got %q", got)
	}
}
