package diskinstall

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coracle-os/coracle/agents/diskinstall/source"
	"github.com/coracle-os/coracle/agents/diskinstall/target"
	"github.com/coracle-os/coracle/agents/update/engine"
	"github.com/coracle-os/coracle/agents/update/fetch"
	"github.com/coracle-os/coracle/image/livename"
	"github.com/coracle-os/coracle/image/release"
	"github.com/coracle-os/coracle/initrd/bootinfo"
	"github.com/coracle-os/coracle/rootfs/program"
	userdata "github.com/coracle-os/coracle/rootfs/userdata/fetch"
)

const usage = `Usage: coracle-install -d DISK [-c FILE | -i FILE] [-f IMAGE | -C CHANNEL [-V VERSION]]
Writes Coracle to DISK; all that it holds is lost. Without -f and -C, a live system writes
the release that it runs. IMAGE and FILE may be http(s) addresses; IMAGE is raw, raw.zst or
a bundle. A disk that is in use or too small is refused.
`

// options are what the command line or the kernel's says.
type options struct {
	disk, cloudConfig, ignition, config string
	file, digest                        string
	channel, version, server, trust     string
	loader                              string
	unattended                          bool
	report, after                       string
}

// errUsage says that the command line is not understood and that this was said.
var errUsage = errors.New("usage")

// Main runs coracle-install.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	o, err := parse(args[1:], stdio.Err)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	if o.unattended {
		err = unattended(ctx, stdio)
	} else {
		err = run(ctx, o, stdio)
	}
	if err != nil {
		fmt.Fprintf(stdio.Err, "coracle-install: %v\n", err)
		return 1
	}
	return 0
}

func parse(args []string, errOut io.Writer) (o options, err error) {
	f := flag.NewFlagSet("coracle-install", flag.ContinueOnError)
	f.SetOutput(errOut)
	f.Usage = func() {
		fmt.Fprint(errOut, usage)
		f.PrintDefaults()
	}
	f.StringVar(&o.disk, "d", "", "the `disk` to write to, such as /dev/sda")
	f.StringVar(&o.cloudConfig, "c", "", "a cloud-config `file` for the machine")
	f.StringVar(&o.ignition, "i", "", "an Ignition `file` for the machine")
	f.StringVar(&o.file, "f", "", "the `image` to write")
	f.StringVar(&o.digest, "sha256", "", "`digest` of the image; without it that of manifest.json beside it")
	f.StringVar(&o.channel, "C", "", "`channel` whose release is written")
	f.StringVar(&o.version, "V", "", "`version`, if not the channel's newest")
	f.StringVar(&o.server, "server", "", "`address` of the releases; without it that of update.conf")
	f.StringVar(&o.trust, "root", "", "`file` with the publisher's root.json; without it the one that the system trusts")
	f.StringVar(&o.loader, "loader", "", "`file` with systemd-boot; without it the live system's, or Debian's")
	f.BoolVar(&o.unattended, "unattended", false, "do what the kernel's arguments say (coracle.install=)")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	problem := ""
	switch {
	case f.NArg() > 0:
		problem = fmt.Sprintf("unexpected argument %q", f.Arg(0))
	case o.disk == "" && !o.unattended:
		problem = "name the disk with -d"
	case o.cloudConfig != "" && o.ignition != "":
		problem = "give -c or -i, not both"
	case o.version != "" && o.channel == "":
		problem = "-V goes with -C"
	}
	if problem != "" {
		fmt.Fprintf(errOut, "coracle-install: %s\n", problem)
		f.Usage()
		return o, errUsage
	}
	return o, nil
}

// run does one installation.
func run(ctx context.Context, o options, stdio program.Stdio) error {
	if os.Geteuid() != 0 {
		return errors.New("writing to a disk needs root's rights: use sudo")
	}
	config, err := o.readConfig(ctx)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "coracle-install-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	from, closeBundle, err := o.source(scratch, stdio)
	if err != nil {
		return err
	}
	defer closeBundle()
	if err := target.InUse("/sys", "/proc", o.disk); err != nil {
		return err
	}
	disk, closeDisk, err := target.Open(o.disk)
	if err != nil {
		return err
	}
	p := &progress{out: stdio.Out, now: time.Now}
	job := Job{Source: from, Disk: disk, Config: config, Progress: p.report, Mount: target.Mount,
		Say: func(format string, args ...any) { fmt.Fprintf(stdio.Out, format+"\n", args...) }}
	if config != nil {
		for _, note := range config.Notes {
			job.Say("configuration: %s", note)
		}
	}
	return errors.Join(job.Run(ctx), closeDisk())
}

// readConfig reads and checks the configuration before anything is written.
func (o options) readConfig(ctx context.Context) (*Config, error) {
	for _, c := range []struct {
		name  string
		check func([]byte) (*Config, error)
	}{{o.cloudConfig, CloudConfig}, {o.ignition, Ignition}, {o.config, AnyConfig}} {
		if c.name == "" {
			continue
		}
		var content []byte
		var err error
		if source.IsURL(c.name) {
			content, err = userdata.Getter{}.Get(ctx, c.name)
		} else {
			content, err = os.ReadFile(c.name)
		}
		if err != nil {
			return nil, fmt.Errorf("read the configuration: %w", err)
		}
		config, err := c.check(content)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		return config, nil
	}
	return nil, nil
}

// source is where the release comes from.
func (o options) source(scratch string, stdio program.Stdio) (from source.Source, close func() error, err error) {
	close = func() error { return nil }
	if o.file == "" && o.channel == "" {
		return &source.Running{BootInfo: bootinfo.Path, OSRelease: "/usr/lib/os-release", Root: "/dev/mapper/root"}, close, nil
	}
	settings, err := engine.ReadConfig("/", os.Environ())
	if err != nil {
		return nil, nil, err
	}
	r := &source.Release{Channel: o.channel, Version: o.version, Trust: settings.Root, Loader: o.loaderFile(), Dir: filepath.Join(scratch, "trust"),
		Now: time.Now, Log: slog.New(slog.NewTextHandler(stdio.Err, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	if o.trust != "" {
		if r.Trust, err = os.ReadFile(o.trust); err != nil {
			return nil, nil, fmt.Errorf("read trusted root metadata: %w", err)
		}
	}
	if o.file != "" {
		b, closeFile, err := openBundle(o.file)
		if err != nil {
			return nil, nil, err
		}
		if b == nil {
			return &source.Image{Name: o.file, Digest: o.digest}, close, nil
		}
		close = closeFile
		if r.Channel == "" {
			if r.Channel, err = bundleChannel(b); err != nil {
				return nil, nil, err
			}
		}
		r.Mirrors = []fetch.Mirror{fetch.Bundle{Bundle: b, Label: o.file}}
	} else {
		if o.server != "" {
			settings.Servers = []string{o.server}
		}
		if r.Mirrors, err = settings.Mirrors(); err != nil {
			return nil, nil, err
		}
		if len(r.Mirrors) == 0 {
			return nil, nil, errors.New("no server of releases is configured: name it with -server")
		}
	}
	if r.Trust == nil {
		return nil, nil, errors.New("there is no trusted root metadata: give the publisher's root.json with -root")
	}
	return r, close, nil
}

// loaderFile is where systemd-boot is.
func (o options) loaderFile() string {
	if o.loader != "" {
		return o.loader
	}
	if info, err := bootinfo.Read(bootinfo.Path); err == nil && info.BootFiles != "" {
		return filepath.Join(info.BootFiles, livename.Loader)
	}
	return "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"
}

// openBundle opens a file if it is a bundle; nil if it is something else.
func openBundle(name string) (*release.Bundle, func() error, error) {
	if source.IsURL(name) {
		return nil, nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, fmt.Errorf("open image: %w", err)
	}
	// A tar has its magic at byte 257; a bundle begins with a file of its name.
	head := make([]byte, 512)
	if _, err := io.ReadFull(f, head); err != nil || string(head[257:262]) != "ustar" || !strings.HasPrefix(string(head), "coracle-bundle") {
		return nil, nil, f.Close()
	}
	info, err := f.Stat()
	if err == nil {
		var b *release.Bundle
		if b, err = release.OpenBundle(f, info.Size()); err == nil {
			return b, f.Close, nil
		}
	}
	f.Close()
	return nil, nil, err
}

// bundleChannel is the channel of a bundle that has one.
func bundleChannel(b *release.Bundle) (string, error) {
	var channels []string
	for _, name := range b.Names() {
		if rest, ok := strings.CutPrefix(name, "targets/channels/"); ok {
			// With consistent snapshots the digest is in front of the name.
			if _, base, ok := strings.Cut(filepath.Base(rest), "."); ok {
				channels = append(channels, strings.TrimSuffix(base, ".json"))
			}
		}
	}
	if len(channels) != 1 {
		return "", fmt.Errorf("the bundle has %d channels (%s): name one with -C", len(channels), strings.Join(channels, ", "))
	}
	return channels[0], nil
}
