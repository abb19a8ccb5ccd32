package v2

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/client/v2"
)

func watchFlags(f *pflag.FlagSet) {
	f.BoolP("recursive", "r", false, "all below too")
	f.BoolP("forever", "f", false, "go on after the first change")
	f.Uint64("after-index", 0, "changes after this index")
	f.Uint64("index", 0, "changes from this index on; an older word")
}

func watcher(c *ctl, f *pflag.FlagSet, k string) client.Watcher {
	after, _ := f.GetUint64("after-index")
	if index, _ := f.GetUint64("index"); index > 0 {
		after = index - 1
	}
	return c.keys.Watcher(k, &client.WatcherOptions{AfterIndex: after, Recursive: flagOf(f, "recursive")})
}

func watch(ctx context.Context, c *ctl, f *pflag.FlagSet) error {
	k, err := key(f)
	if err != nil {
		return err
	}
	forever := flagOf(f, "forever")
	w := watcher(c, f, k)
	for {
		r, err := w.Next(ctx)
		if err != nil {
			return err
		}
		if r.Node.Dir { // only its keys are told
			if !forever {
				return nil
			}
			continue
		}
		if c.output == "simple" && (forever || flagOf(f, "recursive")) {
			fmt.Fprintf(c.Out, "[%s] %s\n", r.Action, r.Node.Key)
		}
		c.show(r)
		if !forever {
			return nil
		}
	}
}

// execWatch runs a command for every change, one after the other.
func execWatch(ctx context.Context, c *ctl, f *pflag.FlagSet) error {
	k, err := key(f)
	if err != nil {
		return err
	}
	if f.NArg() < 2 {
		return usage("key and command to exec required")
	}
	w := watcher(c, f, k)
	for {
		r, err := w.Next(ctx)
		if err != nil {
			return err
		}
		command := exec.CommandContext(ctx, f.Arg(1), f.Args()[2:]...)
		command.Stdout, command.Stderr = c.Out, c.Err
		command.Env = append(os.Environ(), "ETCD_WATCH_ACTION="+r.Action, "ETCD_WATCH_KEY="+r.Node.Key, "ETCD_WATCH_VALUE="+r.Node.Value,
			"ETCD_WATCH_MODIFIED_INDEX="+strconv.FormatUint(r.Node.ModifiedIndex, 10))
		var ended *exec.ExitError
		if err := command.Run(); err != nil && !errors.As(err, &ended) { // its own end is its own matter
			return exit{exitArgs, err}
		}
	}
}
