package provision

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/userdata"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

// cloudWorld is a machine on EC2, whose metadata service is asked once.
func cloudWorld(t *testing.T, result platform.Result, err error, sources ...userdata.Source) *world {
	w := newWorld(t, links("10.0.0.5/24"), sources...)
	w.Platform = platform.EC2
	w.Ask = func(_ context.Context, name platform.Name) (platform.Result, error) {
		w.events = append(w.events, "ask "+string(name))
		return result, err
	}
	return w
}

func TestPlatform(t *testing.T) {
	addresses := cloudconfig.Addresses{PrivateIPv4: "10.0.0.5", PublicIPv4: "203.0.113.25", PublicIPv6: "2001:db8::2"}
	const document = "#cloud-config\nwrite_files: [{path: /a, content: $public_ipv4 $private_ipv4 $public_ipv6}]\n"
	result := platform.Result{
		UserData: []byte(document),
		Metadata: cloudconfig.Metadata{Hostname: "boat", SSHKeys: []string{"ssh-ed25519 AAAA"}, Addresses: addresses},
		Network:  []platform.File{{Name: "10-cloud-0.network", Content: "[Match]\nName=eth1\n"}},
	}
	t.Run("applies", func(t *testing.T) {
		w := cloudWorld(t, result, nil)
		w.Services = "services.target"
		if w.Run(t.Context()).Failed() {
			t.Error("failed")
		}
		if got := w.file(t, "/a"); got != "203.0.113.25 10.0.0.5 2001:db8::2" {
			t.Errorf("addresses %q", got)
		}
		if got := w.file(t, "/etc/hostname") + w.file(t, "/home/core/.ssh/authorized_keys.d/k") + w.file(t, "/run/systemd/network/10-cloud-0.network"); got != "boat\nssh-ed25519 AAAA\n[Match]\nName=eth1\n" {
			t.Errorf("%q", got)
		}
		want := []string{
			"waiting for the network, to get the metadata of platform ec2", "wait", "ask ec2",
			"reload", "restart systemd-networkd.service", "hostname boat",
		}
		if diff := cmp.Diff(want, w.events[:len(want)]); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("OEM names the public address", func(t *testing.T) {
		w := cloudWorld(t, result, nil, userdata.Source{Name: "oem", Data: []byte(strings.Replace(document, "/a", "/b", 1))})
		w.Run(t.Context())
		if got := w.file(t, "/b"); got != "203.0.113.25 10.0.0.5 2001:db8::2" {
			t.Errorf("addresses %q", got)
		}
		if n := strings.Count(strings.Join(w.events, "\n"), "ask ec2"); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
	t.Run("its disk wins", func(t *testing.T) {
		w := cloudWorld(t, result, nil, userdata.Source{Name: "config drive /dev/sr0", IsPlatform: true, Data: []byte("#cloud-config\nhostname: drive\n")})
		w.Run(t.Context())
		if got := w.file(t, "/etc/hostname"); got != "drive\n" {
			t.Errorf("hostname %q", got)
		}
		w.mustSay(t, "config drive /dev/sr0: it is used, the metadata of platform ec2 is not asked for")
		if slices.Contains(w.events, "ask ec2") || slices.Contains(w.events, "wait") {
			t.Errorf("asks or waits:\n%s", strings.Join(w.events, "\n"))
		}
	})
	t.Run("no answer", func(t *testing.T) {
		w := cloudWorld(t, platform.Result{}, errors.New("ask http://169.254.169.254/: 500"), userdata.Source{Name: "oem", Data: []byte("#cloud-config\nhostname: oem\n")})
		w.Services = "services.target"
		if !w.Run(t.Context()).Failed() || w.askFailure() == "" {
			t.Error("is said to be well")
		}
		w.mustSay(t, "metadata of platform ec2: error: ask http://169.254.169.254/: 500; the machine goes on without it", "oem: cloud-config applied")
		if got := w.file(t, "/etc/hostname"); got != "oem\n" {
			t.Errorf("hostname %q", got)
		}
	})
	t.Run("address of user-data", func(t *testing.T) {
		w := cloudWorld(t, platform.Result{URL: "http://192.0.2.1/x"}, nil)
		w.Fetch = func(_ context.Context, address string) ([]byte, error) {
			return []byte("#cloud-config\nhostname: far\n"), nil
		}
		w.Run(t.Context())
		if got := w.file(t, "/etc/hostname"); got != "far\n" {
			t.Errorf("hostname %q", got)
		}
	})
}

// TestStaticNetworkComesFirst writes a platform's network before the run waits
// for the network that it makes.
func TestStaticNetworkComesFirst(t *testing.T) {
	w := newWorld(t, links("192.0.2.5/24"), userdata.Source{
		Name: "drive", Data: []byte("#cloud-config\nwrite_files: [{path: /a, content: $private_ipv4}]\n"),
		Network: []platform.File{{Name: "10-cloud-0.network", Content: "[Match]\nName=eth0\n"}},
	})
	w.Run(t.Context())
	if len(w.events) < 4 || w.events[1] != "restart systemd-networkd.service" || w.events[3] != "wait" || w.file(t, "/a") != "192.0.2.5" {
		t.Errorf("%s\n%q", strings.Join(w.events, "\n"), w.file(t, "/a"))
	}
}

// TestAskBy runs programs in the place of the real one.
func TestAskBy(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	for _, tt := range []struct{ script, err, said string }{
		{`echo "trying again" >&2; echo '{"UserData":"aGk="}'`, "", "trying again"},
		{`echo "first" >&2; echo "no route" >&2; exit 1`, "no route", "first"},
		{`exit 3`, "exit status 3", ""},
		{`echo nonsense`, "read the answer", ""},
	} {
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"+tt.script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		var said []string
		result, err := askBy(program, func(line string) { said = append(said, line) })(t.Context(), platform.EC2)
		if (err == nil) != (tt.err == "") || (err != nil && !strings.Contains(err.Error(), tt.err)) || strings.Join(said, "") != tt.said {
			t.Errorf("%q: %v, said %q", tt.script, err, said)
		}
		if tt.err == "" && string(result.UserData) != "hi" {
			t.Errorf("%+v", result)
		}
	}
}

func TestReportBy(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho \"$@\" >> "+dir+"/calls\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []platform.Name{platform.EC2, platform.Azure} {
		for _, failure := range []string{"", "why"} {
			if err := reportBy(t.Context(), program, name, failure); err != nil {
				t.Error(err)
			}
		}
	}
	calls, err := os.ReadFile(dir + "/calls")
	want := "coreos-cloudinit-metadata -ready azure\ncoreos-cloudinit-metadata -failed why azure\n"
	if err != nil || string(calls) != want {
		t.Errorf("%q, %v", calls, err)
	}
}

// TestNothingIsWaitedFor: what can not be there costs no boot any time.
func TestNothingIsWaitedFor(t *testing.T) {
	for name, sources := range map[string][]userdata.Source{
		"an empty machine": nil,
		"no address named": {{Name: "fw_cfg", Data: []byte("#cloud-config\nhostname: h\nwrite_files: [{path: /a, content: x}]\n")}},
		"a script":         {{Name: "fw_cfg", Data: []byte("#!/bin/sh\n")}},
		"a broken one":     {{Name: "fw_cfg", Data: []byte("\x1f\x8b")}},
		"an Ignition one":  {{Name: "fw_cfg", Data: []byte(`{"ignition": {"version": "3.4.0"}}`)}},
	} {
		w := newWorld(t, nil, sources...)
		w.WaitNetwork = func(context.Context, func() bool) { t.Errorf("%s: the network is waited for", name) }
		w.Ask = func(context.Context, platform.Name) (platform.Result, error) {
			t.Errorf("%s: a platform is asked", name)
			return platform.Result{}, nil
		}
		w.Fetch = func(context.Context, string) ([]byte, error) {
			t.Errorf("%s: something is fetched", name)
			return nil, nil
		}
		w.Run(context.Background())
	}
}
