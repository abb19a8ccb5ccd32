package provision

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/coracle-os/coracle/initrd/modules"
	"github.com/coracle-os/coracle/rootfs/network/state"
	"github.com/coracle-os/coracle/rootfs/provision/apply"
	"github.com/coracle-os/coracle/rootfs/provision/running"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

// The program, and its first argument, that fetches a document: package fetch.
// It is a program of its own so that net/http is not in this binary.
const (
	fetchProgram  = "/usr/lib/coracle/coracled"
	fetchArgument = "coreos-cloudinit-fetch"
)

// NewExecutor returns an executor for the running machine that leaves scripts
// in workspace and the SSH keys it gives in the set keyName.
func NewExecutor(workspace, keyName string) *apply.Executor {
	return &apply.Executor{Root: "/", Machine: running.Machine{}, Now: time.Now, Host: running.Host, KeyName: keyName, Workspace: workspace}
}

func commandLine() string {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return ""
	}
	return string(line)
}

func loadModule(name string) error {
	loader, err := modules.New("/")
	if err != nil {
		return err
	}
	return loader.Load(name)
}

// fetchBy returns a function that fetches a document by running a program with
// the address as its last argument.
func fetchBy(program string, args ...string) func(context.Context, string) ([]byte, error) {
	return func(ctx context.Context, address string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, program, append(slices.Clone(args), address)...)
		cmd.WaitDelay = time.Second
		var out, problems bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &problems
		err := cmd.Run()
		switch text := strings.TrimSpace(problems.String()); {
		case err != nil && ctx.Err() != nil:
			return nil, fmt.Errorf("fetch %q: no answer in time; see that the server can be reached and restart coreos-cloudinit.service", address)
		case err != nil && text != "":
			return nil, errors.New(text)
		case err != nil:
			return nil, fmt.Errorf("fetch %q: %w", address, err)
		}
		return out.Bytes(), nil
	}
}

// askBy returns a function that asks a platform by running a program, whose
// messages go to say as they come.
func askBy(program string, say func(string)) func(context.Context, platform.Name) (platform.Result, error) {
	return func(ctx context.Context, name platform.Name) (result platform.Result, err error) {
		var out bytes.Buffer
		last, err := runSaying(ctx, nil, &out, say, program, platform.Program, string(name))
		switch {
		case err != nil && ctx.Err() != nil:
			return result, fmt.Errorf("get the metadata of platform %s: no answer in time", name)
		case err != nil && last != "":
			return result, errors.New(last)
		case err != nil:
			return result, fmt.Errorf("get the metadata of platform %s: %w", name, err)
		}
		if err := json.Unmarshal(out.Bytes(), &result); err != nil {
			return result, fmt.Errorf("get the metadata of platform %s: read the answer of %s: %w", name, program, err)
		}
		return result, nil
	}
}

// ignitionBy returns a function that has the program ignition, which says on the
// console itself what it does, apply a config.
func ignitionBy(program string, say func(string)) func(context.Context, string, []byte) error {
	return func(ctx context.Context, name string, data []byte) error {
		last, err := runSaying(ctx, bytes.NewReader(data), io.Discard, say, program, "ignition", "-config", name)
		if err != nil && last != "" {
			return errors.New(last)
		}
		return err
	}
}

// runSaying runs a program and hands its messages on, but for the last one of a
// program that failed, which it returns.
func runSaying(ctx context.Context, in io.Reader, out io.Writer, say func(string), name string, args ...string) (last string, err error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	cmd.Stdin, cmd.Stdout = in, out
	pipe, err := cmd.StderrPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	lines := bufio.NewScanner(pipe)
	for lines.Scan() {
		if last != "" {
			say(last)
		}
		last = strings.TrimSpace(lines.Text())
	}
	if err = cmd.Wait(); err == nil && last != "" {
		say(last)
	}
	return last, err
}

// reportBy tells a platform that wants to know that the machine is up or, with a
// failure, that it is not as its owner wanted it.
func reportBy(ctx context.Context, program string, name platform.Name, failure string) error {
	if name != platform.Azure {
		return nil
	}
	args := []string{platform.Program, "-ready", string(name)}
	if failure != "" {
		args = []string{platform.Program, "-failed", failure, string(name)}
	}
	last, err := runSaying(ctx, nil, io.Discard, func(string) {}, program, args...)
	if err != nil && last != "" {
		return errors.New(last)
	}
	return err
}

// interfaces reads the network's state; there is none before it is up.
func interfaces() []Interface {
	now, err := state.Read(state.Path)
	if err != nil {
		return nil
	}
	return fromState(now)
}

func fromState(now state.State) (found []Interface) {
	for _, i := range now.Interfaces {
		link := Interface{Name: i.Name, HasGateway: i.Gateway != ""}
		for _, text := range i.Addresses {
			if prefix, err := netip.ParsePrefix(text); err == nil {
				link.Addresses = append(link.Addresses, prefix)
			}
		}
		found = append(found, link)
	}
	return found
}

// waitNetwork looks until the network is online and enough is true. A machine
// without an interface is not waited for longer than its drivers may need to
// load, which goes on at the same time.
func waitNetwork(ctx context.Context, enough func() bool) {
	const (
		interval = 50 * time.Millisecond
		drivers  = 5 * time.Second
	)
	start := time.Now()
	for {
		if now, err := state.Read(state.Path); err == nil && now.Online && enough() {
			return
		}
		if time.Since(start) > drivers && !hasInterface() {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
		}
	}
}

func hasInterface() bool {
	links, err := os.ReadDir("/sys/class/net")
	return err != nil || slices.ContainsFunc(links, func(e os.DirEntry) bool { return e.Name() != "lo" })
}
