package qemutests

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/tools/qemu"
)

// smbiosEC2 makes a machine look like one of Amazon EC2.
const smbiosEC2 = "type=1,manufacturer=Amazon EC2,product=t3.micro"

// ec2 is EC2's metadata service, version 2, at its own address: the machine gets
// a second network card, behind which 169.254.169.254 leads to a server of the
// test's.
func ec2(t *testing.T, documents map[string]string) func(c *qemu.Config) {
	const token = "token-of-the-test"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, found := documents[strings.TrimPrefix(r.URL.Path, "/latest/")]
		switch {
		case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" && r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds") != "":
			io.WriteString(w, token)
		case r.Header.Get("X-aws-ec2-metadata-token") != token:
			http.Error(w, "", http.StatusUnauthorized)
		case !found:
			http.NotFound(w, r)
		default:
			io.WriteString(w, text)
		}
	}))
	t.Cleanup(server.Close)
	// QEMU's own forwarding by TCP is for one connection only.
	port := server.URL[strings.LastIndex(server.URL, ":")+1:]
	relay := filepath.Join(t.TempDir(), "relay")
	must(t, os.WriteFile(relay, []byte("#!/bin/bash\nexec 3<>/dev/tcp/127.0.0.1/"+port+"\ncat <&3 &\ncat >&3\nwait\n"), 0o755))
	return func(c *qemu.Config) {
		c.ExtraArgs = append(c.ExtraArgs, "-smbios", smbiosEC2,
			"-netdev", "user,id=metadata,net=169.254.169.0/24,host=169.254.169.2,dhcpstart=169.254.169.15,guestfwd=tcp:169.254.169.254:80-cmd:"+relay,
			"-device", "virtio-net-pci,netdev=metadata,romfile=")
	}
}

// noCloud writes a NoCloud disk, as a CD.
func noCloud(t *testing.T, userData, metaData string) qemu.Drive {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "user-data"), []byte(userData), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "meta-data"), []byte(metaData), 0o644))
	iso := filepath.Join(t.TempDir(), "seed.iso")
	run(t, "genisoimage", "-quiet", "-V", "cidata", "-r", "-J", "-o", iso, dir)
	return qemu.Drive{File: iso, Format: "raw", CDROM: true}
}

// publicAddress is the user-data that the metadata service of the test has.
var publicAddress = fmt.Sprintf("#cloud-config\nwrite_files: [{path: /etc/public, content: %q}]\n", "$public_ipv4 $private_ipv4")
