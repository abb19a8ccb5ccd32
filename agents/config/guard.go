package config

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/coracle-os/coracle/agents/config/reach"
	"github.com/coracle-os/coracle/rootfs/provision/apply"
	"github.com/coracle-os/coracle/rootfs/provision/owned"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
	"github.com/coracle-os/coracle/rootfs/provision/try"
)

// How the guard watches: settle is how long it waits before the change for
// answers of what it will watch, grace how long the machine may be out of reach:
// a network that is restarted is, for a while.
const (
	settle = 3 * time.Second
	grace  = 20 * time.Second
	look   = time.Second
)

// watcher is what is looked at while a change is tried: reach.Watch.
type watcher interface {
	Check(ctx context.Context) error
	String() string
}

// guard applies the try that is on the disk, and watches it: it is the unit
// guardUnit.
func (t *tool) guard(ctx context.Context) error {
	tried, err := try.Open(filepath.Join(t.root, try.Dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(filepath.Join(t.root, logPath)), 0o755); err != nil {
		return fmt.Errorf("begin the guard's log: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(t.root, logPath), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("begin the guard's log: %w", err)
	}
	defer log.Close()
	out := io.MultiWriter(log, t.stdio.Err)
	if tried.Head.Started {
		return t.takeBack(ctx, tried, out, "its guard ended in the middle")
	}
	unlock, err := t.lock()
	if err != nil {
		return errors.Join(err, t.takeBack(ctx, tried, out, "it could not begin"))
	}
	watch := t.well(ctx, wanted(tried.Head))
	err = t.change(ctx, tried, out)
	unlock()
	switch {
	case ctx.Err() != nil: // the machine stops: its next boot takes it back
		return nil
	case err != nil:
		fmt.Fprintf(out, "failed: %v\n", err)
		return t.takeBack(ctx, tried, out, "it could not be applied")
	case tried.Head.Limit == 0:
		return tried.Confirm(t.root)
	}
	fmt.Fprintf(out, "watching: %s\n", watch)
	if why := t.await(ctx, tried, watch); why != "" {
		return t.takeBack(ctx, tried, out, why)
	}
	return nil
}

// wanted is what the guard would like to watch.
func wanted(head try.Head) reach.Watch {
	watch := reach.Watch{Gateway: true}
	watch.Peer, _ = netip.ParseAddr(head.Peer)
	watch.Server, _ = netip.ParseAddrPort(head.Server)
	return watch
}

// change applies the document and remembers the users that it makes. Who is
// remembered is part of what is taken back.
func (t *tool) change(ctx context.Context, tried *try.Try, out io.Writer) error {
	document, err := tried.Document()
	if err != nil {
		return err
	}
	p, _, err := t.plan(tried.Head.Name, document)
	if err != nil {
		return err
	}
	users, _ := owned.Load(t.root) // plan has said what is wrong with it
	keep := plan.Step{Action: plan.PutBack{Path: owned.Path, Kind: plan.Absent}}
	if kept, err := apply.Before(t.root, owned.Path); err == nil {
		keep.Action = kept
	}
	err = tried.Apply(ctx, t.executor, p, func(o apply.Outcome) {
		sayOutcome(out, o)
		if a, ok := o.Step.Action.(plan.RemoveUser); ok && o.Result == apply.Changed {
			delete(users, a.Name)
		}
	})
	if err != nil {
		return err
	}
	for _, name := range t.executor.Created {
		users[name] = "coracled config"
	}
	return tried.Finish(keep, func() error { return users.Save(t.root) })
}

// sayOutcome prints what a step has changed, or why it did not.
func sayOutcome(out io.Writer, o apply.Outcome) {
	switch {
	case o.Err != nil:
		fmt.Fprintf(out, "%-8s %s: %v\n", o.Result, o.Step, o.Err)
	case o.Result != apply.Unchanged:
		fmt.Fprintf(out, "%-8s %s\n", o.Result, o.Step)
	}
}

// await waits for the end of a try. It returns why it must be taken back, or ""
// when it was confirmed or this machine stops.
func (t *tool) await(ctx context.Context, tried *try.Try, watch watcher) string {
	end := time.NewTimer(tried.Head.Limit)
	defer end.Stop()
	tick := time.NewTicker(look)
	defer tick.Stop()
	well := time.Now()
	for {
		select {
		case <-ctx.Done():
			return ""
		case <-end.C:
			return fmt.Sprintf("nobody confirmed it within %v", tried.Head.Limit)
		case <-tick.C:
		}
		if _, err := try.Open(filepath.Join(t.root, try.Dir)); errors.Is(err, fs.ErrNotExist) {
			return ""
		}
		switch err := watch.Check(ctx); {
		case err == nil:
			well = time.Now()
		case time.Since(well) > t.grace:
			return fmt.Sprintf("the machine can not be reached: %v", err)
		}
	}
}

func (t *tool) takeBack(ctx context.Context, tried *try.Try, out io.Writer, why string) error {
	fmt.Fprintf(out, "taking %s back: %s\n", tried.Head.Name, why)
	err := tried.Revert(ctx, t.executor, false, func(o apply.Outcome) { sayOutcome(out, o) })
	if errors.Is(err, try.ErrConfirmed) {
		return nil
	}
	if err == nil {
		fmt.Fprintf(out, "%s is taken back\n", tried.Head.Name)
	}
	return err
}
