package networkd

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// The expected results in testdata/oracle are what Debian's systemd-networkd 252
// made of the same files; -record has it do so again.
var record = flag.Bool("record", false, "write what Debian's systemd-networkd does into testdata/oracle")

// recordScript runs the real daemon as in a container, where nobody waits for
// udev.
const recordScript = `
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/network
echo systemd-nspawn >/run/systemd/container
for kind in passwd group; do cp /etc/$kind /run/$kind; done
echo systemd-network:x:998:998::/:/bin/false >>/run/passwd
echo systemd-network:x:998: >>/run/group
for kind in passwd group; do mount --bind /run/$kind /etc/$kind; done
mount -o remount,bind,ro /sys
cp "$0"/etc/systemd/network/* /run/systemd/network/
exec /lib/systemd/systemd-networkd`

func TestOracle(t *testing.T) {
	cases, err := filepath.Glob("testdata/oracle/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			w := newCable(t)
			w.must("ip", "-n", w.client, "link", "set", "eth0", "address", "02:00:00:00:00:10")
			w.must("ip", "link", "add", "eth1", "netns", w.client, "address", "02:00:00:00:00:20", "type", "veth", "peer", "name", "srv1", "netns", w.server)
			w.must("ip", "-n", w.server, "link", "set", "srv1", "up")
			w.must("ip", "-n", w.client, "link", "set", "lo", "up")
			w.write("usr/lib/systemd/network/zz-default.network", "")
			want := ""
			for _, f := range archive.Files {
				if f.Name == "want" {
					want = string(f.Data)
					continue
				}
				w.write("etc/systemd/network/"+f.Name, string(f.Data))
			}
			if *record {
				w.record(file, archive)
				return
			}
			w.startDaemon()
			deadline := time.Now().Add(20 * time.Second)
			for {
				got := w.shown()
				if got == want {
					w.settled()
					return
				}
				if time.Now().After(deadline) {
					t.Fatalf("(-systemd-networkd +ours):\n%s\n%s", cmp.Diff(want, got), w.log.text())
				}
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
}

// settled checks that nothing is done to a network that is as it should be.
func (w *world) settled() {
	w.t.Helper()
	_, news := w.program(w.client, "ip", "-o", "monitor", "route", "rule")
	// Each is taken up when the comparison after the one before is done.
	for range 4 {
		if err := Ask(testPaths(w.directory).Control, "reload"); err != nil {
			w.t.Error(err)
		}
	}
	if text := news.text(); strings.Contains(text, "static") {
		w.t.Errorf("routes or rules are changed again and again:\n%s", text)
	}
}

// record writes what the real daemon does.
func (w *world) record(file string, archive *txtar.Archive) {
	w.t.Helper()
	_, out := w.program(w.client, "unshare", "-mp", "--fork", "--kill-child", "--mount-proc", "sh", "-c", recordScript, w.directory)
	got := ""
	for n := range 20 { // until nothing changes any more
		time.Sleep(time.Second)
		next := w.shown()
		if n > 6 && next == got {
			break
		}
		got = next
	}
	w.t.Logf("%s", out.text())
	archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return f.Name == "want" })
	archive.Files = append(archive.Files, txtar.File{Name: "want", Data: []byte(got)})
	if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// shown is the network of the client's namespace, without what differs from
// run to run and what the kernel makes by itself.
func (w *world) shown() string {
	w.t.Helper()
	var b strings.Builder
	for _, l := range w.list("-d", "address") {
		if l["ifname"] == "lo" {
			continue
		}
		fmt.Fprintf(&b, "link %v mtu=%v mac=%v", l["ifname"], l["mtu"], l["address"])
		if info, ok := l["linkinfo"].(map[string]any); ok {
			fmt.Fprintf(&b, " kind=%v", info["info_kind"])
		}
		if l["master"] != nil {
			fmt.Fprintf(&b, " master=%v", l["master"])
		}
		flags, _ := l["flags"].([]any)
		for _, flag := range flags {
			if slices.Contains([]any{"UP", "NOARP", "MULTICAST", "ALLMULTI", "PROMISC"}, flag) {
				fmt.Fprintf(&b, " %v", flag)
			}
		}
		fmt.Fprintln(&b)
		addresses, _ := l["addr_info"].([]any)
		for _, a := range addresses {
			entry, _ := a.(map[string]any)
			if text, _ := entry["local"].(string); strings.HasPrefix(text, "fe80:") {
				continue
			}
			entry["preferred"] = entry["preferred_life_time"] != 0.0
			fmt.Fprintf(&b, "address of %v %s\n", l["ifname"], words(entry, "valid_life_time", "preferred_life_time", "tentative"))
		}
	}
	for _, family := range []string{"-4", "-6"} {
		for _, r := range w.list(family, "-d", "route", "show", "table", "all") {
			if r["dst"] == "fe80::/64" || r["protocol"] == "kernel" && r["type"] != "unicast" || r["dev"] == "lo" && r["protocol"] == "kernel" {
				continue
			}
			fmt.Fprintln(&b, "route "+words(r, "pref"))
		}
		for _, r := range w.list(family, "rule") {
			if table, _ := r["table"].(string); r["protocol"] == nil && slices.Contains([]string{"local", "main", "default"}, table) && r["src"] == "all" && len(r) == 3 {
				continue
			}
			fmt.Fprintln(&b, "rule "+family+" "+words(r))
		}
	}
	for _, n := range w.list("neighbor", "show", "nud", "permanent") {
		fmt.Fprintln(&b, "neighbor "+words(n))
	}
	lines := strings.SplitAfter(b.String(), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// list is what iproute2 shows.
func (w *world) list(args ...string) (all []map[string]any) {
	w.t.Helper()
	if text := w.must("ip", append([]string{"-n", w.client, "-j"}, args...)...); strings.TrimSpace(text) != "" {
		if err := json.Unmarshal([]byte(text), &all); err != nil {
			w.t.Fatalf("ip %v: %v\n%s", args, err, text)
		}
	}
	return all
}

// words are the entries in order, without empty ones.
func words(entry map[string]any, without ...string) string {
	var all []string
	for key, value := range entry {
		if list, ok := value.([]any); slices.Contains(without, key) || ok && len(list) == 0 || value == nil {
			continue
		}
		all = append(all, fmt.Sprintf("%s=%v", key, value))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}
