package condition

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/specifier"
)

// system is a machine made of a map.
type system struct {
	fstest.MapFS
	virt string
}

func (s system) IsMountPoint(p string) bool { return p == "/mnt" }
func (s system) IsReadWrite(p string) bool  { return strings.HasPrefix(p, "/var") }
func (s system) CommandLine() string        { return `ro console=ttyS0 quiet "a b=c d" x-y` }
func (s system) Virtualization() string     { return s.virt }
func (s system) InContainer() bool          { return s.virt == "docker" }
func (s system) FirstBoot() bool            { return true }
func (s system) Host() specifier.Host {
	return specifier.Host{Hostname: "box1", MachineID: "0123", Arch: "x86-64", Kernel: "6.12.30-amd64"}
}
func (s system) Getenv(n string) (string, bool) { return "v", n == "N" }
func (s system) MemoryBytes() uint64            { return 2 << 30 }
func (s system) CPUs() int                      { return 2 }

func TestConditions(t *testing.T) {
	sys := system{fstest.MapFS{
		"etc/f": {Data: []byte("x")}, "etc/empty": {}, "etc/run": {Data: []byte("x"), Mode: 0o755}, "var/d/f": {},
		"etc/link": {Data: []byte("f"), Mode: fs.ModeSymlink}, "etc/dangling": {Data: []byte("no"), Mode: fs.ModeSymlink}, "mnt": {Mode: fs.ModeDir},
	}, "kvm"}
	for text, want := range map[string]bool{
		"PathExists=/etc/f": true, "PathExists=/etc/no": false, "PathExists=!/etc/no": true, "PathExists=/etc/link": true,
		"PathExists=/etc/dangling": false, "PathExistsGlob=/etc/*pty": true, "PathExistsGlob=/etc/q*": false, "PathIsDirectory=/etc": true,
		"PathIsSymbolicLink=/etc/link": true, "PathIsSymbolicLink=/etc/f": false, "PathIsMountPoint=/mnt": true, "PathIsReadWrite=/var/d": true,
		"PathIsReadWrite=/etc": false, "DirectoryNotEmpty=/var/d": true, "DirectoryNotEmpty=/etc/f": false, "FileNotEmpty=/etc/f": true,
		"FileNotEmpty=/etc/empty": false, "FileIsExecutable=/etc/run": true, "FileIsExecutable=/etc/f": false, "FileNotEmpty=/etc": false,
		"KernelCommandLine=console": true, "KernelCommandLine=console=ttyS0": true, "KernelCommandLine=console=ttyS1": false,
		"KernelCommandLine=quiet": true, "KernelCommandLine=qui": false, "KernelCommandLine=x_y": false, "KernelCommandLine=x-y": true,
		"Virtualization=vm": true, "Virtualization=yes": true, "Virtualization=no": false, "Virtualization=kvm": true, "Virtualization=container": false,
		"Host=box*": true, "Host=0123": true, "Host=other": false, "Architecture=x86-64": true, "FirstBoot=yes": true, "User=root": true,
		"Environment=N": true, "Environment=N=v": true, "Environment=M": false, "Memory=1G": true, "Memory=>4G": false, "CPUs=>=2": true, "CPUs=<2": false,
		"KernelVersion=>=6.1": true, "KernelVersion=>= 6.9": true, "KernelVersion=<6.2": false, "KernelVersion=6.12.*": true, "ACPower=yes": false,
	} {
		kind, value, _ := strings.Cut(text, "=")
		value, negate := strings.CutPrefix(value, "!")
		if have := Test([]unit.Condition{{Kind: kind, Value: value, Negate: negate}}, sys); have.OK != want {
			t.Errorf("Condition%s: %v, want %v", text, have.OK, want)
		}
	}
}

func TestSeveral(t *testing.T) {
	sys := system{fstest.MapFS{"a": {Data: []byte("x")}}, "none"}
	yes := unit.Condition{Kind: "PathExists", Value: "/a"}
	no := unit.Condition{Kind: "PathExists", Value: "/b"}
	maybe := func(c unit.Condition) unit.Condition { c.Trigger = true; return c }
	for i, c := range []struct {
		list []unit.Condition
		want bool
	}{
		{nil, true}, {[]unit.Condition{yes, yes}, true}, {[]unit.Condition{yes, no}, false},
		{[]unit.Condition{maybe(no), maybe(yes)}, true}, {[]unit.Condition{maybe(no), maybe(no)}, false},
		{[]unit.Condition{yes, maybe(no)}, false}, {[]unit.Condition{no, maybe(yes)}, false},
	} {
		if have := Test(c.list, sys); have.OK != c.want {
			t.Errorf("%d: %v (%s), want %v", i, have.OK, have, c.want)
		}
	}
}
