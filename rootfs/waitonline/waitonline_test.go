package waitonline

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coracle-os/coracle/rootfs/network/state"
	"github.com/coracle-os/coracle/rootfs/program"
)

var (
	up   = state.Interface{Name: "eth0", OperState: "routable", SetupState: "configured"}
	down = state.Interface{Name: "eth1", OperState: "carrier", SetupState: "configuring", Problem: "no DHCP server answers"}
	veth = state.Interface{Name: "veth0", OperState: "carrier", SetupState: "unmanaged"}
)

func TestOnline(t *testing.T) {
	current := state.State{Interfaces: []state.Interface{up, down, veth}}
	for args, want := range map[string]bool{
		"": false, "--any": true, "--interface=eth0": true, "-i eth1": false, "-i eth0 -i eth1": false,
		"-i eth0 -i eth1 --any": true, "-i nosuch": false,
	} {
		opts, err := parse(strings.Fields(args))
		if err != nil {
			t.Fatal(err)
		}
		if got := online(opts, current); got != want {
			t.Errorf("%q: got %v, want %v", args, got, want)
		}
	}
	current.Online = true
	if !online(options{}, current) {
		t.Error("the daemon says online, and that is not enough")
	}
}

func TestWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	write := func(s state.State) {
		if _, err := state.Write(path, s); err != nil {
			t.Error(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		opts := options{timeout: 15 * time.Second}
		start := time.Now()
		err := wait(context.Background(), opts, path)
		if err == nil || !strings.Contains(err.Error(), "has not said anything") || time.Since(start) != 15*time.Second {
			t.Errorf("without a daemon: got %v after %v", err, time.Since(start))
		}
		write(state.State{Interfaces: []state.Interface{down, veth}})
		err = wait(context.Background(), opts, path)
		if want := "eth1 is carrier (configuring): no DHCP server answers"; err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("without a server: got %v, want %q at the end", err, want)
		}
		go func() {
			time.Sleep(3 * time.Second)
			write(state.State{Online: true, Interfaces: []state.Interface{up}})
		}()
		start = time.Now()
		if err := wait(context.Background(), opts, path); err != nil || time.Since(start) > 4*time.Second {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
	})
}

func TestArguments(t *testing.T) {
	opts, err := parse([]string{"--timeout=1min", "-q"})
	if err != nil || opts.timeout != time.Minute || !opts.quiet {
		t.Errorf("got %+v, %v", opts, err)
	}
	for _, bad := range []string{"--bogus", "--timeout=soon", "--timeout"} {
		var out bytes.Buffer
		if code := Main(context.Background(), []string{"systemd-networkd-wait-online", bad}, program.Stdio{Err: &out}); code != 2 || out.Len() == 0 {
			t.Errorf("%s: got code %d and %q", bad, code, &out)
		}
	}
}
