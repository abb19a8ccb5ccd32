package networkd

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/state"
)

// BenchmarkLinkUp is from the moment that a cable is plugged in until the
// interface has an address by DHCP; beside it, what memory the daemon takes.
func BenchmarkLinkUp(b *testing.B) {
	w := newCable(b)
	w.write("usr/lib/systemd/network/zz-default.network", "[Match]\nName=eth*\n[Network]\nDHCP=yes\n")
	w.dnsmasq("--dhcp-range=10.99.0.100,10.99.0.200,255.255.255.0,2m", "--dhcp-authoritative")
	w.startDaemon()
	configured := func(i state.Interface, s state.State) bool { return len(i.Addresses) == 1 && s.Online }
	w.eth0("configured", 20*time.Second, configured)
	for b.Loop() {
		b.StopTimer()
		w.must("ip", "-n", w.client, "link", "delete", "eth0")
		w.must("ip", "link", "add", "eth0", "netns", w.client, "type", "veth", "peer", "name", "srv0", "netns", w.server)
		w.must("ip", "-n", w.server, "address", "add", "10.99.0.1/24", "dev", "srv0")
		b.StartTimer()
		w.must("ip", "-n", w.server, "link", "set", "srv0", "up")
		w.eth0("configured", 20*time.Second, configured)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.daemon.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	if kib, err := strconv.Atoi(strings.Fields(rest)[0]); err == nil {
		b.ReportMetric(float64(kib), "KiB-resident")
	}
}
