package qemutests

import (
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coracle-os/coracle/image/format"
	"github.com/coracle-os/coracle/image/pxe"
	"github.com/coracle-os/coracle/qemu-tests/machine"
	"github.com/coracle-os/coracle/tools/pxe/site"
	"github.com/coracle-os/coracle/tools/qemu"
)

const runs = 3 // of each measurement; the median is reported

const benchUserData = keyOnly + `coreos:
  units:
    - name: docker.service
      command: start
`

// BenchmarkBoot reports, as medians: seconds from the kernel's start until
// sshd, etcd and docker are ready, the memory that is used when all of them
// idle, and the time from power-on to the SSH greeting as seen from outside.
func BenchmarkBoot(b *testing.B) {
	figures := map[string][]float64{}
	for range runs {
		start := time.Now()
		m := machine.Boot(b, machine.Options{UserData: benchUserData, Change: func(c *qemu.Config) { c.CPUs = 2 }})
		m.Dial("core")
		figures["poweron-to-login-s"] = append(figures["poweron-to-login-s"], time.Since(start).Seconds())
		// One wait inside: every login and every question costs the machine
		// processor time that the services want.
		m.Run(`timeout 180 bash -c 'for u in sshd etcd docker; do until systemctl is-active $u.service >/dev/null; do sleep 1; done; done'`)
		for _, unit := range []string{"sshd", "etcd", "docker"} {
			// CLOCK_MONOTONIC, which begins with the kernel.
			us := number(b, m.Run("systemctl show --value -p ActiveEnterTimestampMonotonic "+unit+".service"))
			figures[unit+"-ready-s"] = append(figures[unit+"-ready-s"], us/1e6)
		}
		// Memory settles once the garbage collectors of the services have run.
		m.Run("sleep 20")
		used := number(b, m.Run(`awk '/^MemTotal|^MemAvailable/ {a[$1]=$2} END {print a["MemTotal:"]-a["MemAvailable:"]}' /proc/meminfo`))
		figures["used-MiB"] = append(figures["used-MiB"], used/1024)
		m.Kill()
	}
	report(b, figures)
}

// BenchmarkPXE reports, as medians, of machines started over the network with
// 768 MiB: the time from power-on to the SSH greeting, and the memory that is
// available and used then; the root is in it.
func BenchmarkPXE(b *testing.B) {
	parts, dir := liveParts(b), b.TempDir()
	must(b, pxe.Write(parts, dir))
	data := filepath.Join(dir, "user-data")
	server := httptest.NewServer((&site.Site{Dir: dir, UserData: data, Now: time.Now, Log: b.Logf}).Handler())
	b.Cleanup(server.Close)
	figures := map[string][]float64{}
	for range runs {
		start := time.Now()
		m := machine.Boot(b, machine.Options{Memory: 768,
			WithKey: func(key string) {
				must(b, os.WriteFile(data, []byte("#cloud-config\nssh_authorized_keys:\n  - "+key+"\n"), 0o644))
			},
			Change: func(c *qemu.Config) {
				c.NetBoot = strings.Replace(server.URL, "127.0.0.1", "10.0.2.2", 1) + "/boot.ipxe"
			}})
		m.Dial("core")
		figures["poweron-to-login-s"] = append(figures["poweron-to-login-s"], time.Since(start).Seconds())
		m.Run("sleep 20")
		available := number(b, m.Run(`awk '/^MemAvailable/ {print $2}' /proc/meminfo`))
		figures["available-MiB"] = append(figures["available-MiB"], available/1024)
		figures["used-MiB"] = append(figures["used-MiB"], 768-available/1024)
		m.Kill()
	}
	report(b, figures)
}

// BenchmarkFormats reports the bytes of each form of the image as they are on a
// disk that keeps no zeros, and the seconds that it takes to make it.
func BenchmarkFormats(b *testing.B) {
	for _, f := range format.Formats() {
		b.Run(f.Name, func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "coracle"+f.File)
			start := time.Now()
			if err := f.Write(b.Context(), format.Source{Raw: machine.Image(b), Name: "coracle"}, path); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(time.Since(start).Seconds(), "s")
			info, err := os.Stat(path)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(info.Sys().(*syscall.Stat_t).Blocks)*512/1e6, "MB")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkSize reports the bytes of what a build leaves.
func BenchmarkSize(b *testing.B) {
	dir := filepath.Dir(machine.Image(b))
	for _, name := range []string{"coracle.efi", "coracle.qcow2", "root.erofs"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(info.Size())/1e6, name+"-MB")
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkBuild reports the seconds of a build with empty step and compiler
// caches (downloads stay), and of one with nothing changed.
func BenchmarkBuild(b *testing.B) {
	start := time.Now()
	buildAnew(b, "GOCACHE="+filepath.Join(b.TempDir(), "go"))
	figures := map[string][]float64{"cold-s": {time.Since(start).Seconds()}}
	for range runs {
		start := time.Now()
		cmd := exec.Command("go", "run", "./tools/coracle", "build", "-o", filepath.Dir(machine.Image(b)))
		cmd.Dir = ".."
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("build: %v\n%s", err, out)
		}
		figures["warm-s"] = append(figures["warm-s"], time.Since(start).Seconds())
	}
	report(b, figures)
}

func number(b *testing.B, s string) float64 {
	b.Helper()
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil {
		b.Fatal(err)
	}
	return f
}

func report(b *testing.B, figures map[string][]float64) {
	for name, values := range figures {
		slices.Sort(values)
		b.ReportMetric(values[len(values)/2], name)
		b.Log(name, fmt.Sprint(values))
	}
	b.ReportMetric(0, "ns/op")
}
