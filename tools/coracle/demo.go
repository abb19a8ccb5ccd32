package main

import (
	"context"
	_ "embed"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/tools/qemu"
	"github.com/coracle-os/coracle/tools/tufrepo"
	"github.com/coracle-os/coracle/tools/variant"
)

//go:embed demo.yaml
var demoUserData string

// demoLimit bounds each act of the demonstration.
const demoLimit = 15 * time.Minute

// demo is one demonstration of updates.
type demo struct {
	stdio  program.Stdio
	source string // top of the sources
	image  string // directory of the image
	dir    string // work directory
	repo   *tufrepo.Repo
	vm     *qemu.VM
	ssh    []string
	start  time.Time
}

// cmdDemoUpdate shows an update that is kept and one that is not.
func cmdDemoUpdate(ctx context.Context, args []string, stdio program.Stdio) error {
	flags := flag.NewFlagSet("coracle demo-update", flag.ContinueOnError)
	flags.SetOutput(stdio.Err)
	image := flags.String("image", "build", "`directory` that coracle build wrote")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	source, err := findSource("")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "coracle-demo-")
	if err != nil {
		return fmt.Errorf("make a folder for the demonstration: %w", err)
	}
	defer os.RemoveAll(dir)
	d := &demo{stdio: stdio, source: source, dir: dir, start: time.Now()}
	if d.image, err = filepath.Abs(*image); err != nil {
		return err
	}
	server, err := d.serve()
	if err != nil {
		return err
	}
	defer server.Close()
	defer d.repo.Close()
	if err := d.boot(ctx, server.Addr); err != nil {
		return err
	}
	defer d.vm.Kill()
	return d.play(ctx)
}

// serve makes keys and an empty repository and serves it on the loopback.
func (d *demo) serve() (*http.Server, error) {
	repo := filepath.Join(d.dir, "repo")
	var err error
	if d.repo, err = tufrepo.Create(repo, filepath.Join(d.dir, "keys"), 1, 1, time.Now); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("serve the repository: %w", err)
	}
	server := &http.Server{Addr: l.Addr().String(), Handler: http.FileServer(http.Dir(repo)), ReadHeaderTimeout: time.Minute}
	go server.Serve(l)
	return server, nil
}

// boot starts the machine with the release in the image.
func (d *demo) boot(ctx context.Context, address string) error {
	keyFile, public, err := writeKey(d.dir)
	if err != nil {
		return err
	}
	root, err := os.ReadFile(filepath.Join(d.dir, "repo", tufrepo.MetadataDir, "1.root.json"))
	if err != nil {
		return fmt.Errorf("read the repository's keys: %w", err)
	}
	_, serverPort, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("serve the repository: %w", err)
	}
	userData := filepath.Join(d.dir, "user-data")
	document := strings.NewReplacer("$KEY", public, "$ROOT", base64.StdEncoding.EncodeToString(root),
		"$SERVER", "http://10.0.2.2:"+serverPort).Replace(demoUserData)
	if err := os.WriteFile(userData, []byte(document), 0o600); err != nil {
		return fmt.Errorf("write user-data: %w", err)
	}
	port, err := qemu.FreePort()
	if err != nil {
		return err
	}
	c := qemu.Config{Name: "demo", Dir: d.dir, Image: filepath.Join(d.image, "coracle.raw"), UserData: userData, DiskSize: runDiskSize,
		Forwards: []qemu.Forward{{Host: port, Guest: 22}}}
	if d.vm, err = qemu.Start(ctx, c); err != nil {
		return err
	}
	d.ssh = sshArgs(keyFile, port)
	d.say("booting %s (%s; console in %s)", c.Image, d.vm.Accel, d.vm.ConsoleLog())
	if err := waitSSH(ctx, d.vm, port, d.start, d.stdio.Err); err != nil {
		d.vm.Kill()
		return err
	}
	return nil
}

// play is the demonstration's three acts.
func (d *demo) play(ctx context.Context) error {
	if err := d.follow(ctx, "in slot"); err != nil {
		return err
	}
	next, broken := variant.Next("0.2.0"), variant.Unhealthy("0.3.0")
	d.say("--- building and publishing 0.2.0, which differs in its version only")
	if err := d.publish(ctx, next); err != nil {
		return err
	}
	if err := d.follow(ctx, "good "+next.Version); err != nil {
		return err
	}
	d.say("--- building and publishing 0.3.0, whose own health check fails: it gets three tries")
	if err := d.publish(ctx, broken); err != nil {
		return err
	}
	if err := d.follow(ctx, "fallback "+broken.Version); err != nil {
		return err
	}
	d.say("--- back on 0.2.0; what the machine tells:")
	history, err := d.run(ctx, "updatectl status; echo; updatectl history | sed '/^$/,$d'; echo; echo '(updatectl history goes on with the last lines of the failed boots)'")
	fmt.Fprintln(d.stdio.Out, history)
	if err != nil {
		return fmt.Errorf("ask the machine: %w", err)
	}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		d.say("--- a shell on it; leaving the shell ends the demonstration")
		shell := exec.CommandContext(ctx, "ssh", d.ssh...)
		shell.Stdin, shell.Stdout, shell.Stderr = os.Stdin, os.Stdout, os.Stderr
		_ = shell.Run() // whatever the last command's exit code was
	}
	return powerOff(d.vm, d.stdio.Err)
}

// publish builds a release and offers it on the channel.
func (d *demo) publish(ctx context.Context, v variant.Variant) error {
	output := filepath.Join(d.dir, v.Version)
	if err := v.Build(ctx, d.source, d.image, output); err != nil {
		return err
	}
	b, closeRoot, err := tufrepo.ReadBuild(output)
	if err != nil {
		return err
	}
	_, err = d.repo.Publish(ctx, *b, tufrepo.Options{Channel: "stable", Fast: true})
	if err := errors.Join(err, closeRoot(), os.RemoveAll(output)); err != nil {
		return err
	}
	d.say("published %s on channel stable", v.Version)
	return nil
}

// question asks for the lines of updatectl that tell what goes on; the events
// of the history become one word and a version.
const question = `updatectl status | grep -E '^(Phase|Running|Next boot|Note):'; updatectl history | awk '$3=="good"||$3=="fallback"{print $3, $4}'`

// follow prints what the machine tells when it changes, until it tells want.
func (d *demo) follow(ctx context.Context, want string) error {
	ctx, cancel := context.WithTimeout(ctx, demoLimit)
	defer cancel()
	told := map[string]bool{}
	for {
		out, err := d.run(ctx, question)
		if err != nil {
			out = "the machine does not answer: it restarts"
		}
		now := map[string]bool{}
		for line := range strings.Lines(out) {
			line = strings.Join(strings.Fields(line), " ")
			now[line] = true
			if !told[line] {
				d.say("    %s", line)
			}
		}
		told = now
		if err == nil && strings.Contains(out, want) {
			return nil
		}
		select {
		case <-time.After(time.Second):
		case <-d.vm.Done():
			return errors.New("the machine has ended by itself; its console log says why")
		case <-ctx.Done():
			return fmt.Errorf("wait for the machine to tell %q: %w; its console ends with %q", want, ctx.Err(), lastLine(d.vm.ConsoleLog()))
		}
	}
}

// run runs a command on the machine.
func (d *demo) run(ctx context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	args := append([]string{"-o", "BatchMode=yes", "-o", "ConnectTimeout=5"}, d.ssh...)
	out, err := exec.CommandContext(ctx, "ssh", append(args, command)...).Output()
	return string(out), err
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.stdio.Out, "%5.0f s  %s\n", time.Since(d.start).Seconds(), fmt.Sprintf(format, args...))
}

// sshArgs are the arguments of ssh for a machine behind a port of the loopback.
func sshArgs(keyFile string, port int) []string {
	return []string{"-i", keyFile, "-p", strconv.Itoa(port), "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "core@127.0.0.1"}
}
