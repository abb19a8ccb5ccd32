package qemutests

import (
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

	"github.com/coracle-os/coracle/qemu-tests/machine"
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
	_, err = p.repo.Publish(p.t.Context(), *b, tufrepo.Options{Channel: channel})
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

// TestUpdates takes one machine through good and bad releases: A to B to A, and
// back to B when A is damaged.
func TestUpdates(t *testing.T) {
	t.Parallel()
	p := newPublisher(t)
	m := machine.Boot(t, machine.Options{UserData: p.userData(), DiskSize: 6 << 30, Allow: regexp.MustCompile(`Kernel panic`)})
	p.build(variant.Next("0.2.0"))
	f := &follower{m, p, t}
	f.runs("0.1.0", "A")
	f.offer("0.2.0")
	f.runs("0.2.0", "B")
	t.Logf("update to another os-release: %d bytes sent", p.sent.Load())

	p.build(variant.Panic("0.3.0"))
	f.fails("0.3.0", "0.2.0", "B", "crashed or hung", "Kernel panic", 3)
	p.build(variant.Empty("0.3.1"))
	f.fails("0.3.1", "0.2.0", "B", "crashed or hung", "boot failed: switch root", 3)
	p.build(variant.Hang("0.3.2"))
	f.fails("0.3.2", "0.2.0", "B", "crashed or hung", "Linux version", 4) // and the one that is back
	p.build(variant.Empty("0.3.3"))
	f.damaged("0.3.3", "0.2.0", "B")
	p.build(variant.Unhealthy("0.4.0"))
	f.fails("0.4.0", "0.2.0", "B", "/usr/bin/false", "health check failed.*rebooting", 3)
	p.build(variant.Next("0.5.0"))
	f.Run("sudo systemctl stop locksmithd")
	f.offer("0.5.0")
	f.Eventually("updatectl status", "pending-reboot", 5*time.Minute)
	t.Log("update-engine: ", f.Run("grep VmHWM /proc/$(systemctl show -p MainPID --value update-engine)/status"))
	f.Exec("core", "sudo systemctl reboot")
	f.runs("0.5.0", "A")
	f.destroyed("/dev/vda3", "0.5.0", "0.2.0", "B")
}

// damaged arms a release, destroys its UKI on the ESP before the restart, and
// waits until the machine is back without a hand on it.
func (f *follower) damaged(version, back, slot string) {
	f.t.Helper()
	f.Run("sudo systemctl stop locksmithd")
	f.offer(version)
	f.Eventually("updatectl status", "pending-reboot", 5*time.Minute)
	f.Run("sudo mount -t vfat /dev/vda2 /mnt && sudo dd if=/dev/zero of=/mnt/EFI/Linux/coracle-" + version + "+3-0.efi bs=4096 count=1 conv=notrunc && sudo umount /mnt")
	f.Exec("core", "sudo systemctl reboot")
	f.Eventually(`updatectl history | grep "fallback *`+version+`"`, "firmware or the boot loader refused it", 5*time.Minute)
	f.runs(back, slot)
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

// TestPowerCuts cuts the power at 20 random moments of updates back and forth.
// The machine comes up every time, and takes the next release in the end.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	const cuts = 20
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	p := newPublisher(t)
	p.publish(filepath.Dir(machine.Image(t)), "built-0-1-0")
	p.build(variant.Next("0.2.0"))
	m := machine.Boot(t, machine.Options{UserData: p.userData(), DiskSize: 6 << 30})
	f := &follower{m, p, t}
	running := regexp.MustCompile(`Running: *(\S+) in slot`)
	for i := range cuts {
		if i%2 == 0 { // offer the version that does not run
			match := running.FindStringSubmatch(f.Eventually("updatectl status", "in slot", machine.BootTimeout))
			next := map[string]string{"0.1.0": "0.2.0", "0.2.0": "0.1.0"}[match[1]]
			f.offer(next)
			t.Logf("cut %d: %s runs, %s is offered", i, match[1], next)
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
	p.build(variant.Next("0.3.0"))
	f.offer("0.3.0")
	f.Eventually("updatectl history | grep 'good *0.3.0'", "0.3.0", 10*time.Minute)
	t.Log(f.Run("updatectl history"))
}
