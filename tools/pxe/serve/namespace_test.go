package serve

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/image/pxe"
	"github.com/coracle-os/coracle/tools/pxe/answer"
	"github.com/coracle-os/coracle/tools/pxe/site"
)

// The server is asked by other people's clients, busybox's udhcpc, tftp and wget,
// over a link: this test program starts itself in a network namespace of its own,
// and the clients in a second one. Root, iproute2 and busybox are needed.

const roleVariable = "PXE_TEST_ROLE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(roleVariable); dir != "" {
		if err := inNamespace(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// clients do what the firmware of a machine does: an address and the name of the
// boot program by DHCP, the program by TFTP, the first script by HTTP.
const clients = `set -e
echo here; read go
ip link set eth0 up
busybox udhcpc -i eth0 -f -q -n -t 20 -T 1 -V PXEClient:Arch:00000:UNDI:002001 -x 0x5d:0000 -s "$1/leased"
. "$1/lease"
echo "leased $ip/$mask $boot_file"
ip address add "$ip/$mask" dev eth0
busybox tftp -g -r "$boot_file" -l "$1/got" "$siaddr"
cmp "$1/got" "$1/$boot_file"
if busybox tftp -g -r ../secret -l "$1/none" "$siaddr" 2>/dev/null; then echo "a file that is not to be had"; exit 1; fi
busybox wget -q -O - "http://$siaddr:8080/boot.ipxe"
`

func TestClients(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		answer.BIOSProgram: strings.Repeat("program ", 10_000), answer.UEFIProgram: "x", "secret": "secret",
		"leased": "#!/bin/sh\n[ \"$1\" = bound ] && { echo ip=$ip; echo mask=$mask; echo siaddr=$siaddr; echo boot_file=$boot_file; } > " + dir + "/lease\nexit 0\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range pxe.Names() {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--net", self)
	cmd.Env = append(os.Environ(), roleVariable+"="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"leased 10.9.8.100/24 " + answer.BIOSProgram, "#!ipxe\nchain machine/${mac:hexhyp}/boot.ipxe",
		"undionly.kpxe: 80000 bytes", "secret", "02:00:00:00:00:07"} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// inNamespace serves on one end of a link while the clients ask on the other.
func inNamespace(dir string) error {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	asking := exec.CommandContext(ctx, "unshare", "--net", "sh", "-c", clients, "clients", dir)
	asking.Stderr = os.Stdout
	in, err := asking.StdinPipe()
	if err != nil {
		return err
	}
	out, err := asking.StdoutPipe()
	if err != nil {
		return err
	}
	if err := asking.Start(); err != nil {
		return err
	}
	said := bufio.NewReader(out)
	if _, err := said.ReadString('\n'); err != nil { // it is in its namespace
		return err
	}
	for _, args := range []string{
		fmt.Sprintf("link add name server type veth peer name eth0 address 02:00:00:00:00:07 netns %d", asking.Process.Pid),
		"address add 10.9.8.1/24 dev server", "link set server up", "link set lo up",
	} {
		if out, err := exec.CommandContext(ctx, "ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
	}
	pool, err := answer.ParseRange("10.9.8.100-10.9.8.101", &net.IPNet{IP: net.IPv4(10, 9, 8, 0), Mask: net.CIDRMask(24, 32)})
	if err != nil {
		return err
	}
	log := func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	s := &Server{Interface: "server", Answers: answer.Server{IP: net.IPv4(10, 9, 8, 1), HTTP: 8080, Pool: pool},
		Site: &site.Site{Dir: dir, Programs: dir, Log: log, Now: time.Now}, Log: log, Now: time.Now}
	serving, end := context.WithCancel(ctx)
	defer end()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(serving) }()
	if _, err := io.WriteString(in, "go\n"); err != nil {
		return err
	}
	text, err := io.ReadAll(said)
	os.Stdout.Write(text)
	if err == nil {
		err = asking.Wait()
	}
	end()
	if served := <-ended; err == nil {
		err = served
	}
	return err
}
