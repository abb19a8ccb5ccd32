// Package dockerport tells whether other machines reach Docker's API on its
// port for plain connections, 2375: who reaches it is root on the machine. The
// login banner says so, and the program docker-exposed says it in the journal
// when docker-tcp.socket is started, whoever wrote that unit.
//
// It looks at what listens (/proc/net/tcp, tcp6) and does not ask: a question
// would start dockerd. Left out: firewalls, which may be in the way today.
package dockerport

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/program"
)

// Port is Docker's for connections without TLS, as IANA has it.
const Port = 2375

// Main is the program docker-exposed.
func Main(ctx context.Context, _ []string, stdio program.Stdio) int {
	for _, line := range Warnings(ctx, "/") {
		fmt.Fprintf(stdio.Err, "<4>%s\n", line) // the journal's priority: warning
	}
	return 0
}

// Warnings has a line for people when the API is open, below the root directory
// root ("/" but in tests).
func Warnings(ctx context.Context, root string) []string {
	open := listening(root)
	if len(open) == 0 || verifies(ctx, root) {
		return nil
	}
	texts := make([]string, len(open))
	for i, a := range open {
		texts[i] = netip.AddrPortFrom(a, Port).String()
	}
	return []string{fmt.Sprintf("Docker's API is open on %s: whoever reaches it is root here. Let docker-tcp.socket listen on 127.0.0.1:%d, or give dockerd certificates (tlsverify in /etc/docker/daemon.json)",
		strings.Join(texts, ", "), Port)}
}

// listening are the addresses with a listener on Port that others reach.
func listening(root string) (open []netip.Addr) {
	for _, name := range []string{"tcp", "tcp6"} {
		file, err := os.Open(filepath.Join(root, "proc/net", name))
		if err != nil {
			continue
		}
		defer file.Close()
		for lines := bufio.NewScanner(file); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			const listen = "0A"
			if len(fields) < 4 || fields[3] != listen {
				continue
			}
			if a, port, ok := address(fields[1]); ok && port == Port && !a.Unmap().IsLoopback() && !slices.Contains(open, a) {
				open = append(open, a)
			}
		}
	}
	return open
}

// address reads the kernel's form: 32-bit words in the machine's byte order, in
// hexadecimal, and the port.
func address(text string) (a netip.Addr, port uint16, ok bool) {
	words, number, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(words)
	p, perr := strconv.ParseUint(number, 16, 16)
	if err != nil || perr != nil || len(raw)%4 != 0 {
		return a, 0, false
	}
	for i := 0; i < len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	a, ok = netip.AddrFromSlice(raw)
	return a, uint16(p), ok
}

// verifies tells whether dockerd wants certificates of its clients, by its
// file or by the command line of the one that runs.
func verifies(ctx context.Context, root string) bool {
	var daemon struct {
		TLSVerify bool `json:"tlsverify"`
	}
	if text, err := os.ReadFile(filepath.Join(root, "etc/docker/daemon.json")); err == nil && json.Unmarshal(text, &daemon) == nil && daemon.TLSVerify {
		return true
	}
	answer, err := control.Client{}.Collect(ctx, control.Request{Verb: control.Show, Units: []string{"docker.service"}})
	if err != nil || len(answer.Units) != 1 {
		return false
	}
	line, err := os.ReadFile(filepath.Join(root, "proc", answer.Units[0].Properties["MainPID"], "cmdline"))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(strings.Split(string(line), "\x00"), func(arg string) bool {
		return arg == "--tlsverify" || arg == "--tlsverify=true"
	})
}
