package specifier

import (
	"io/fs"
	"runtime"
	"strings"

	"github.com/coracle-os/coracle/rootfs/unit/envfile"
)

// ReadHost fills a Host from the files of a running system. What cannot be
// read stays empty.
func ReadHost(fsys fs.FS) Host {
	read := func(p string) string {
		b, _ := fs.ReadFile(fsys, p)
		return strings.TrimSpace(string(b))
	}
	h := Host{
		MachineID: read("etc/machine-id"),
		BootID:    strings.ReplaceAll(read("proc/sys/kernel/random/boot_id"), "-", ""),
		Hostname:  read("proc/sys/kernel/hostname"),
		Kernel:    read("proc/sys/kernel/osrelease"),
		Arch:      map[string]string{"amd64": "x86-64", "386": "x86"}[runtime.GOARCH],
	}
	if h.Arch == "" {
		h.Arch = runtime.GOARCH
	}
	h.Pretty = envfile.Map([]byte(read("etc/machine-info")))["PRETTY_HOSTNAME"]
	release := read("etc/os-release")
	if release == "" {
		release = read("usr/lib/os-release")
	}
	h.OSRelease = envfile.Map([]byte(release))
	for _, line := range strings.Split(read("etc/passwd"), "\n") {
		if f := strings.Split(line, ":"); len(f) == 7 && f[2] == "0" {
			h.Shell = f[6]
			break
		}
	}
	return h
}
