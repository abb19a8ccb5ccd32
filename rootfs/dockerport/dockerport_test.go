package dockerport

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

// TestWarnings has tables as the kernel writes them (proc_net_tcp(5)).
func TestWarnings(t *testing.T) {
	for name, test := range map[string]struct{ tcp, tcp6, daemon, want string }{
		"loopback":    {tcp: "0100007F:0947 00000000:0000 0A", tcp6: "00000000000000000000000001000000:0947 0:0 0A"},
		"mapped":      {tcp6: "0000000000000000FFFF00000100007F:0947 0:0 0A"},
		"everywhere":  {tcp6: "00000000000000000000000000000000:0947 0:0 0A", want: "open on [::]:2375: whoever"},
		"one address": {tcp: "0A02000A:0947 00000000:0000 0A", want: "open on 10.0.2.10:2375: whoever"},
		"connection":  {tcp: "0A02000A:0947 0B02000A:9999 01"},
		"other port":  {tcp: "00000000:0948 00000000:0000 0A"},
		"verified":    {tcp: "00000000:0947 00000000:0000 0A", daemon: `{"tlsverify": true}`},
		"only tls":    {tcp: "00000000:0947 00000000:0000 0A", daemon: `{"tls": true}`, want: "open on 0.0.0.0:2375"},
		"broken":      {tcp: "xyz 0 0A", tcp6: "00:0947 0 0A", daemon: "{"},
	} {
		root := t.TempDir()
		for path, text := range map[string]string{"proc/net/tcp": head + "0: " + test.tcp + "\n", "proc/net/tcp6": head + "0: " + test.tcp6 + "\n", "etc/docker/daemon.json": test.daemon} {
			os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755)
			if err := os.WriteFile(filepath.Join(root, path), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got := strings.Join(Warnings(t.Context(), root), "\n")
		if test.want == "" && got != "" || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// TestKernel reads the kernel's own table for a listener that is there.
func TestKernel(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); len(fields) > 3 && fields[3] == "0A" {
			if a, port, ok := address(fields[1]); ok && net.JoinHostPort(a.String(), strconv.Itoa(int(port))) == l.Addr().String() {
				return
			}
		}
	}
	t.Errorf("%v is not in\n%s", l.Addr(), table)
}
