package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/tools/cluster"
)

// clusterTimeout bounds the time until the cluster is of use: emulated, three
// machines share the processors of one.
const clusterTimeout = 15 * time.Minute

// tellEvery is how often a log without a terminal hears what is waited for.
const tellEvery = 30 * time.Second

// clusterWait waits for a cluster that boots.
type clusterWait struct {
	cluster cluster.Cluster
	state   *cluster.State
	stdio   program.Stdio
	start   time.Time
}

// ready waits until every machine answers and, with our user-data, until its
// services run, the scheduler knows all machines, and the tour's image is there.
func (w clusterWait) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, clusterTimeout)
	defer cancel()
	for _, m := range w.state.Machines {
		if err := w.until(ctx, m, "its SSH server", func() error {
			if greets(m.SSHPort) {
				return nil
			}
			return errors.New("no greeting yet")
		}); err != nil {
			return err
		}
	}
	if w.state.Machines[0].Role == ownRole {
		return nil
	}
	for _, m := range w.state.Machines {
		for _, unit := range services(m.Role) {
			if err := w.until(ctx, m, unit, func() error { return w.run(ctx, m, "systemctl is-active "+unit, nil) }); err != nil {
				return err
			}
		}
	}
	first := w.state.Machines[0]
	all := fmt.Sprintf("fleetctl list-machines --no-legend | awk 'END {print NR \" are known\"; exit NR != %d}'", len(w.state.Machines))
	if err := w.until(ctx, first, "the scheduler to know all machines", func() error { return w.run(ctx, first, all, nil) }); err != nil {
		return err
	}
	return w.giveImage(ctx)
}

// services are the units that make a machine of use.
func services(role string) []string {
	list := []string{"etcd.service", "fleet.service", "names.service"}
	if role != "masters" {
		list = append(list, "flanneld.service", "docker.service")
	}
	return list
}

// until asks again and again, and shows what is waited for.
func (w clusterWait) until(ctx context.Context, m cluster.Machine, what string, done func() error) error {
	live := term.IsTerminal(int(os.Stderr.Fd()))
	for told := time.Now(); ; {
		if live {
			fmt.Fprintf(w.stdio.Err, "\r\x1b[K%4.0f s  %s: waiting for %s", time.Since(w.start).Seconds(), m.Name, what)
		}
		missing := done()
		if live {
			fmt.Fprint(w.stdio.Err, "\r\x1b[K")
		} else if time.Since(told) > tellEvery {
			told = time.Now()
			w.cluster.Log("%4.0f s  %s: waiting for %s: %v", time.Since(w.start).Seconds(), m.Name, what, missing)
		}
		switch {
		case missing == nil:
			return nil
		case !w.cluster.Running(m):
			return fmt.Errorf("wait for %s of %s: the machine has ended; its console (%s) ends with %q", what, m.Name,
				w.cluster.Console(m), lastLine(w.cluster.Console(m)))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s of %s: %w (%w); `%s cluster ssh %d systemctl --failed` may say more, its console (%s) ends with %q",
				what, m.Name, ctx.Err(), missing, programName(), m.Number, w.cluster.Console(m), lastLine(w.cluster.Console(m)))
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// run runs a command on a machine.
func (w clusterWait) run(ctx context.Context, m cluster.Machine, command string, input []byte) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	args := append([]string{"-o", "BatchMode=yes", "-o", "ConnectTimeout=10"}, sshArgs(w.cluster.Key(), m.SSHPort)...)
	cmd := exec.CommandContext(ctx, "ssh", append(args, command)...)
	cmd.Stdin = bytes.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run %q on %s: %w: %s", command, m.Name, err, bytes.TrimSpace(out))
	}
	return nil
}

// giveImage gives the machines the container image of the tour.
func (w clusterWait) giveImage(ctx context.Context) error {
	var image []byte
	for _, m := range w.state.Machines {
		if !slices.Contains(services(m.Role), "docker.service") || w.run(ctx, m, "docker image inspect web", nil) == nil {
			continue
		}
		if image == nil {
			var err error
			if image, err = webImage(ctx, w.cluster.Dir); err != nil {
				return err
			}
		}
		if err := w.run(ctx, m, `docker import -c 'ENTRYPOINT ["/web"]' - web`, image); err != nil {
			return err
		}
	}
	return nil
}

// webImage builds the tour's program and packs it as the only file of a root.
func webImage(ctx context.Context, dir string) ([]byte, error) {
	source, err := findSource("")
	if err != nil {
		return nil, err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "web")
	defer os.Remove(file)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, "./tools/cluster/web")
	cmd.Dir, cmd.Env = source, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the tour's program: %w: %s", err, bytes.TrimSpace(out))
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("build the tour's program: %w", err)
	}
	var image bytes.Buffer
	t := tar.NewWriter(&image)
	err = t.WriteHeader(&tar.Header{Name: "web", Mode: 0o755, Size: int64(len(text))})
	if err == nil {
		_, err = t.Write(text)
	}
	if err == nil {
		err = t.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("pack the tour's program: %w", err)
	}
	return image.Bytes(), nil
}

// tour prints what there is to be seen.
func (w clusterWait) tour() error {
	p := programName() + " cluster"
	n := len(w.state.Machines)
	fmt.Fprintf(w.stdio.Out, "%d machines are ready after %.0f s; `%s down` switches them off\n", n, time.Since(w.start).Seconds(), p)
	if w.state.Machines[0].Role == ownRole {
		fmt.Fprintf(w.stdio.Out, "log in with %s ssh 1\n", p)
		return nil
	}
	// Where units are started from has the file of one.
	from := slices.IndexFunc(w.state.Machines, func(m cluster.Machine) bool { return m.Role != "masters" }) + 1
	if from == 0 {
		fmt.Fprintf(w.stdio.Out, "log in with %s ssh 1\n", p)
		return nil
	}
	rows := [][2]string{
		{"ssh 1 etcdctl member list", "the store that they form"},
		{"ssh 1 fleetctl list-machines", "what the scheduler has to work with"},
		{fmt.Sprintf("ssh %d fleetctl start web.service", from), "a container, on one of them"},
		{fmt.Sprintf("ssh %d curl -s http://web.coracle.internal/", n), "the page, by name, from any machine"},
		{"ssh N sudo poweroff", "N: where it runs; soon another has the page. `up` brings N back"},
	}
	width := 0
	for _, r := range rows {
		width = max(width, len(r[0]))
	}
	var tour strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&tour, "  %s %-*s  # %s\n", p, width, r[0], r[1])
	}
	_, err := fmt.Fprintf(w.stdio.Out, "A tour:\n%s", tour.String())
	return err
}
