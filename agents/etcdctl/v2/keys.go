package v2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/client/v2"
)

func ttlFlag(f *pflag.FlagSet) { f.Int("ttl", 0, "seconds until the key goes") }

func ttl(f *pflag.FlagSet) time.Duration {
	n, _ := f.GetInt("ttl")
	return time.Duration(n) * time.Second
}

func flagOf(f *pflag.FlagSet, name string) bool {
	on, _ := f.GetBool(name)
	return on
}

// key is the first argument.
func key(f *pflag.FlagSet) (string, error) {
	if f.NArg() == 0 {
		return "", usage("key required")
	}
	return f.Arg(0), nil
}

// keyAndValue are the arguments; without a value it is what comes in.
func keyAndValue(c *ctl, f *pflag.FlagSet) (k, value string, err error) {
	if k, err = key(f); err != nil {
		return "", "", err
	}
	if f.NArg() > 1 {
		return k, f.Arg(1), nil
	}
	b, err := io.ReadAll(c.In)
	if err != nil || len(b) == 0 {
		return "", "", usage("value required")
	}
	return k, string(b), nil
}

func setFlags(f *pflag.FlagSet) {
	ttlFlag(f)
	f.String("swap-with-value", "", "only when the key has this value")
	f.Uint64("swap-with-index", 0, "only when the key has this index")
}

func set(ctx context.Context, c *ctl, f *pflag.FlagSet) error {
	k, value, err := keyAndValue(c, f)
	if err != nil {
		return err
	}
	old, _ := f.GetString("swap-with-value")
	index, _ := f.GetUint64("swap-with-index")
	r, err := c.keys.Set(ctx, k, value, &client.SetOptions{TTL: ttl(f), PrevIndex: index, PrevValue: old})
	if err != nil {
		return err
	}
	c.show(r)
	return nil
}

func getFlags(f *pflag.FlagSet) {
	f.Bool("sort", false, "sorted")
	f.BoolP("quorum", "q", false, "what a majority has agreed on")
}

func get(ctx context.Context, c *ctl, f *pflag.FlagSet) error {
	k, err := key(f)
	if err != nil {
		return err
	}
	r, err := c.keys.Get(ctx, k, &client.GetOptions{Sort: flagOf(f, "sort"), Quorum: flagOf(f, "quorum")})
	if err != nil {
		return err
	}
	if r.Node.Dir {
		fmt.Fprintf(c.Err, "%s: is a directory\n", r.Node.Key)
		return exit{exitArgs, errors.New("")}
	}
	c.show(r)
	return nil
}

func mkFlags(f *pflag.FlagSet) {
	ttlFlag(f)
	f.Bool("in-order", false, "a new key below KEY, named in order")
}

func mk(ctx context.Context, c *ctl, f *pflag.FlagSet) error {
	k, value, err := keyAndValue(c, f)
	if err != nil {
		return err
	}
	var r *client.Response
	if flagOf(f, "in-order") {
		r, err = c.keys.CreateInOrder(ctx, k, value, &client.CreateInOrderOptions{TTL: ttl(f)})
	} else {
		r, err = c.keys.Set(ctx, k, value, &client.SetOptions{TTL: ttl(f), PrevExist: client.PrevNoExist})
	}
	if err != nil {
		return err
	}
	c.show(r)
	return nil
}

// directory makes or changes a directory.
func directory(exist client.PrevExistType) func(context.Context, *ctl, *pflag.FlagSet) error {
	return func(ctx context.Context, c *ctl, f *pflag.FlagSet) error {
		k, err := key(f)
		if err != nil {
			return err
		}
		r, err := c.keys.Set(ctx, k, "", &client.SetOptions{TTL: ttl(f), Dir: true, PrevExist: exist})
		if err == nil && c.output != "simple" {
			c.show(r)
		}
		return err
	}
}

func update(ctx context.Context, c *ctl, f *pflag.FlagSet) error {
	k, value, err := keyAndValue(c, f)
	if err != nil {
		return err
	}
	r, err := c.keys.Set(ctx, k, value, &client.SetOptions{TTL: ttl(f), PrevExist: client.PrevExist})
	if err != nil {
		return err
	}
	c.show(r)
	return nil
}

func lsFlags(f *pflag.FlagSet) {
	getFlags(f)
	f.BoolP("recursive", "r", false, "all below too")
	f.BoolP("p", "p", false, "a slash behind directories")
}

func ls(ctx context.Context, c *ctl, f *pflag.FlagSet) error {
	k := "/"
	if f.NArg() > 0 {
		k = f.Arg(0)
	}
	r, err := c.keys.Get(ctx, k, &client.GetOptions{Sort: flagOf(f, "sort"), Recursive: flagOf(f, "recursive"), Quorum: flagOf(f, "quorum")})
	if err != nil {
		return err
	}
	if c.output == "json" {
		c.show(r)
		return nil
	}
	if !r.Node.Dir {
		fmt.Fprintln(c.Out, r.Node.Key)
	}
	c.list(r.Node.Nodes, flagOf(f, "p"))
	return nil
}

func (c *ctl) list(nodes client.Nodes, slash bool) {
	for _, n := range nodes {
		end := ""
		if n.Dir && slash {
			end = "/"
		}
		fmt.Fprintln(c.Out, n.Key+end)
		c.list(n.Nodes, slash)
	}
}

func rmFlags(f *pflag.FlagSet) {
	f.Bool("dir", false, "an empty directory too")
	f.BoolP("recursive", "r", false, "a directory and all below")
	f.String("with-value", "", "only when the key has this value")
	f.Uint64("with-index", 0, "only when the key has this index")
}

func rm(ctx context.Context, c *ctl, f *pflag.FlagSet) error {
	k, err := key(f)
	if err != nil {
		return err
	}
	old, _ := f.GetString("with-value")
	index, _ := f.GetUint64("with-index")
	r, err := c.keys.Delete(ctx, k, &client.DeleteOptions{PrevValue: old, PrevIndex: index, Recursive: flagOf(f, "recursive"), Dir: flagOf(f, "dir")})
	if err != nil {
		return err
	}
	if !r.Node.Dir || c.output != "simple" {
		c.show(r)
	}
	return nil
}

func rmdir(ctx context.Context, c *ctl, f *pflag.FlagSet) error {
	k, err := key(f)
	if err != nil {
		return err
	}
	r, err := c.keys.Delete(ctx, k, &client.DeleteOptions{Dir: true})
	if err == nil && (!r.Node.Dir || c.output != "simple") {
		c.show(r)
	}
	return err
}

func trimSlash(s string) string { return strings.TrimRight(s, "/") }
