package qemutests

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/qemu-tests/machine"
	"github.com/coracle-os/coracle/tools/qemu"
)

// object and list are parts of a config.
type (
	object = map[string]any
	list   = []any
)

// TestIgnition sets a machine up by twelve configs such as are written for other
// systems; the document at cloud-config-url= merges them, from a server with an
// authority of its own. The power is cut in the middle of the first boot, twice;
// the next one completes it, and the one after that finds everything again.
func TestIgnition(t *testing.T) {
	t.Parallel()
	server := serveIgnition(t)
	disks := []string{filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")}
	// The names vdb and vdc are given anew on each boot, so the disks have serial
	// numbers.
	var args []string
	for _, disk := range disks {
		must(t, os.WriteFile(disk, nil, 0o600))
		must(t, os.Truncate(disk, 1<<30))
		name := filepath.Base(disk)
		args = append(args, "-drive", "if=none,format=raw,id="+name+",file="+disk, "-device", "virtio-blk-pci,drive="+name+",serial="+name)
	}
	// Two network cards that are connected to one another.
	for i := range 2 {
		args = append(args, "-netdev", fmt.Sprintf("hubport,id=cable%d,hubid=7", i), "-device", fmt.Sprintf("virtio-net-pci,netdev=cable%d,mac=52:54:00:0b:0d:0%d", i, i))
	}
	m := machine.Boot(t, machine.Options{
		DiskSize:   4 << 30,
		KernelArgs: "cloud-config-url=" + server.plain + "/config.ign",
		WithKey:    server.serveConfigs,
		Change:     func(c *qemu.Config) { c.ExtraArgs = append(c.ExtraArgs, args...) },
	})
	waitForDisk(t, m, disks[1], 512, "EFI PART")
	must(t, m.Reset())
	m.WaitConsole(`ignition: the run before was cut off at step \d+ of \d+ \(partition`, 0, 3*time.Minute)
	waitForDisk(t, m, disks[0], 401<<20, "LUKS\xba\xbe")
	from := len(m.Console())
	must(t, m.Reset())
	m.WaitConsole(`ignition: the run before was cut off at step \d+ of \d+ `, from, 3*time.Minute)
	repairNetwork(t, m, from)
	m.Eventually("systemctl is-active multi-user.target", "active\n", 5*time.Minute)
	if !t.Run("first", func(t *testing.T) { checkIgnition(t, m.In(t)) }) {
		return
	}
	m.Run("for d in mirror vault share; do echo kept | sudo tee /var/$d/kept; done; sudo sync")
	boot := m.Run("cat /proc/sys/kernel/random/boot_id")
	from = len(m.Console())
	m.Exec("core", "sudo systemctl reboot")
	m.WaitConsole(`Linux version`, from, 3*time.Minute)
	m.Eventually("systemctl is-active multi-user.target", "active\n", 5*time.Minute)
	if m.Run("cat /proc/sys/kernel/random/boot_id") == boot {
		t.Fatal("the machine did not reboot")
	}
	t.Run("second", func(t *testing.T) { checkIgnition(t, m.In(t)) })
	if got := m.Run("cat /var/mirror/kept /var/vault/kept /var/share/kept"); got != "kept\nkept\nkept" {
		t.Errorf("after a reboot: %q", got)
	}
}

// repairNetwork logs in on the console of a machine whose config gave it an
// address that nobody can reach, takes that out and has the network back.
func repairNetwork(t *testing.T, m *machine.Machine, from int) {
	t.Helper()
	m.WaitConsole(`eth\d: 198\.51\.100\.9(?s:.*)twelve login: `, from, 5*time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	console, err := m.DialConsole(ctx)
	must(t, err)
	defer console.Close()
	go io.Copy(io.Discard, console)
	for _, step := range [][2]string{
		{"carol", `Password: `}, {consolePassword, `carol@twelve`},
		{"sudo rm /etc/systemd/network/05-wrong.network && sudo networkctl reload && echo mended-$((1+1))", `mended-2`},
	} {
		from = len(m.Console())
		_, err := io.WriteString(console, step[0]+"\n")
		must(t, err)
		m.WaitConsole(step[1], from, time.Minute)
	}
}

// waitForDisk waits until the first boot has written something to a disk.
func waitForDisk(t *testing.T, m *machine.Machine, disk string, at int64, want string) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		f, err := os.Open(disk)
		must(t, err)
		b := make([]byte, len(want))
		_, err = f.ReadAt(b, at)
		f.Close()
		must(t, err)
		if string(b) == want {
			return
		}
		if !m.Running() {
			t.Fatal("the machine ended")
		}
	}
	t.Fatalf("%q was not written", want)
}

func checkIgnition(t *testing.T, m *machine.Machine) {
	// All in one go: a connection takes longer than what it is for.
	const mark = "\x1e"
	script, commands := "", slices.Sorted(maps.Keys(ignitionChecks))
	for _, command := range commands {
		script += "( " + command + "\n) 2>&1; printf '\\036'\n"
	}
	all := strings.Split(m.Exec("core", script).Out, mark)
	if len(all) != len(commands)+1 {
		t.Fatalf("%d answers to %d commands: %q", len(all), len(commands), all)
	}
	for i, command := range commands {
		if got, want := strings.TrimSuffix(all[i], "\n"), strings.TrimSuffix(ignitionChecks[command], "\n"); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
}

// consolePassword is the user carol's, who may use sudo.
const consolePassword = "open sesame"

// ignitionChecks are commands and what they print on a machine that is set up.
var ignitionChecks = map[string]string{
	"test ! -e /var/lib/coracle/ignition.json && sudo test -e /var/lib/coracle/ignition.done && echo done": "done",
	"sudo cat /etc/remote":                                      "from the server\nand more\n",
	"stat -c '%a %U:%G' /etc/remote":                            "640 bob:crew",
	"readlink /etc/link":                                        "remote",
	"stat -c '%a %h' /opt/bin/tool":                             "755 2",
	"/usr/local/bin/tool":                                       "a tool",
	"stat -c '%a %U' /var/lib/things":                           "700 bob",
	"id bob":                                                    "uid=1234(bob) gid=1234(bob) groups=1234(bob),2000(crew)",
	"sudo grep -c '^bob:.6.abcdefgh' /etc/shadow":               "1",
	"systemctl is-active hello.service":                         "active",
	"systemctl is-enabled masked.service":                       "masked",
	"cat /run/hello":                                            "hello drop-in",
	"grep ' /var/mirror ' /proc/mounts | cut -d' ' -f3":         "xfs",
	"grep ' /var/vault ' /proc/mounts | cut -d' ' -f1,3":        "/dev/mapper/vault ext4",
	"grep ' /var/share ' /proc/mounts | cut -d' ' -f3":          "vfat",
	"cat /var/vault/inside":                                     "on the vault",
	"grep -c 'active raid1' /proc/mdstat":                       "1",
	"grep -c partition /proc/swaps":                             "1",
	"cat /run/template":                                         "of one",
	"systemctl is-enabled template@one.service off.service":     "enabled\ndisabled",
	"systemctl show -p Environment fleet.service | grep -c IGN": "1",
	"sudo cat /etc/packed":                                      "packed and hashed\n",
	"stat -c %a /opt/bin/setuid":                                "755",
	"cat /etc/coracle-test":                                     "one\ntwo\n",
	"cat /etc/instead; test -e /etc/lost || echo 1":             "instead1",
	"cat /etc/objects/s3 /etc/objects/arn /etc/objects/gs":      "/bucket.s3.amazonaws.com/a/key /bucket.s3.amazonaws.com/b /storage.googleapis.com/bucket/c ",
	"hostname; cat /etc/hostname":                               "twelve\ntwelve",
	"cat /proc/sys/vm/max_map_count":                            "262199",
	`printf '{"ignition":{"version":"3.4.0"},"storage":{"files":[{"path":"/etc/live","contents":{"source":"data:,live"}}]}}' > /tmp/live.ign
		sudo coracled config apply /tmp/live.ign > /dev/null; cat /etc/live`: "live",
	"cat /proc/sys/vm/stat_interval":                                     "7",
	"stat -c '%a %U' /run/made":                                          "711 bob",
	"grep -c ^dummy /proc/modules":                                       "1",
	"id -nG alice":                                                       "alice crew",
	"grep ^daemon1: /etc/passwd | cut -d: -f6,7":                         "/var/lib/daemon1:/usr/sbin/nologin",
	"sudo cat /home/alice/.ssh/authorized_keys.d/ignition":               "ssh-ed25519 AAAA alice",
	"cat /proc/net/bonding/bond7 | grep -c 'Slave Interface'":            "2",
	"grep -o 'active-backup' /proc/net/bonding/bond7":                    "active-backup",
	"sudo cat /proc/net/vlan/config | grep -c 'bond7.33 *| 33 *| bond7'": "1",
	"networkctl status bond7.33 | grep -c 198.18.33.1":                   "1",
	"cat /sys/class/net/bond7.33/mtu":                                    "1400",
	"grep -c bond7.33.002212C6.092112C6 /proc/net/route":                 "1",
	"systemctl --failed --no-legend":                                     "",
}

// ignitionServer is a server of documents with its own authority. plain is
// without it, and a proxy that leads to it whomever one asks for.
type ignitionServer struct {
	t                               *testing.T
	plain, address, authority, hash string
	configs                         map[string]object
}

const remoteContent = "from the server\n"

// ServeHTTP is the server with the authority.
func (s *ignitionServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	config, isConfig := s.configs[strings.TrimPrefix(r.URL.Path, "/")]
	switch {
	case r.Method == http.MethodConnect:
		s.connect(w)
	case isConfig:
		if err := json.NewEncoder(w).Encode(config); err != nil {
			s.t.Log(err)
		}
	case strings.Contains(r.Host, "amazonaws.com") || strings.Contains(r.Host, "googleapis.com"):
		fmt.Fprintf(w, "/%s%s ", r.Host, r.URL.Path)
	case r.URL.Path == "/file.gz" && r.Header.Get("X-Token") == "secret":
		w.Write(zipped(s.t, remoteContent))
	default:
		http.NotFound(w, r)
	}
}

// connect leads a client of the proxy to the server with the authority.
func (s *ignitionServer) connect(w http.ResponseWriter) {
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	server, err := net.Dial("tcp", strings.Replace(strings.TrimPrefix(s.address, "https://"), "10.0.2.2", "127.0.0.1", 1))
	if err != nil {
		return
	}
	defer server.Close()
	fmt.Fprint(client, "HTTP/1.1 200 OK\r\n\r\n")
	go func() {
		io.Copy(server, client)
		server.Close()
	}()
	io.Copy(client, server)
}

func zipped(t *testing.T, content string) []byte {
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	_, err := zip.Write([]byte(content))
	must(t, err)
	must(t, zip.Close())
	return packed.Bytes()
}

func serveIgnition(t *testing.T) *ignitionServer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(10, 0, 2, 2)},
		DNSNames: []string{"storage.googleapis.com", "*.s3.amazonaws.com"},
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	s := &ignitionServer{t: t, hash: fmt.Sprintf("sha512-%x", sha512.Sum512([]byte(remoteContent))),
		authority: "data:;base64," + base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
	server, plain := httptest.NewUnstartedServer(s), httptest.NewServer(s)
	t.Cleanup(plain.Close)
	s.plain = strings.Replace(plain.URL, "127.0.0.1", "10.0.2.2", 1)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server.StartTLS()
	t.Cleanup(server.Close)
	s.address = fmt.Sprintf("https://10.0.2.2:%d", server.Listener.Addr().(*net.TCPAddr).Port)
	return s
}
