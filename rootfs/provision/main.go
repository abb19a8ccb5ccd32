package provision

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/rootfs/provision/apply"
	"github.com/coracle-os/coracle/rootfs/provision/format"
	"github.com/coracle-os/coracle/rootfs/provision/owned"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
	"github.com/coracle-os/coracle/rootfs/provision/try"
	"github.com/coracle-os/coracle/rootfs/userdata"
	"github.com/coracle-os/coracle/rootfs/userdata/configdrive"
	"github.com/coracle-os/coracle/rootfs/userdata/openstack"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

// Files of a run.
const (
	SummaryPath = "/run/coracle/provision.json"
	lockPath    = "/run/coracle/provision.lock"
)

const usage = `Usage: coreos-cloudinit [OPTION...]

Applies the user-data of this machine, from every place where there is some; or
only from the one place that an option names.

`

// options are the command line. Those of coreos-cloudinit that this machine has
// a use for have its names.
type options struct {
	file, url, configDrive string
	procCmdline            bool
	workspace, keyName     string
	validate, dryRun       bool
	ignoreFailure          bool
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("coreos-cloudinit", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	flags.StringVar(&o.file, "from-file", "", "read user-data from `FILE`; \"-\" is the standard input")
	flags.StringVar(&o.url, "from-url", "", "read user-data from an http or https `URL`")
	flags.StringVar(&o.configDrive, "from-configdrive", "", "read a mounted config drive in `DIR`, or the one on a block device")
	flags.BoolVar(&o.procCmdline, "from-proc-cmdline", false, "read user-data from cloud-config-url= of the kernel command line")
	flags.StringVar(&o.workspace, "workspace", "/var/lib/coreos-cloudinit", "keep scripts in `DIR`")
	flags.StringVar(&o.keyName, "ssh-key-name", "coreos-cloudinit", "`NAME` of the set of SSH keys that is replaced")
	flags.BoolVar(&o.validate, "validate", false, "print what is wrong with the user-data and apply nothing; exit 1 if anything is")
	flags.BoolVar(&o.dryRun, "dry-run", false, "print the steps, each with what it would change here, and apply nothing")
	flags.BoolVar(&o.ignoreFailure, "ignore-failure", false, "exit 0 whatever happens")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		flags.Usage()
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return o, nil
}

// explicit tells whether an option names the source, as a person does; without
// one it is the boot.
func (o options) explicit() bool {
	return o.file != "" || o.url != "" || o.configDrive != "" || o.procCmdline
}

// Main is the program coreos-cloudinit.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	o, err := parse(args[1:], stdio.Err)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stdio.Err, "coreos-cloudinit: %v\n", err)
		return 2
	}
	ok, err := run(ctx, o, stdio)
	if err != nil {
		fmt.Fprintf(stdio.Err, "coreos-cloudinit: %v\n", err)
	}
	if (err != nil || !ok) && !o.ignoreFailure {
		return 1
	}
	return 0
}

// run returns whether everything is well.
func run(ctx context.Context, o options, stdio program.Stdio) (ok bool, err error) {
	began := time.Now()
	p, err := o.provisioner(ctx, stdio)
	if err != nil {
		return false, err
	}
	if o.validate {
		return validate(ctx, p, stdio.Out), nil
	}
	if o.dryRun {
		p.Say = func(line string) { fmt.Fprintln(stdio.Out, line) }
		executor := NewExecutor(o.workspace, o.keyName)
		p.Users, _ = owned.Load(p.Root) // one that cannot be read removes nobody
		p.Compare = func(step plan.Step) apply.Comparison { return executor.Compare(ctx, step) }
		p.Ask = askBy(fetchProgram, p.Say)
		return !p.Run(ctx).Failed(), nil
	}
	unlock, err := Lock()
	if err != nil {
		return false, err
	}
	defer unlock()
	console := io.Discard
	if !o.explicit() {
		w, err := os.OpenFile("/dev/console", os.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
		if err == nil {
			defer w.Close()
			console = w
		}
	}
	p.Say = func(line string) {
		fmt.Fprintf(stdio.Err, "coreos-cloudinit: %s\n", line)
		fmt.Fprintf(console, "coreos-cloudinit: %s\r\n", line)
	}
	p.Executor = NewExecutor(o.workspace, o.keyName)
	if p.Users, err = owned.Load("/"); err != nil {
		p.Say("warning: " + err.Error() + "; no user is removed")
	}
	if !o.explicit() {
		p.Services = "services.target"
		p.Ignition = ignitionBy(fetchProgram, func(line string) { fmt.Fprintf(stdio.Err, "ignition: %s\n", line) })
		takeBack(ctx, p)
	}
	name := p.Platform
	p.Ask = askBy(fetchProgram, p.Say)
	summary := p.Run(ctx)
	summary.Millis = time.Since(began).Milliseconds()
	if !o.explicit() {
		if err := reportBy(ctx, fetchProgram, name, p.askFailure()); err != nil {
			p.Say(fmt.Sprintf("warning: %v; %s may think that the machine did not start", err, name))
		}
		if err := writeMetadata(MetadataPath, p.metadata); err != nil {
			p.Say("warning: " + err.Error())
		}
	}
	return !summary.Failed(), writeSummary(SummaryPath, summary)
}

// takeBack takes back a change that was being tried when the machine stopped.
func takeBack(ctx context.Context, p *Provisioner) {
	tried, err := try.Open(filepath.Join(p.Root, try.Dir))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		p.Say(fmt.Sprintf("the machine stopped while %s was tried and not confirmed: it is taken back", tried.Head.Name))
		err = tried.Revert(ctx, p.Executor, true, func(o apply.Outcome) {
			if o.Result == apply.Changed {
				p.Say(o.Step.Action.String())
			}
		})
	}
	if err != nil {
		p.Say(fmt.Sprintf("error: take back %s: %v; look at what it changed", try.Dir, err))
	}
}

// provisioner finds the sources.
func (o options) provisioner(ctx context.Context, stdio program.Stdio) (*Provisioner, error) {
	p := &Provisioner{
		Root: "/", Interfaces: interfaces, WaitNetwork: waitNetwork,
		Fetch:    fetchBy(fetchProgram, fetchArgument),
		Hostname: func() string { name, _ := os.Hostname(); return name },
		Say:      func(string) {},
	}
	if o.explicit() {
		source, err := o.source(ctx, stdio.In)
		p.Sources = source
		if err == nil && o.url != "" {
			p.URL = o.url
		}
		if o.procCmdline {
			p.URL, _ = userdata.URL(commandLine())
		}
		return p, err
	}
	places := userdata.Places{Root: "/", Devices: func() []string { return userdata.BlockDevices("/") }, LoadModule: loadModule}
	p.Sources = places.Find(ctx)
	p.URL, _ = userdata.URL(commandLine())
	name, problem := platform.Choose(platform.ReadDMI(os.DirFS("/sys")), commandLine())
	p.Platform = name
	if problem != "" {
		p.Sources = append([]userdata.Source{{Name: "kernel command line", Notes: []string{problem}}}, p.Sources...)
	}
	return p, nil
}

// source reads the source on this machine that an option names.
func (o options) source(ctx context.Context, stdin io.Reader) ([]userdata.Source, error) {
	switch {
	case o.file == "-":
		data, err := io.ReadAll(io.LimitReader(stdin, cloudconfig.MaxSize+1))
		return []userdata.Source{{Name: "standard input", Data: data}}, err
	case o.file != "":
		data, err := os.ReadFile(o.file)
		return []userdata.Source{{Name: o.file, Data: data}}, err
	case o.configDrive != "":
		return o.drive(ctx)
	}
	return nil, nil
}

func (o options) drive(ctx context.Context) ([]userdata.Source, error) {
	info, err := os.Stat(o.configDrive)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		files, err := configdrive.Read(os.DirFS(o.configDrive), openstack.DriveFiles()...)
		return []userdata.Source{userdata.FromPlatform(o.configDrive, openstack.ParseDrive(files), err)}, nil
	}
	return []userdata.Source{userdata.ConfigDrive(ctx, o.configDrive)}, nil
}

// validate prints what the original's validator prints, and besides it what a
// syntax error costs.
func validate(ctx context.Context, p *Provisioner, out io.Writer) (valid bool) {
	sources := p.Sources
	if p.URL != "" {
		sources = append(sources, p.fetch(ctx))
	}
	valid = true
	say := func(text string) {
		valid = false
		fmt.Fprintln(out, text)
	}
	for _, source := range sources {
		data, err := cloudconfig.Gunzip(source.Data)
		if err = errors.Join(source.Err, err); err != nil {
			say("line 0: error: " + err.Error())
			continue
		}
		report := cloudconfig.Validate(data)
		if cloudconfig.Detect(data) == cloudconfig.KindMultipart {
			_, report = format.Multipart(data, cloudconfig.Facts{})
		}
		for _, entry := range report {
			say(entry.String())
		}
	}
	return valid
}

// Lock keeps two runs apart, of this program and of those that change the
// configuration of a running machine.
func Lock() (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(lockPath), 0o755); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	f, err := os.OpenFile(lockPath, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w; another coreos-cloudinit is at work, try again when it is done", lockPath, err)
	}
	return func() { f.Close() }, nil
}

func writeSummary(path string, summary Summary) error {
	data, err := json.MarshalIndent(summary, "", "  ")
	if err != nil {
		return fmt.Errorf("write summary: %w", err)
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write summary: %w", err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("write summary: %w", err)
	}
	return nil
}
