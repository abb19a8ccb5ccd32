package updatemodel

import (
	"bytes"
	"context"
	"encoding/hex"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/update"
	"github.com/coracle-os/coracle/agents/update/engine"
	"github.com/coracle-os/coracle/agents/update/slots"
	"github.com/coracle-os/coracle/agents/update/store"
	"github.com/coracle-os/coracle/image/gpt"
	"github.com/coracle-os/coracle/image/uki"
	"github.com/coracle-os/coracle/image/verity"
	"github.com/coracle-os/coracle/initrd/entries"
	"github.com/coracle-os/coracle/rootfs/updatectl"
	"github.com/coracle-os/coracle/tools/tufrepo"
)

const mib = 1 << 20

var sizes = gpt.Sizes{BIOSBoot: mib, ESP: mib, Root: 2 * mib, RootVerity: mib, OEM: mib, State: mib}

// system is one release with all its bytes.
type system struct {
	version, rootHash string
	root, tree, uki   []byte
}

// newSystem makes a release whose root differs from that of seed 0 in about a
// part of its blocks.
func newSystem(t testing.TB, version string, blocks int, changed uint64) system {
	t.Helper()
	root := make([]byte, blocks*verity.BlockSize)
	base := rand.NewChaCha8([32]byte{1})
	base.Read(root)
	random := rand.New(rand.NewPCG(changed, 1))
	for range blocks / 3 {
		if changed > 0 {
			b := random.IntN(blocks)
			rand.NewChaCha8([32]byte{byte(changed), byte(b)}).Read(root[b*verity.BlockSize:][:verity.BlockSize])
		}
	}
	clear(root[5*verity.BlockSize : 9*verity.BlockSize])
	return systemOf(t, version, root, changed)
}

// systemOf makes a release with this root.
func systemOf(t testing.TB, version string, root []byte, seed uint64) system {
	t.Helper()
	s := system{version: version, root: root}
	tree := &disk{data: make([]byte, verity.TreeSize(int64(len(root)))), log: &recorder{}}
	hash, err := verity.Format(bytes.NewReader(root), int64(len(root)), tree, verity.Superblock{Salt: verity.Salt()})
	if err != nil {
		t.Fatal(err)
	}
	s.rootHash, s.tree = hex.EncodeToString(hash), tree.data
	s.uki = makeUKI(t, s.rootHash, seed)
	return s
}

func makeUKI(t testing.TB, rootHash string, seed uint64) []byte {
	t.Helper()
	stub, err := os.ReadFile("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")
	if err != nil {
		t.Fatal(err)
	}
	initrd := make([]byte, 100_000)
	rand.NewChaCha8([32]byte{9, byte(seed)}).Read(initrd)
	kernel := make([]byte, 200_000)
	rand.NewChaCha8([32]byte{8}).Read(kernel)
	b, err := uki.Build(stub, uki.Section{Name: ".cmdline", Data: []byte("roothash=" + rootHash + " panic=10")},
		uki.Section{Name: ".linux", Data: kernel}, uki.Section{Name: ".initrd", Data: initrd})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// clock is the machine's and the publisher's.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time      { c.mu.Lock(); defer c.mu.Unlock(); return c.t }
func (c *clock) add(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.t = c.t.Add(d) }
func newClock() *clock               { return &clock{t: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)} }
func quiet() *slog.Logger            { return slog.New(slog.DiscardHandler) }
func (s system) target() update.Target {
	return update.Target{Version: s.version, RootHash: s.rootHash}
}

// publisher is a repository on a web server.
type publisher struct {
	dir    string
	repo   *tufrepo.Repo
	url    string
	mu     sync.Mutex
	served int64
	limit  int64 // the server is gone after so many bytes; 0 is never
}

func newPublisher(t testing.TB, c *clock) *publisher {
	t.Helper()
	p := &publisher{dir: t.TempDir()}
	var err error
	if p.repo, err = tufrepo.Create(p.dir, filepath.Join(t.TempDir(), "keys"), 3, 2, c.now); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.repo.Close() })
	p.url = p.serve(t, p.dir)
	return p
}

// serve serves a directory, with the publisher's limit and count.
func (p *publisher) serve(t testing.TB, dir string) string {
	files := http.FileServer(http.Dir(dir))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		files.ServeHTTP(counter{w, p}, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

type counter struct {
	http.ResponseWriter
	p *publisher
}

func (c counter) Write(b []byte) (int, error) {
	if len(b) > 4096 { // small parts, so that a limit is met well
		n, err := c.Write(b[:4096])
		if err != nil {
			return n, err
		}
		m, err := c.Write(b[4096:])
		return n + m, err
	}
	c.p.mu.Lock()
	gone := c.p.limit > 0 && c.p.served > c.p.limit
	c.p.mu.Unlock()
	if gone {
		panic(http.ErrAbortHandler)
	}
	n, err := c.ResponseWriter.Write(b)
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.p.served += int64(n)
	return n, err
}

func (p *publisher) publish(t testing.TB, s system, o tufrepo.Options) {
	t.Helper()
	if o.Channel == "" {
		o.Channel = "stable"
	}
	_, err := p.repo.Publish(context.Background(), tufrepo.Build{
		Version: s.version, RootHash: s.rootHash, Root: bytes.NewReader(s.root), RootSize: int64(len(s.root)), UKI: s.uki,
		Manifest: []byte("{}\n"), SBOM: []byte("{}\n"),
	}, o)
	if err != nil {
		t.Fatal(err)
	}
}

// machine is one machine whose slot A runs a system.
type machine struct {
	log     *recorder
	disk    *disk
	esp     *espDir
	running system
	dir     string // of its files
	store   *store.Store
	clock   *clock
	deps    engine.Deps
	socket  string
	stop    func()
}

func newMachine(t testing.TB, running system, c *clock, p *publisher) *machine {
	t.Helper()
	hash, err := hex.DecodeString(running.rootHash)
	if err != nil {
		t.Fatal(err)
	}
	layout, err := gpt.Plan(sizes, hash, "model")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{log: &recorder{}, running: running, dir: t.TempDir(), clock: c}
	m.disk = &disk{data: make([]byte, layout.Size), log: m.log}
	if err := gpt.WriteTable(m.disk, layout); err != nil {
		t.Fatal(err)
	}
	a, _ := layout.Find(gpt.RootA)
	v, _ := layout.Find(gpt.RootAVerity)
	copy(m.disk.data[a.Start:], running.root)
	copy(m.disk.data[v.Start:], running.tree)
	m.esp = &espDir{files: map[string][]byte{"coracle-" + running.version + ".efi": running.uki}, size: 2 * mib, log: m.log}
	m.write(t, "etc/coreos/update.conf", "SERVER="+p.url+"\nCHECK_INTERVAL=1000h\n")
	root, err := os.ReadFile(p.repo.RootFile())
	if err != nil {
		root, err = os.ReadFile(filepath.Join(p.dir, p.repo.RootFile()))
	}
	if err != nil {
		t.Fatal(err)
	}
	m.write(t, "etc/coracle/tuf/root.json", string(root))
	m.store = store.New(filepath.Join(m.dir, "update.db"))
	m.log.ops = nil
	return m
}

func (m *machine) write(t testing.TB, name, text string) {
	t.Helper()
	file := filepath.Join(m.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// start boots the engine.
func (m *machine) start(t testing.TB) {
	t.Helper()
	m.socket = filepath.Join(t.TempDir(), "s")
	e := engine.New(engine.Deps{
		Root: m.dir, MachineID: "0123", Running: m.running.target(), Slot: "A", Store: m.store,
		TrustDir: filepath.Join(m.dir, "tuf"), SpareDir: filepath.Join(m.dir, "spare"),
		NeedReboot: filepath.Join(m.dir, "reboot-needed"), Now: m.clock.now, Log: quiet(),
		Disk: func() (slots.Disk, func() error, error) {
			return slots.Disk{File: m.disk, Size: int64(len(m.disk.data)), SectorSize: 512}, func() error { return nil }, nil
		},
		ESP: func(f func(entries.Dir) error) error { return f(m.esp) },
	})
	l, err := engine.Listen(m.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go e.Serve(ctx, l)
	go func() { defer close(done); _ = e.Run(ctx) }()
	var once sync.Once
	m.stop = func() { once.Do(func() { cancel(); l.Close(); <-done }) }
	t.Cleanup(m.stop)
}

// ask sends a request and returns what was said.
func (m *machine) ask(r updatectl.Request) (said string, last updatectl.Response, err error) {
	var all []string
	last, err = updatectl.Call(m.socket, r, func(r updatectl.Response) { all = append(all, r.Message) })
	return strings.Join(all, "\n"), last, err
}

func (m *machine) update(t testing.TB) string {
	t.Helper()
	said, _, err := m.ask(updatectl.Request{Verb: "check"})
	if err != nil {
		t.Fatalf("update: %v\n%s", err, said)
	}
	return said
}

// fails asks for an update that must fail with this in its message, and must
// not have touched the running slot or entry.
func (m *machine) fails(t testing.TB, want string) {
	t.Helper()
	said, _, err := m.ask(updatectl.Request{Verb: "check"})
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("update: %v, want an error with %q\n%s", err, want, said)
	}
	t.Logf("message: %v", err)
	m.checkRunning(t)
}

func (m *machine) checkRunning(t testing.TB) {
	t.Helper()
	now := &cut{m.disk.data, m.esp.files}
	if why := now.check(m.running); why != "" {
		t.Fatal(why)
	}
}

// untouched fails when anything was written to disk or ESP.
func (m *machine) untouched(t testing.TB) {
	t.Helper()
	if len(m.log.ops) > 0 {
		t.Errorf("%d operations reached the disk, want none; the first: %+v", len(m.log.ops), m.log.ops[0].name)
	}
}

// reboot makes the machine run what it has armed.
func (m *machine) reboot(t testing.TB, s system) {
	t.Helper()
	m.stop()
	m.running = s
	l, err := entries.List(m.esp)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := entries.PlanGood(l, s.rootHash)
	if err != nil {
		t.Fatal(err)
	}
	if err := entries.Apply(m.esp, steps, nil); err != nil {
		t.Fatal(err)
	}
	m.start(t)
}

func (m *machine) before() *cut {
	return &cut{bytes.Clone(m.disk.data), maps.Clone(m.esp.files)}
}
