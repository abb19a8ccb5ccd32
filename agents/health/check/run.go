package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path"
	"strings"
	"syscall"
	"time"
)

// Unit is what a check must know of a unit.
type Unit struct {
	Name   string
	Load   string // "loaded", "not-found", "masked", ...
	Active string // "active", "activating", "failed", ...
	Sub    string // "running", "auto-restart", ...
}

// Edge is what checks look at.
type Edge struct {
	// Units returns the units whose names match the patterns and that are not
	// just absent. A plain name is a pattern.
	Units func(ctx context.Context, patterns []string) ([]Unit, error)
	// Known are names of units that were failed before the update: they are
	// not held against the release. Only not-failed heeds them.
	Known []string
}

// Once carries the check out one time. nil means good; the error says what is
// not. It returns within c.Timeout, a little more when a program must be
// killed.
func (c Check) Once(ctx context.Context, e Edge) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	switch {
	case c.Units != nil:
		return e.active(ctx, c.Units)
	case c.NotFailed != nil:
		return e.notFailed(ctx, c.NotFailed)
	case c.HTTP != nil:
		return c.HTTP.get(ctx)
	case c.TCP != "":
		return connect(ctx, c.TCP)
	}
	return command(ctx, c.Command)
}

func (e Edge) active(ctx context.Context, names []string) error {
	units, err := e.Units(ctx, names)
	if err != nil {
		return err
	}
	found := map[string]Unit{}
	for _, u := range units {
		found[u.Name] = u
	}
	var bad []string
	for _, name := range names {
		switch u, ok := found[name]; {
		case !ok:
			bad = append(bad, name+" is not there or inactive")
		case u.Active != "active":
			bad = append(bad, u.state())
		}
	}
	return together(bad)
}

func (e Edge) notFailed(ctx context.Context, patterns []string) error {
	units, err := e.Units(ctx, patterns)
	if err != nil {
		return err
	}
	var bad []string
	for _, u := range units {
		if (u.Active == "failed" || u.Sub == "auto-restart") && !e.known(u.Name) {
			bad = append(bad, u.state())
		}
	}
	return together(bad)
}

func (e Edge) known(name string) bool {
	for _, k := range e.Known {
		if ok, err := path.Match(k, name); k == name || (err == nil && ok) {
			return true
		}
	}
	return false
}

func (u Unit) state() string { return fmt.Sprintf("%s is %s (%s)", u.Name, u.Active, u.Sub) }

func together(bad []string) error {
	if len(bad) == 0 {
		return nil
	}
	return errors.New(strings.Join(bad, "; "))
}

func (h *HTTP) get(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL, nil)
	if err != nil {
		return err
	}
	// A probe is of this machine's own service: no proxy, no kept connections.
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if want := h.Status; (want != 0 && resp.StatusCode != want) || (want == 0 && resp.StatusCode/100 != 2) {
		return fmt.Errorf("GET %s: the answer is %q", h.URL, resp.Status)
	}
	if h.Contains == "" {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("GET %s: read the answer: %w", h.URL, err)
	}
	if !bytes.Contains(body, []byte(h.Contains)) {
		return fmt.Errorf("GET %s: the answer does not contain %q", h.URL, h.Contains)
	}
	return nil
}

func connect(ctx context.Context, address string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// command runs a program in a process group of its own, so that what it leaves
// behind ends with it.
func command(ctx context.Context, args []string) error {
	var out tail
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout, cmd.Stderr = &out, &out
	kill := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = kill
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if cmd.Process != nil {
		_ = kill()
	}
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case err == nil:
		return nil
	}
	if line := out.last(); line != "" {
		return fmt.Errorf("%s: %w: %s", args[0], err, line)
	}
	return fmt.Errorf("%s: %w", args[0], err)
}

// tail keeps the last 4 KiB that were written.
type tail struct{ b []byte }

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	const most = 4096
	t.b = append(t.b, p...)
	if len(t.b) > most {
		t.b = append([]byte(nil), t.b[len(t.b)-most:]...)
	}
	return len(p), nil
}

func (t *tail) last() string {
	text := strings.TrimSpace(string(t.b))
	return strings.ToValidUTF8(text[strings.LastIndexByte(text, '\n')+1:], "\ufffd")
}
