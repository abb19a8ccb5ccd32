package qemutests

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coracle-os/coracle/image/recipe"
	"github.com/coracle-os/coracle/image/sdboot"
	"github.com/coracle-os/coracle/qemu-tests/machine"
	"github.com/coracle-os/coracle/tools/qemu"
	"github.com/coracle-os/coracle/tools/tufrepo"
	"github.com/coracle-os/coracle/tools/variant"
)

// publisher signs and serves releases.
type publisher struct {
	t    *testing.T
	dir  string // of the builds
	repo *tufrepo.Repo
	url  string // as a machine reaches it
	root string // trusted root metadata, in base64
	sent atomic.Int64
}

func newPublisher(t *testing.T) *publisher {
	t.Helper()
	p := &publisher{t: t, dir: filepath.Join(filepath.Dir(machine.Image(t)), "qemu-tests", t.Name()+"-releases")}
	must(t, os.RemoveAll(p.dir))
	t.Cleanup(func() { os.RemoveAll(p.dir) })
	keys := t.TempDir()
	var err error
	p.repo, err = tufrepo.Create(filepath.Join(p.dir, "repo"), keys, 1, 1, time.Now)
	must(t, err)
	t.Cleanup(func() { p.repo.Close() })
	root, err := os.ReadFile(filepath.Join(p.dir, "repo", tufrepo.MetadataDir, "1.root.json"))
	must(t, err)
	p.root = base64.StdEncoding.EncodeToString(root)
	files := http.FileServer(http.Dir(filepath.Join(p.dir, "repo")))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		files.ServeHTTP(&counter{w, &p.sent}, r)
	}))
	t.Cleanup(server.Close)
	p.url = strings.Replace(server.URL, "127.0.0.1", "10.0.2.2", 1)
	return p
}

// counter counts the bytes of bodies.
type counter struct {
	http.ResponseWriter
	sent *atomic.Int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.sent.Add(int64(n))
	return n, err
}

// build builds a variant of the image and puts it into the repository without
// offering it to the machine.
func (p *publisher) build(v variant.Variant) {
	p.t.Helper()
	dir := filepath.Join(p.dir, v.Version)
	source, err := filepath.Abs("..")
	must(p.t, err)
	must(p.t, v.Build(p.t.Context(), source, filepath.Dir(machine.Image(p.t)), dir))
	p.publish(dir, "built-"+strings.ReplaceAll(v.Version, ".", "-"))
	must(p.t, os.RemoveAll(dir))
}

func (p *publisher) publish(dir, channel string) {
	p.t.Helper()
	b, done, err := tufrepo.ReadBuild(dir)
	must(p.t, err)
	defer done()
	_, err = p.repo.Publish(p.t.Context(), *b, tufrepo.Options{Channel: channel, Fast: true})
	must(p.t, err)
}

// offer makes a version the channel's.
func (p *publisher) offer(version string) {
	p.t.Helper()
	_, err := p.repo.Promote("", version, tufrepo.Options{Channel: "test", Downgrade: true})
	must(p.t, err)
}

// userData sets a machine up to follow the publisher.
func (p *publisher) userData() string {
	return fmt.Sprintf(keyOnly+`write_files:
  - path: /etc/coracle/tuf/root.json
    encoding: base64
    content: %s
coreos:
  update:
    group: test
    server: %s
    reboot-strategy: reboot
  units:
    - name: update-engine.service
      drop-ins:
        - name: 10-often.conf
          content: |
            [Service]
            Environment=UPDATE_ENGINE_CHECK_INTERVAL=5s
`, p.root, p.url)
}

// follower is a machine that follows a publisher.
type follower struct {
	*machine.Machine
	*publisher
	t *testing.T
}

// runs waits until the machine runs a version in a slot, marked good.
func (f *follower) runs(version, slot string) {
	f.t.Helper()
	f.Eventually("updatectl status", fmt.Sprintf("%s in slot %s", version, slot), 8*time.Minute)
	if version != "0.1.0" {
		f.Eventually("updatectl history | grep 'good *"+version+"'", version, 3*time.Minute)
	}
}

// lean switches off what takes most of a start under emulation, and has no part
// in what is tested. TestUpdates and TestMachine have all of it.
func (f *follower) lean() {
	f.t.Helper()
	f.Run("sudo systemctl mask --now docker.socket docker.service containerd.service etcd.service systemd-modules-load.service")
}

// fails offers a version that must not stay, and waits until the machine has
// come back and says why. The console shows each of its tries.
func (f *follower) fails(version, back, slot, reason, console string, times int) {
	f.t.Helper()
	from := len(f.Console())
	f.offer(version)
	row := f.Eventually(`updatectl history | grep "fallback *`+version+`"`, version, 12*time.Minute)
	if !regexp.MustCompile(reason).MatchString(row) {
		f.t.Errorf("history says %q, want %q as the reason", row, reason)
	}
	f.runs(back, slot)
	if n := len(regexp.MustCompile(console).FindAllString(f.Console()[from:], -1)); n != times {
		f.t.Errorf("the console shows %q %d times, want %d", console, n, times)
	}
	f.Eventually("updatectl status", version, time.Minute) // under quarantine
	f.Eventually("sudo journalctl -b -u update-engine --no-pager", version+" is in quarantine", time.Minute)
}

// TestUpdates takes one machine through releases: A to B to A, and back to B
// when A is damaged; in between, one whose kernel panics. The UKI of another is
// destroyed before its first start.
func TestUpdates(t *testing.T) {
	t.Parallel()
	const size = 6 << 30
	p := newPublisher(t)
	m := machine.Boot(t, machine.Options{UserData: p.userData(), DiskSize: size, Allow: regexp.MustCompile(`Kernel panic`),
		Change: func(c *qemu.Config) { c.WriteLog = filepath.Join(c.Dir, "writes.log") }})
	f := &follower{m, p, t}
	f.build(variant.Next("0.2.0"))
	f.runs("0.1.0", "A")
	f.offer("0.2.0")
	f.runs("0.2.0", "B")
	t.Logf("update to another os-release: %d bytes sent", f.sent.Load())
	survivesCuts(t, m.WriteLog, machine.Image(t), size)

	f.build(variant.Panic("0.3.0"))
	f.fails("0.3.0", "0.2.0", "B", "crashed or hung", "Kernel panic", 3)
	f.build(variant.Next("0.5.0"))
	f.damaged("0.5.0", "0.2.0")
	f.runs("0.5.0", "A")
	f.destroyed("/dev/vda3", "0.5.0", "0.2.0", "B")
}

// TestBadReleases offers a machine releases that start and then do not last: one
// whose root is empty, one that hangs and one that is unhealthy.
func TestBadReleases(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	m := machine.Boot(t, machine.Options{UserData: p.userData(), DiskSize: 6 << 30})
	f := &follower{m, p, t}
	f.build(variant.Empty("0.2.0"))
	f.runs("0.1.0", "A")
	f.lean()
	f.fails("0.2.0", "0.1.0", "A", "crashed or hung", "boot failed: switch root", 3)
	f.build(variant.Hang("0.3.0"))
	f.fails("0.3.0", "0.1.0", "A", "crashed or hung", "Linux version", 4) // and the one that is back
	f.build(variant.Unhealthy("0.4.0"))
	f.fails("0.4.0", "0.1.0", "A", "/usr/bin/false", "health check failed.*rebooting", 3)
}

// damaged arms a release and destroys its UKI on the ESP before the restart. The
// machine comes back with the one it had, and mends the release without a hand on
// it.
func (f *follower) damaged(version, back string) {
	f.t.Helper()
	f.Run("sudo systemctl stop locksmithd")
	f.offer(version)
	f.Eventually("updatectl status", "pending-reboot", 5*time.Minute)
	f.t.Log("update-engine: ", f.Run("grep VmHWM /proc/$(systemctl show -p MainPID --value update-engine)/status"))
	f.Run("sudo mount -t vfat /dev/vda2 /mnt && sudo dd if=/dev/zero of=/mnt/EFI/Linux/coracle-" + version + "+3-0.efi bs=4096 count=1 conv=notrunc && sudo umount /mnt")
	from, sent := len(f.Console()), f.sent.Load()
	f.Exec("core", "sudo systemctl reboot")
	f.WaitConsole(`Linux version[^\a]*Coracle `+back, from, machine.BootTimeout)
	f.Eventually("updatectl history | grep -c 'installed *"+version+"'", "2", 5*time.Minute)
	f.t.Logf("a destroyed UKI: %d bytes sent", f.sent.Load()-sent)
}

// destroyed overwrites most of the slot that runs, marked good, and waits until
// the machine runs from the other one.
func (f *follower) destroyed(device, version, back, slot string) {
	f.t.Helper()
	from := len(f.Console())
	f.Exec("core", "sudo sh -c '(sleep 1; dd if=/dev/zero of="+device+" bs=1M seek=16 count=200 conv=notrunc oflag=direct; ls -R / > /dev/null) > /dev/null 2>&1 &'")
	row := f.Eventually(`updatectl history | grep "fallback *`+version+`"`, version, 8*time.Minute)
	if !strings.Contains(row, "did not last") {
		f.t.Errorf("history says %q, want that it did not last", row)
	}
	f.runs(back, slot)
	for _, want := range []string{`device-mapper: verity: .*corrupted`, `started 3 times in a row without lasting`} {
		if !regexp.MustCompile(want).MatchString(f.Console()[from:]) {
			f.t.Errorf("the console does not show %q", want)
		}
	}
}

// newLoader is Next with a systemd-boot that says another version of itself.
func (p *publisher) newLoader(version, loader string) variant.Variant {
	p.t.Helper()
	file := filepath.Join(p.dir, "systemd-boot-"+loader)
	onESP(p.t, machine.Image(p.t), "mcopy", "::/"+sdboot.Fallback, file)
	content, err := os.ReadFile(file)
	must(p.t, err)
	old, err := sdboot.Read(content)
	must(p.t, err)
	wide := func(text string) []byte { return []byte(strings.Join(strings.Split(text, ""), "\x00")) }
	next := "systemd-boot " + loader + old.Version[len(loader):]
	content = bytes.ReplaceAll(content, []byte(old.Info()), []byte(next))
	content = bytes.ReplaceAll(content, wide(old.Info()), wide(next))
	must(p.t, os.WriteFile(file, content, 0o644))
	source, err := filepath.Abs("..")
	must(p.t, err)
	file, err = filepath.Rel(source, file)
	must(p.t, err)
	return variant.Variant{Version: version, Change: func(r *recipe.Recipe) {
		r.Files = append(r.Files, recipe.File{Path: sdboot.InRoot, Source: file})
	}}
}

// Bad luck with the firmware, while the machine runs.
const (
	fillNVRAM = `sudo bash -c 'n=0; while printf "\007\000\000\000%01000d" 0 > /sys/firmware/efi/efivars/Fill$n-00112233-4455-6677-8899-aabbccddeeff; do n=$((n+1)); done; echo $n' 2>&1`
	// secondEntry shows the firmware's boot entries, and what was done about them.
	secondEntry = `sudo journalctl -b -u coracle-health --no-pager; cat /sys/firmware/efi/efivars/Boot00* | tr -d '\000'`
	ruinLoader  = "sudo mount -t vfat /dev/vda2 /mnt && sudo dd if=/dev/zero of=/mnt/EFI/BOOT/BOOTX64.EFI bs=512 count=1 conv=notrunc && sudo umount /mnt"
	bothLoaders = "sudo sh -c 'mount -t vfat /dev/vda2 /mnt; cmp /mnt/EFI/BOOT/BOOTX64.EFI /" + sdboot.InRoot + " && cmp /mnt/EFI/systemd/systemd-bootx64.efi /" + sdboot.InRoot + " && echo both; umount /mnt'"
)

// TestPowerCuts cuts the power at random moments of updates back and forth.
// The machine comes up every time, and takes the next release in the end, with its
// boot loader; what a cut at each moment leaves of the disk is in TestUpdates.
// Meanwhile the firmware's memory is full, then it forgets everything,
// and then the loader that it starts by itself is destroyed.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	const cuts = 8
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	p := newPublisher(t)
	p.publish(filepath.Dir(machine.Image(t)), "built-0-1-0")
	p.build(p.newLoader("0.2.0", "8"))
	m := machine.Boot(t, machine.Options{UserData: p.userData(), DiskSize: 6 << 30})
	f := &follower{m, p, t}
	f.lean()
	running := regexp.MustCompile(`Running: *(\S+) in slot`)
	for i := range cuts {
		if i%2 == 0 { // offer the version that does not run
			match := running.FindStringSubmatch(f.Eventually("updatectl status", "in slot", machine.BootTimeout))
			next := map[string]string{"0.1.0": "0.2.0", "0.2.0": "0.1.0"}[match[1]]
			f.offer(next)
			t.Logf("cut %d: %s runs, %s is offered", i, match[1], next)
		}
		switch i {
		case 2:
			f.Eventually(fillNVRAM, "No space left on device", time.Minute)
		case 4:
			must(t, os.Remove(filepath.Join(m.Config.Dir, "vars.fd")))
		case 6:
			f.Eventually(secondEntry, "second copy", 2*time.Minute)
			f.Eventually(ruinLoader+" && echo ruined", "ruined", time.Minute)
		}
		wait := time.Duration(random.Int64N(int64(40 * time.Second)))
		select {
		case <-time.After(wait):
		case <-m.Done():
			t.Fatalf("cut %d: the machine has ended by itself", i)
		}
		t.Logf("cut %d: after %s", i, wait.Round(time.Second/10))
		m.PowerCut()
	}
	p.build(p.newLoader("0.3.0", "9"))
	f.offer("0.3.0")
	f.Eventually("updatectl history | grep 'good *0.3.0'", "0.3.0", 10*time.Minute)
	t.Log(f.Run("updatectl history"))
	f.Eventually("sudo journalctl -b -u coracle-health --no-pager", "is started the next time, on trial", time.Minute)
	m.PowerCut()
	f.Eventually("sudo journalctl -b -u coracle-health --no-pager", "has started this machine", machine.BootTimeout)
	if got := f.Run(bothLoaders); got != "both" {
		t.Errorf("the copies of the boot loader: %s", got)
	}
}
