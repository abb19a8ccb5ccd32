// Package reset is coracle-reset: it brings a machine back to its first boot. It
// leaves a request for stage 1 (package initrd/reset) and restarts the machine;
// nothing is deleted while programs use it.
//
// What stays is the release that runs, the OEM partition with the configuration
// that an installer left, and the paths that are named with -keep.
package reset

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/initrd/bootinfo"
	"github.com/coracle-os/coracle/initrd/reset"
	"github.com/coracle-os/coracle/rootfs/program"
)

const usage = `Usage: coracle-reset [-y] [-n] [-keep PATH...]
Deletes everything below /var and /etc but the paths, and restarts the machine, which then
sets itself up as on its first boot.
`

// state is where the state partition is mounted.
const state = "/var"

// request is a command line.
type request struct {
	keep       []string
	yes, later bool
}

var errUsage = errors.New("usage")

// parse reads the command line. -keep takes all that follows up to an option,
// and may be given several times.
func parse(args []string, errOut io.Writer) (r request, err error) {
	f := flag.NewFlagSet("coracle-reset", flag.ContinueOnError)
	f.SetOutput(errOut)
	f.Usage = func() {
		fmt.Fprint(errOut, usage)
		f.PrintDefaults()
	}
	f.BoolVar(&r.yes, "y", false, "do not ask")
	f.BoolVar(&r.later, "n", false, "do not restart: reset at the next start, whenever that is")
	keeps := false
	f.Func("keep", "`path` to keep; more may follow", func(path string) error {
		keeps = true
		r.keep = append(r.keep, path)
		return nil
	})
	for {
		if err := f.Parse(args); err != nil {
			return r, err
		}
		if f.NArg() == 0 {
			return r, nil
		}
		if !keeps {
			fmt.Fprintf(errOut, "coracle-reset: unexpected argument %q\n", f.Arg(0))
			f.Usage()
			return r, errUsage
		}
		r.keep = append(r.keep, f.Arg(0))
		args = f.Args()[1:]
	}
}

// Main runs coracle-reset.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	r, err := parse(args[1:], stdio.Err)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	if err := run(ctx, r, stdio); err != nil {
		fmt.Fprintf(stdio.Err, "coracle-reset: %v\n", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, r request, stdio program.Stdio) error {
	if os.Geteuid() != 0 {
		return errors.New("this needs root's rights: use sudo")
	}
	info, err := bootinfo.Read(bootinfo.Path)
	if err != nil {
		return fmt.Errorf("%w; only a machine that was started from a Coracle image can be reset", err)
	}
	if info.VolatileState {
		return errors.New("the state of this machine is in memory: restart it, and it is as on its first boot")
	}
	places, err := places(r.keep, filepath.EvalSymlinks)
	if err != nil {
		return err
	}
	if !r.yes {
		if err := ask(r.keep, stdio); err != nil {
			return err
		}
	}
	if err := reset.Ask(state, places); err != nil {
		return err
	}
	if r.later {
		fmt.Fprintf(stdio.Out, "The state is reset at the next start. To keep it, delete %s.\n", filepath.Join(state, reset.File))
		return nil
	}
	fmt.Fprintln(stdio.Out, "Restarting.")
	if out, err := exec.CommandContext(ctx, "systemctl", "reboot").CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("restart: %w: %s", err, out), reset.Forget(state))
	}
	return nil
}

func places(keep []string, resolve func(string) (string, error)) ([]string, error) {
	var result []string
	for _, path := range keep {
		place, err := reset.Place(path, resolve)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(result, place) {
			result = append(result, place)
		}
	}
	return result, nil
}

// errNo says that the owner does not want to.
var errNo = errors.New("nothing was done")

func ask(keep []string, stdio program.Stdio) error {
	but := ""
	if len(keep) > 0 {
		but = " but " + strings.Join(keep, ", ")
	}
	fmt.Fprintf(stdio.Out, "This deletes everything below /var and /etc%s: containers, homes, keys, settings.\nWrite yes to go on: ", but)
	line, err := bufio.NewReader(stdio.In).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(line) != "yes" {
		return errNo
	}
	return nil
}
