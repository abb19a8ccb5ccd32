package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/tools/qemu"
)

// State is the content of state.json.
type State struct {
	Image     string    `json:"image"`  // name in the folder
	Group     string    `json:"group"`  // multicast address and port of the machines' network
	Memory    int       `json:"memory"` // MiB of each
	DiskSize  int64     `json:"diskSize"`
	PublicKey string    `json:"publicKey"`
	Machines  []Machine `json:"machines"`
}

// Machine is one of the cluster.
type Machine struct {
	Number  int    `json:"number"` // from 1
	Name    string `json:"name"`
	Role    string `json:"role"`
	Address string `json:"address"` // on the machines' network
	SSHPort int    `json:"sshPort"` // of the host's loopback
	PID     int    `json:"pid"`     // of QEMU when it was last started
}

const stateFile = "state.json"

// ErrNone says that there is no cluster in the folder.
var ErrNone = errors.New("there is no cluster; `coracle cluster up` makes one")

// Load reads the state.
func (c Cluster) Load() (*State, error) {
	data, err := os.ReadFile(c.path(stateFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("look into %q: %w", c.Dir, ErrNone)
	}
	if err != nil {
		return nil, fmt.Errorf("read the cluster's state: %w", err)
	}
	s := &State{}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("read the cluster's state %q: %w; remove the folder and end its machines (qemu-system-x86_64) by hand", c.path(stateFile), err)
	}
	for _, m := range s.Machines {
		if m.Number < 1 || m.Role == "" || strings.Contains(m.Role, "/") || strings.Contains(s.Image, "/") {
			return nil, fmt.Errorf("read the cluster's state %q: machine %d of role %q cannot be; remove the folder", c.path(stateFile), m.Number, m.Role)
		}
	}
	return s, nil
}

// save replaces the state as a whole.
func (c Cluster) save(s *State) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = os.WriteFile(c.path(stateFile+".new"), append(data, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(c.path(stateFile+".new"), c.path(stateFile))
	}
	if err != nil {
		return fmt.Errorf("write the cluster's state: %w", err)
	}
	return nil
}

// lockEvery is how often a lock that another command holds is tried.
const lockEvery = 200 * time.Millisecond

// lock makes the folder and waits until no other command changes the cluster.
func (c Cluster) lock(ctx context.Context) (unlock func(), err error) {
	for told := false; ; told = true {
		if err := os.MkdirAll(c.Dir, 0o755); err != nil {
			return nil, fmt.Errorf("make the cluster's folder: %w", err)
		}
		f, err := os.OpenFile(c.path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock the cluster: %w", err)
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && c.isLock(f) {
			return func() { f.Close() }, nil
		}
		f.Close()
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock the cluster: %w", err)
		}
		if err != nil && !told {
			c.Log("another command changes the cluster; waiting for it")
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("lock the cluster: another command holds %q: %w", c.path("lock"), ctx.Err())
		case <-time.After(lockEvery):
		}
	}
}

// isLock says whether f still is the lock, and was not removed by the one who
// held it.
func (c Cluster) isLock(f *os.File) bool {
	mine, err1 := f.Stat()
	named, err2 := os.Stat(c.path("lock"))
	return err1 == nil && err2 == nil && os.SameFile(mine, named)
}

func (c Cluster) path(name string) string { return filepath.Join(c.Dir, name) }

func (c Cluster) machineDir(m Machine) string { return c.path(strconv.Itoa(m.Number)) }

// Console is the file with all that the machine's serial console printed.
func (c Cluster) Console(m Machine) string { return qemu.Config{Dir: c.machineDir(m)}.ConsoleLog() }

// Key is the file with the key that logs in.
func (c Cluster) Key() string { return c.path("id_ed25519") }

// UserData is the file with the user-data of a machine.
func (c Cluster) UserData(m Machine) string { return c.path(m.Role + ".yaml") }

func (c Cluster) detached(m Machine) qemu.Detached { return qemu.Attach(c.machineDir(m)) }

// Running says whether a machine runs; its guest may be booting still.
func (c Cluster) Running(m Machine) bool { return c.detached(m).Running() }
