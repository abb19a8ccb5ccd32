package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/agents/update/fetch"
	"github.com/coracle-os/coracle/image/release"
	"github.com/coracle-os/coracle/rootfs/updatectl"
)

// Listen makes the control socket. One that a dead engine left is replaced.
// While another engine answers, this is an error: two would write one slot.
func Listen(file string) (*net.UnixListener, error) {
	if conn, err := net.Dial("unix", file); err == nil {
		conn.Close()
		return nil, fmt.Errorf("make control socket: another update-engine answers on %s; use updatectl to ask it", file)
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("make control socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: file, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("make control socket: %w", err)
	}
	if err := os.Chmod(file, 0o666); err != nil { // who may what is decided by the peer's uid
		return nil, errors.Join(fmt.Errorf("make control socket: %w", err), l.Close())
	}
	return l, nil
}

// Serve answers on the socket until it is closed.
func (e *Engine) Serve(ctx context.Context, l *net.UnixListener) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				e.Log.Error("control socket", "error", err)
			}
			return
		}
		go e.talk(ctx, conn)
	}
}

func (e *Engine) talk(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	var mu sync.Mutex
	send := func(r updatectl.Response) {
		mu.Lock()
		defer mu.Unlock()
		_ = conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
		_ = json.NewEncoder(conn).Encode(r) // who asked may be gone; the work goes on
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	var request updatectl.Request
	if err := json.NewDecoder(conn).Decode(&request); err != nil {
		send(updatectl.Response{Done: true, Error: fmt.Sprintf("read request: %v", err)})
		return
	}
	last, err := e.answer(ctx, request, peer(conn), func(m string) { send(updatectl.Response{Message: m}) })
	last.Done = true
	if err != nil {
		last.Error = err.Error()
	}
	send(last)
}

// peer is the uid at the other end, or one that may nothing.
func peer(conn *net.UnixConn) uint32 {
	uid := uint32(1<<32 - 1)
	raw, err := conn.SyscallConn()
	if err != nil {
		return uid
	}
	_ = raw.Control(func(fd uintptr) {
		if c, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			uid = c.Uid
		}
	})
	return uid
}

func (e *Engine) answer(ctx context.Context, request updatectl.Request, uid uint32, say func(string)) (updatectl.Response, error) {
	switch {
	case request.Verb == "status", request.Verb == "channel" && request.Channel == "":
		s := e.Status()
		return updatectl.Response{Status: &s}, nil
	case request.Verb == "history":
		records, err := e.Store.History(0)
		var r updatectl.Response
		for _, h := range records {
			r.History = append(r.History, updatectl.Record(h))
		}
		return r, err
	case uid != 0:
		return updatectl.Response{}, fmt.Errorf("%s is for root; use sudo", request.Verb)
	}
	j := job{request, say, make(chan error, 1)}
	select {
	case e.requests <- j:
	case <-time.After(2 * time.Second):
		say(fmt.Sprintf("waiting: the engine is %s", e.Status().Phase))
		select {
		case e.requests <- j:
		case <-ctx.Done():
			return updatectl.Response{}, errors.New("the engine is being stopped")
		}
	}
	select {
	case err := <-j.done:
		return updatectl.Response{}, err
	case <-ctx.Done():
		return updatectl.Response{}, errors.New("the engine is being stopped; what was begun goes on at its next start")
	}
}

// serve does a request that changes something.
func (e *Engine) serve(ctx context.Context, j job) error {
	switch r := j.request; r.Verb {
	case "check":
		if why := e.off(); why != nil {
			return why
		}
		return e.checkAndInstall(ctx, false, false, j.say)
	case "apply":
		if r.File == "" {
			return e.checkAndInstall(ctx, true, r.Force, j.say)
		}
		return e.applyFile(ctx, r.File, r.Force, j.say)
	case "rollback":
		return e.rollback(j.say)
	case "channel":
		if err := release.CheckChannel(r.Channel); err != nil {
			return err
		}
		if err := SetChannel(e.Root, r.Channel); err != nil {
			return err
		}
		j.say("channel is " + r.Channel + " from now on")
		return nil
	default:
		return fmt.Errorf("no verb %q; this engine knows status, check, apply, rollback, history and channel", r.Verb)
	}
}

// off says why there are no checks.
func (e *Engine) off() error {
	c, err := ReadConfig(e.Root, e.Environ)
	if err != nil {
		return err
	}
	if why := c.Why(); why != "" {
		return errors.New(why)
	}
	return nil
}

// applyFile installs the release in a bundle. Its signatures count as those of
// a server do.
func (e *Engine) applyFile(ctx context.Context, file string, force bool, say func(string)) error {
	c, err := ReadConfig(e.Root, e.Environ)
	if err != nil {
		return err
	}
	if c.Root == nil {
		return errors.New("there is no trusted root metadata; put the publisher's root.json at /etc/coracle/tuf/root.json")
	}
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("apply bundle: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("apply bundle: %w", err)
	}
	b, err := release.OpenBundle(f, info.Size())
	if err != nil {
		return fmt.Errorf("apply %s: %w", file, err)
	}
	channel := bundleChannel(b)
	if channel == "" {
		return fmt.Errorf("apply %s: the bundle has no channel; make it with `coracle bundle`", file)
	}
	c.Rate = 0
	return e.follow(ctx, c, []fetch.Mirror{fetch.Bundle{Bundle: b, Label: file}}, channel, true, force, say)
}

// bundleChannel is the channel that a bundle was made from.
func bundleChannel(b *release.Bundle) string {
	for _, name := range b.Names() {
		dir, base := path.Split(name)
		if dir != "targets/"+release.ChannelDir+"/" {
			continue
		}
		_, channel, _ := strings.Cut(strings.TrimSuffix(base, ".json"), ".")
		return channel
	}
	return ""
}
