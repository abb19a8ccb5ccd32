package firstboot

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/initrd/bootinfo"
	"github.com/coracle-os/coracle/rootfs/ignition"
	"github.com/coracle-os/coracle/rootfs/ignition/detect"
	"github.com/coracle-os/coracle/rootfs/ignition/fetch"
	"github.com/coracle-os/coracle/rootfs/ignition/files"
	"github.com/coracle-os/coracle/rootfs/ignition/storage"
	"github.com/coracle-os/coracle/rootfs/machine"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/rootfs/userdata"
	"github.com/coracle-os/coracle/rootfs/userdata/metadata"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

const usage = `Usage: ignition [OPTION]

Sets the machine up by its Ignition config, on its first boot only.

`

type options struct {
	devices        bool
	validate, fsck string
	config         string
}

// Main is the program ignition.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	var o options
	flags := flag.NewFlagSet("ignition", flag.ContinueOnError)
	flags.SetOutput(stdio.Err)
	flags.Usage = func() {
		fmt.Fprint(stdio.Err, usage)
		flags.PrintDefaults()
	}
	flags.BoolVar(&o.devices, "devices", false, "open the volumes and assemble the arrays that the first boot made")
	flags.StringVar(&o.validate, "validate", "", "say what is wrong with the config in `FILE`, and apply nothing; \"-\" is the standard input")
	flags.StringVar(&o.config, "config", "", "apply the config on the standard input, which is from `NAME`, if this machine waits for it")
	flags.StringVar(&o.fsck, "fsck", "", "check the file system on `DEVICE`")
	err := flags.Parse(args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil || flags.NArg() > 0:
		return 2
	}
	if err := run(ctx, o, stdio); err != nil {
		fmt.Fprintf(stdio.Err, "ignition: %v\n", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, o options, stdio program.Stdio) error {
	say := func(line string) { fmt.Fprintln(stdio.Err, line) }
	system := storage.System{Root: "/", Run: runProgram, LoadModule: loadModule, Say: say, Memory: int64(machine.Machine{}.MemoryBytes())}
	switch {
	case o.validate != "":
		return validate(ctx, o.validate, stdio)
	case o.devices:
		return (&storage.Executor{System: system}).Open(ctx)
	case o.fsck != "":
		return fsck(ctx, system, o.fsck)
	}
	console, err := os.OpenFile("/dev/console", os.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err == nil {
		defer console.Close()
		system.Say = func(line string) {
			say(line)
			fmt.Fprintf(console, "ignition: %s\r\n", line)
		}
	}
	runner := newRunner(system)
	if o.config != "" {
		data, err := io.ReadAll(stdio.In)
		if err != nil {
			return fmt.Errorf("read the config: %w", err)
		}
		runner.Late = true
		runner.Find = func(context.Context) ([]Source, error) { return []Source{{Name: o.config, Data: data}}, nil }
	}
	err = runner.Run(ctx)
	if err != nil && console != nil {
		fmt.Fprintf(console, "ignition: %s\r\n", strings.ReplaceAll(err.Error(), "\n", "\r\n"))
	}
	return err
}

// newRunner is the run on this machine.
func newRunner(system storage.System) *Runner {
	line := text("/proc/cmdline")
	name, problem := platform.Choose(platform.ReadDMI(os.DirFS("/sys")), line)
	if problem != "" {
		system.Say(problem)
	}
	fetcher := &fetch.Fetcher{Say: system.Say}
	fetcher.Credentials = credentials{name}
	waited := sync.OnceFunc(func() { waitNetwork(context.Background()) })
	r := &Runner{Root: "/", Fetcher: fetcher, Network: func(context.Context) { waited() }, Start: start(system.Say),
		BootID: text("/proc/sys/kernel/random/boot_id"), Say: system.Say}
	r.SetUp = detect.SetUp("/")
	if info, err := bootinfo.Read(bootinfo.Path); err == nil && info.VolatileState && info.Live == "" {
		r.Lost = strings.Join(info.Notices, "; ")
	}
	asker := metadata.System()
	asker.Client.Say = system.Say
	r.Find = finder{root: "/", commandLine: line, fetch: waiting{r}.Fetch, platform: name,
		places: userdata.Places{Root: "/", Devices: func() []string { return userdata.BlockDevices("/") }, LoadModule: loadModule},
		ask: func(ctx context.Context, name platform.Name) (platform.Result, error) {
			if name.NeedsNetwork() {
				waited()
			}
			ctx, cancel := context.WithTimeout(ctx, metadata.FetchLimit)
			defer cancel()
			return asker.Ask(ctx, name)
		}}.find
	steps := &executor{root: "/", say: system.Say,
		files:   files.Executor{Root: "/", Contents: r.Contents, Now: time.Now},
		storage: storage.Executor{System: system, Contents: r.Contents}}
	r.Do = steps.do
	return r
}

// validate prints what is wrong with a config.
func validate(ctx context.Context, path string, stdio program.Stdio) error {
	data, err := io.ReadAll(stdio.In)
	if path != "-" {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return err
	}
	doc := ignition.Compile(ctx, path, data, nil)
	for _, p := range doc.Plan.Problems.Sorted() {
		fmt.Fprintln(stdio.Out, p)
	}
	if !doc.Valid() {
		return fmt.Errorf("%s: %w", path, ignition.ErrInvalid)
	}
	return nil
}

// fsck checks a file system before it is mounted, where its kind needs that.
func fsck(ctx context.Context, system storage.System, device string) error {
	if err := system.Links(); err != nil {
		return err
	}
	f, err := os.Open(device)
	if err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		var found storage.Found
		if found, err = storage.Probe(f, size); err == nil && !strings.HasPrefix(found.Kind, "ext") {
			f.Close()
			return nil
		}
	}
	f.Close()
	if err != nil {
		return err
	}
	err = system.Run(ctx, "/usr/sbin/e2fsck", "-p", device)
	var e exitError
	if errors.As(err, &e) && e.code == 1 {
		return nil // it had errors and has none now
	}
	return err
}
