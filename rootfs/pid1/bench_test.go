package pid1_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is measured: oneshot units that do nothing, and services that stay.
const (
	trivialUnits = 200
	idleUnits    = 500
	boots        = 3                // the median is reported
	settling     = 10 * time.Second // until memory is looked at
)

// BenchmarkInit reports figures of process 1, ours and systemd's, in the same
// box with the same units and the same journal daemon (ours); systemd runs
// without its generators and without D-Bus:
//
//	start-ms     from execve until the last unit of the boot runs
//	units-ms     200 units that do nothing, "systemctl start" of a target that wants them
//	idle-*-MB    resident memory after the boot: all, the proportional share
//	             (what programs share counts by part), and what is private
//	500-*-MB     the same with 500 services that run
func BenchmarkInit(b *testing.B) {
	for name, init := range map[string]string{"coracle": ours, "systemd": systemd} {
		b.Run(name, func(b *testing.B) {
			dir := newBox(b)
			all := map[string][]float64{}
			for range boots {
				runBox(b, dir, init, benchName, 5*time.Minute)
				text, err := os.ReadFile(filepath.Join(dir, "result.json"))
				must(b, err)
				figures := map[string]float64{}
				must(b, json.Unmarshal(text, &figures))
				for unit, value := range figures {
					all[unit] = append(all[unit], value)
				}
			}
			for unit, values := range all {
				slices.Sort(values)
				b.ReportMetric(values[len(values)/2], unit)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// measure runs in the box as its last unit: figures to dir, then power off.
func measure(dir string) int {
	figures, err := figuresOfInit(dir)
	if err == nil {
		var text []byte
		if text, err = json.Marshal(figures); err == nil {
			err = os.WriteFile(filepath.Join(dir, "result.json"), text, 0o644)
		}
	}
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)) // ends this name space only
	return 1
}

func figuresOfInit(dir string) (map[string]float64, error) {
	figures := map[string]float64{}
	begun, err := os.ReadFile(filepath.Join(dir, "begun"))
	if err != nil {
		return nil, err
	}
	ns, err := strconv.ParseInt(string(begun), 10, 64)
	if err != nil {
		return nil, err
	}
	figures["start-ms"] = float64(monotonic()-ns) / 1e6
	systemctl := "/box/bin/systemctl"
	if exe, _ := os.Readlink("/proc/1/exe"); exe == systemd {
		systemctl = "/usr/bin/systemctl"
	}
	time.Sleep(settling)
	if err := memory(figures, "idle"); err != nil {
		return nil, err
	}
	took, err := startMany(systemctl, "trivial", trivialUnits, "Type=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/true\n")
	if err != nil {
		return nil, err
	}
	figures["units-ms"] = float64(took.Microseconds()) / 1e3
	if _, err = startMany(systemctl, "idle", idleUnits, "ExecStart=/usr/bin/sleep infinity\n"); err != nil {
		return nil, err
	}
	time.Sleep(settling)
	return figures, memory(figures, "500")
}

// startMany starts n units with the same settings at once, through a target
// that wants them.
func startMany(systemctl, name string, n int, settings string) (time.Duration, error) {
	var names []string
	var errs []error
	put := func(name, text string) {
		errs = append(errs, os.WriteFile(filepath.Join("/run/systemd/system", name), []byte(text), 0o644))
	}
	errs = append(errs, os.MkdirAll("/run/systemd/system", 0o755))
	for i := range n {
		names = append(names, fmt.Sprintf("%s-%d.service", name, i))
		put(names[i], "[Service]\n"+settings)
	}
	put(name+".target", "[Unit]\nWants="+strings.Join(names, " ")+"\n")
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	if rc, out := command(time.Minute, systemctl, "daemon-reload"); rc != 0 {
		return 0, errors.New(out)
	}
	begun := time.Now()
	if rc, out := command(2*time.Minute, systemctl, "start", name+".target"); rc != 0 {
		return 0, errors.New(out)
	}
	took := time.Since(begun)
	_, out := command(time.Minute, append([]string{systemctl, "is-active"}, names...)...)
	if active := strings.Count("\n"+out, "\nactive"); active != n {
		return 0, fmt.Errorf("%d of %d units named %s are active", active, n, name)
	}
	return took, nil
}

// memory adds what process 1 has in memory.
func memory(figures map[string]float64, when string) error {
	text, err := os.ReadFile("/proc/1/smaps_rollup")
	if err != nil {
		return err
	}
	add := func(name string, kilobytes float64) { figures[when+"-"+name+"-MB"] += kilobytes / 1024 }
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[2] != "kB" {
			continue
		}
		kilobytes, err := strconv.ParseFloat(fields[1], 64)
		if err != nil {
			return err
		}
		switch fields[0] {
		case "Rss:":
			add("RSS", kilobytes)
		case "Pss:":
			add("PSS", kilobytes)
		case "Private_Clean:", "Private_Dirty:":
			add("private", kilobytes)
		case "Anonymous:":
			add("anonymous", kilobytes)
		}
	}
	return nil
}

// monotonic is the kernel's clock, the same for all processes.
func monotonic() int64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return ts.Nano()
}
