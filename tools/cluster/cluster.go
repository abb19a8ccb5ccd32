// Package cluster keeps a cluster of machines in QEMU on one host: for people
// who want to see one, and for the demonstration (`coracle cluster`). Machines
// stay when the command that started them ends; what is known of them is in
// one folder:
//
//	state.json     what the machines are: numbers, roles, processes, ports
//	lock           held while machines are started or ended
//	image.qcow2    the image that they were made of, whatever is built later
//	id_ed25519     the key that logs in to them
//	ROLE.yaml      the user-data of a role, to be edited; all machines of a role have the same
//	N/             machine N: disk, console.log, meta-data, QEMU's sockets
//
// Machine N is coracleN with 10.9.0.N on a network of their own, and reaches the
// world by a second card. It knows its name, address and key from QEMU's fw_cfg,
// as machines in a cloud know theirs from the metadata.
//
// Left out on purpose: several clusters of one folder, and changing the number
// of machines of a cluster that is there.
package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/coracle-os/coracle/tools/qemu"
)

// Cluster is a folder of machines.
type Cluster struct {
	Dir string
	Log func(format string, args ...any) // tells people one line
}

// Plan is what Up makes when there is no cluster yet.
type Plan struct {
	Image    string // qcow2 or raw; never written to
	Roles    []Role
	Memory   int   // MiB of each machine; 0: DefaultMemory, or what they had
	DiskSize int64 // bytes of each machine's disk at most; it grows by use
	Keys     Keys
}

// Role is a number of machines with the same user-data.
type Role struct {
	Name     string
	Machines int
	UserData []byte
}

// Keys makes the key that logs in, as a file in dir, and returns its public half.
type Keys func(dir string) (file, public string, err error)

// DefaultMemory is what a machine gets, in MiB: the system takes 160 of it, and
// three machines fit into 4 GiB of the host with what QEMU itself needs.
const DefaultMemory = 768

// codeSize is what QEMU may use for translated code where it emulates, in MiB.
const codeSize = 448

// subnet of the machines' own network.
const subnet = "10.9.0."

// Most is how many machines a cluster can have.
const Most = 16

// Up starts the machines that do not run. When there are none it makes those of
// the plan; else only the plan's memory counts, for machines that start. It returns when they are started; they boot on their own.
func (c Cluster) Up(ctx context.Context, p Plan, host Host) (*State, error) {
	unlock, err := c.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	s, err := c.Load()
	made := !errors.Is(err, ErrNone)
	if !made {
		s, err = p.state()
	}
	if err != nil {
		return nil, err
	}
	if p.Memory > 0 {
		s.Memory = p.Memory
	}
	var stopped []*Machine
	for i := range s.Machines {
		if !c.Running(s.Machines[i]) {
			stopped = append(stopped, &s.Machines[i])
		}
	}
	// Before anything is made: a second try may ask for less.
	if err := host.check(len(stopped), s.Memory, c.Dir); err != nil {
		return nil, err
	}
	if !made {
		if err := c.create(s, p); err != nil {
			return nil, err
		}
	}
	for _, m := range stopped {
		if err := c.start(ctx, s, m); err != nil {
			return nil, errors.Join(err, c.save(s))
		}
		// After each: whoever is interrupted leaves no machine that is not known.
		if err := c.save(s); err != nil {
			return nil, err
		}
	}
	if n := len(s.Machines) - len(stopped); n > 0 && len(stopped) > 0 {
		c.Log("%d machines ran already", n)
	}
	return s, nil
}

// state is what there is to be.
func (p Plan) state() (*State, error) {
	if _, err := os.Stat(p.Image); err != nil {
		return nil, fmt.Errorf("make the cluster: no image %q; build one first (make image)", p.Image)
	}
	s := &State{Memory: DefaultMemory, DiskSize: p.DiskSize, Image: "image" + filepath.Ext(p.Image)}
	for _, r := range p.Roles {
		for range r.Machines {
			n := len(s.Machines) + 1
			s.Machines = append(s.Machines, Machine{Number: n, Name: fmt.Sprintf("coracle%d", n), Role: r.Name, Address: subnet + strconv.Itoa(n)})
		}
	}
	if n := len(s.Machines); n < 1 || n > Most {
		return nil, fmt.Errorf("make the cluster: %d machines are asked for; 1 to %d can be", n, Most)
	}
	return s, nil
}

// create fills the folder; the state comes last, so that a cluster is there as
// a whole or not at all.
func (c Cluster) create(s *State, p Plan) error {
	for _, r := range p.Roles {
		if err := os.WriteFile(c.path(r.Name+".yaml"), r.UserData, 0o644); err != nil {
			return fmt.Errorf("write the user-data: %w", err)
		}
	}
	if err := keep(p.Image, c.path(s.Image)); err != nil {
		return err
	}
	var err error
	if _, s.PublicKey, err = p.Keys(c.Dir); err != nil {
		return err
	}
	port, err := qemu.FreePort()
	if err != nil {
		return err
	}
	// Clusters of one host have different groups as long as the ports differ.
	s.Group = fmt.Sprintf("239.255.9.2:%d", port)
	return c.save(s)
}

// keep gives the image a second name, or copies it to another file system.
func keep(image, to string) error {
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("keep the image: %w", err)
	}
	if os.Link(image, to) == nil {
		return nil
	}
	from, err := os.Open(image)
	if err != nil {
		return fmt.Errorf("keep the image: %w", err)
	}
	defer from.Close()
	f, err := os.Create(to)
	if err != nil {
		return fmt.Errorf("keep the image: %w", err)
	}
	_, err = io.Copy(f, from)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("keep the image: %w", err)
	}
	return nil
}

// startTries is how often a port is chosen anew that another program took
// between choosing and use.
const startTries = 3

// start starts a machine with its disk as it is.
func (c Cluster) start(ctx context.Context, s *State, m *Machine) error {
	dir := c.machineDir(*m)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the machine's folder: %w", err)
	}
	metadata, err := json.Marshal(map[string]any{
		"hostname": m.Name, "public_keys": map[string]string{"coracle cluster": s.PublicKey}, "local-ipv4": m.Address})
	if err != nil {
		return fmt.Errorf("write the machine's metadata: %w", err)
	}
	metadataFile := filepath.Join(dir, "meta-data")
	if err := os.WriteFile(metadataFile, metadata, 0o644); err != nil {
		return fmt.Errorf("write the machine's metadata: %w", err)
	}
	for try := 1; ; try++ {
		if m.SSHPort == 0 || try > 1 {
			if m.SSHPort, err = qemu.FreePort(); err != nil {
				return err
			}
		}
		d, err := qemu.StartDetached(ctx, qemu.Config{Name: m.Name, Dir: dir, Image: c.path(s.Image), Memory: s.Memory, CPUs: 1, CodeSize: codeSize, DiskSize: s.DiskSize,
			UserData: c.path(m.Role + ".yaml"), MetaData: metadataFile,
			Forwards: []qemu.Forward{{Host: m.SSHPort, Guest: 22}},
			LAN:      qemu.LAN{Group: s.Group, MAC: fmt.Sprintf("52:54:00:09:00:%02x", m.Number)}})
		if err == nil {
			m.PID = d.PID
			c.Log("%s starts (%d MiB; console in %s)", m.Name, s.Memory, c.Console(*m))
			return nil
		}
		if try == startTries || ctx.Err() != nil || !portTaken(err) {
			return fmt.Errorf("start %s: %w", m.Name, err)
		}
	}
}

// Down switches the machines off, and ends those that do not go within the
// time; with remove, nothing of the cluster stays.
func (c Cluster) Down(ctx context.Context, within time.Duration, remove bool) error {
	if _, err := c.Load(); err != nil { // makes no folder where nothing is
		return err
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := c.Load()
	if err != nil {
		return err
	}
	var ending sync.WaitGroup
	failed := make([]error, len(s.Machines))
	for i, m := range s.Machines {
		ending.Go(func() { failed[i] = c.end(ctx, m, within, remove) })
	}
	ending.Wait()
	if err := errors.Join(failed...); err != nil {
		return err
	}
	if !remove {
		return nil
	}
	// Only what this package made, should somebody have put more there.
	names := []string{s.Image, "id_ed25519", "lock"}
	for _, m := range s.Machines {
		names = append(names, m.Role+".yaml", strconv.Itoa(m.Number))
	}
	for _, name := range append(names, stateFile) {
		if err := os.RemoveAll(c.path(name)); err != nil {
			return fmt.Errorf("remove the cluster: %w", err)
		}
	}
	_ = os.Remove(c.Dir) // stays when it holds something else
	return nil
}

// end ends one machine. One whose disk is about to go needs no farewell.
func (c Cluster) end(ctx context.Context, m Machine, within time.Duration, now bool) error {
	d := c.detached(m)
	if !d.Running() {
		return nil
	}
	if !now {
		waiting, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		err := d.PowerButton()
		if err == nil {
			err = d.Wait(waiting)
		}
		if err == nil {
			c.Log("%s is off", m.Name)
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		c.Log("%s did not switch itself off within %s (%v) and is ended", m.Name, within, err)
	}
	if err := d.Kill(); err != nil {
		return err
	}
	return d.Wait(ctx)
}
