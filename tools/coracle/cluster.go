package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/tools/cluster"
)

// examples are user-data for clusters, by role.
//
//go:embed examples/*.yaml
var examples embed.FS

const clusterUsage = `Usage: coracle cluster up [FLAG...]           make the cluster, or start what of it does not run
       coracle cluster status                 what runs, and how to get there
       coracle cluster ssh N [COMMAND...]     log in to machine N, or run a command there
       coracle cluster down [-remove]         switch the machines off; with -remove, nothing stays
coracle cluster up -h and the others' explain their flags.
`

// cmdCluster is the command for clusters on this computer.
func cmdCluster(ctx context.Context, args []string, stdio program.Stdio) error {
	if len(args) == 0 {
		fmt.Fprint(stdio.Err, clusterUsage)
		return errUsage
	}
	switch args[0] {
	case "up":
		return clusterUp(ctx, args[1:], stdio)
	case "status":
		return clusterStatus(args[1:], stdio)
	case "ssh":
		return clusterSSH(ctx, args[1:], stdio)
	case "down":
		return clusterDown(ctx, args[1:], stdio)
	case "-h", "-help", "--help", "help":
		fmt.Fprint(stdio.Out, clusterUsage)
		return nil
	}
	fmt.Fprintf(stdio.Err, "coracle cluster: no command %q\n%s", args[0], clusterUsage)
	return errUsage
}

// clusterFlags begins the flags of a subcommand with what all have.
func clusterFlags(name string, stdio program.Stdio) (*flag.FlagSet, *string) {
	flags := flag.NewFlagSet("coracle cluster "+name, flag.ContinueOnError)
	flags.SetOutput(stdio.Err)
	return flags, flags.String("dir", "build/cluster", "`directory` of the cluster")
}

// clusterIn tells what happens on the standard error.
func clusterIn(dir string, stdio program.Stdio) cluster.Cluster {
	return cluster.Cluster{Dir: dir, Log: func(format string, args ...any) { fmt.Fprintf(stdio.Err, format+"\n", args...) }}
}

type clusterOptions struct {
	image, userData, layout string
	machines, memory        int
}

// clusterUp makes or starts the cluster and waits until it is of use.
func clusterUp(ctx context.Context, args []string, stdio program.Stdio) error {
	var o clusterOptions
	flags, dir := clusterFlags("up", stdio)
	flags.StringVar(&o.image, "image", "build/coracle.qcow2", "the `image` of new machines")
	flags.IntVar(&o.machines, "machines", 3, "`number` of machines")
	flags.IntVar(&o.memory, "memory", 0, fmt.Sprintf("memory of each machine in `MiB`; without it %d, or what they had", cluster.DefaultMemory))
	flags.StringVar(&o.userData, "user-data", "", "`file` with the user-data of all machines; without it the example machines.yaml")
	flags.StringVar(&o.layout, "layout", "", "`roles` with numbers, such as masters=3,workers=2: user-data by role from the examples")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	c := clusterIn(*dir, stdio)
	switch _, err := c.Load(); {
	case err == nil && (given["image"] || given["machines"] || given["user-data"] || given["layout"]):
		return fmt.Errorf("there is a cluster in %q, whose machines stay what they are: `coracle cluster up` without -image, -machines, "+
			"-user-data and -layout starts them, `coracle cluster down -remove` makes room for others", *dir)
	case err != nil && !errors.Is(err, cluster.ErrNone):
		return err
	}
	plan, err := o.plan()
	if err != nil {
		return err
	}
	start := time.Now()
	s, err := c.Up(ctx, plan, cluster.ThisHost())
	if err != nil {
		return err
	}
	w := clusterWait{cluster: c, state: s, stdio: stdio, start: start}
	if err := w.ready(ctx); err != nil {
		if ctx.Err() != nil {
			c.Log("the machines go on; `%s cluster up` waits for them again, `%[1]s cluster down` switches them off", programName())
		}
		return err
	}
	return w.tour()
}

// plan is what the flags ask for.
func (o clusterOptions) plan() (cluster.Plan, error) {
	p := cluster.Plan{Image: o.image, Memory: o.memory, DiskSize: runDiskSize, Keys: writeKey}
	if o.memory < 0 || o.machines < 1 {
		return p, errors.New("a cluster has at least one machine, with memory; see -machines and -memory")
	}
	switch {
	case o.layout != "" && o.userData != "":
		return p, errors.New("-layout takes the examples' user-data and -user-data a file: give one of them")
	case o.layout != "":
		var err error
		p.Roles, err = layout(o.layout)
		return p, err
	case o.userData != "":
		data, err := os.ReadFile(o.userData)
		if err != nil {
			return p, fmt.Errorf("read user-data: %w", err)
		}
		p.Roles = []cluster.Role{{Name: ownRole, Machines: o.machines, UserData: data}}
		return p, nil
	}
	data, err := examples.ReadFile("examples/machines.yaml")
	p.Roles = []cluster.Role{{Name: "machines", Machines: o.machines, UserData: data}}
	return p, err
}

// ownRole is that of machines whose user-data is not ours.
const ownRole = "own"

// layout reads roles such as masters=3,workers=2. The store's members are the
// masters, which the documents list.
func layout(text string) ([]cluster.Role, error) {
	var roles []cluster.Role
	masters := 0
	for part := range strings.SplitSeq(text, ",") {
		name, number, _ := strings.Cut(part, "=")
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || (name != "masters" && name != "workers") {
			return nil, fmt.Errorf("read the layout %q: %q is not masters=NUMBER or workers=NUMBER", text, part)
		}
		data, err := examples.ReadFile("examples/" + name + ".yaml")
		if err != nil {
			return nil, err
		}
		if name == "masters" {
			masters = n
		}
		roles = append(roles, cluster.Role{Name: name, Machines: n, UserData: data})
	}
	if masters == 0 || roles[0].Name != "masters" || len(roles) > 2 || len(roles) == 2 && roles[1].Name == "masters" {
		return nil, fmt.Errorf("read the layout %q: masters come first, then workers, as in masters=3,workers=2", text)
	}
	for i := range roles {
		roles[i].UserData = bytes.ReplaceAll(roles[i].UserData, []byte(masterList(3)), []byte(masterList(masters)))
	}
	return roles, nil
}

// masterList is the list of the store's members in the examples.
func masterList(n int) string {
	var list []string
	for i := 1; i <= n; i++ {
		list = append(list, fmt.Sprintf("master%d=http://10.9.0.%[1]d:2380", i))
	}
	return strings.Join(list, ",")
}

// clusterStatus prints what runs.
func clusterStatus(args []string, stdio program.Stdio) error {
	flags, dir := clusterFlags("status", stdio)
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	c := clusterIn(*dir, stdio)
	s, err := c.Load()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(stdio.Out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "N\tNAME\tROLE\tADDRESS\tSTATE\tPID\tSSH PORT\tCONSOLE")
	stopped := 0
	for _, m := range s.Machines {
		state, pid := "off", "-"
		if c.Running(m) {
			state, pid = "starting", strconv.Itoa(m.PID)
			if greets(m.SSHPort) {
				state = "running"
			}
		} else {
			stopped++
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", m.Number, m.Name, m.Role, m.Address, state, pid, m.SSHPort, c.Console(m))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if stopped > 0 {
		fmt.Fprintf(stdio.Out, "%d of %d machines are off; `%s cluster up` starts them\n", stopped, len(s.Machines), programName())
	}
	return nil
}

// clusterSSH becomes ssh to one machine, with its exit code.
func clusterSSH(ctx context.Context, args []string, stdio program.Stdio) error {
	flags, dir := clusterFlags("ssh", stdio)
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage
	}
	number, err := strconv.Atoi(strings.TrimPrefix(flags.Arg(0), "coracle"))
	if err != nil {
		fmt.Fprintf(stdio.Err, "coracle cluster ssh: want a machine's number, got %q\n%s", flags.Arg(0), clusterUsage)
		return errUsage
	}
	c := clusterIn(*dir, stdio)
	s, err := c.Load()
	if err != nil {
		return err
	}
	if number < 1 || number > len(s.Machines) {
		return fmt.Errorf("log in: there is no machine %d; `%s cluster status` lists them", number, programName())
	}
	m := s.Machines[number-1]
	if !c.Running(m) {
		return fmt.Errorf("log in: %s is off; `%s cluster up` starts it", m.Name, programName())
	}
	cmd := exec.CommandContext(ctx, "ssh", append(sshArgs(c.Key(), m.SSHPort), flags.Args()[1:]...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdio.In, stdio.Out, stdio.Err
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return exitCode(exit.ExitCode())
	}
	return err
}

// exitCode ends the command with another program's code, which has said why.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// offTime is how long a machine may take to switch itself off: its units stop,
// containers among them.
const offTime = 2 * time.Minute

// clusterDown ends the machines.
func clusterDown(ctx context.Context, args []string, stdio program.Stdio) error {
	flags, dir := clusterFlags("down", stdio)
	remove := flags.Bool("remove", false, "remove the machines with their disks, and end them at once")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	return clusterIn(*dir, stdio).Down(ctx, offTime, *remove)
}

// programName is how people call this program again.
func programName() string {
	if len(os.Args) > 0 && strings.Contains(os.Args[0], "/go-build") {
		return "go run ./tools/coracle"
	}
	return "coracle"
}
