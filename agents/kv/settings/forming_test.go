package settings_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/kv/options"
	"github.com/coracle-os/coracle/agents/kv/proxy"
	"github.com/coracle-os/coracle/agents/kv/settings"
	"github.com/google/go-cmp/cmp"
)

// forming3 is what no variable gives.
func forming3(change func(*settings.Forming)) settings.Forming {
	f := settings.Forming{
		Proxy: proxy.Off, Heal: true, RemoveDelay: 30 * time.Minute,
		Times: proxy.Times{Dial: time.Second, Failure: 5 * time.Second, Write: 5 * time.Second, Refresh: 30 * time.Second},
	}
	if change != nil {
		change(&f)
	}
	return f
}

func TestForming(t *testing.T) {
	for _, c := range []struct {
		name     string
		env      []string
		want     settings.Forming
		warnings []string
	}{
		{name: "nothing set", want: forming3(nil)},
		{
			name: "2: discovery", env: []string{"ETCD_DISCOVERY=https://discovery.etcd.io/1", "ETCD_DISCOVERY_FALLBACK=exit", "ETCD_DISCOVERY_PROXY=http://10.0.0.9:3128"},
			want: forming3(func(f *settings.Forming) {
				f.Discovery, f.FallbackExit, f.DiscoveryProxy = "https://discovery.etcd.io/1", true, "http://10.0.0.9:3128"
			}),
		},
		{
			name: "2: proxy", env: []string{"ETCD_PROXY=readonly", "ETCD_PROXY_DIAL_TIMEOUT=10", "ETCD_PROXY_FAILURE_WAIT=20", "ETCD_PROXY_READ_TIMEOUT=30", "ETCD_PROXY_WRITE_TIMEOUT=40", "ETCD_PROXY_REFRESH_INTERVAL=50"},
			want: forming3(func(f *settings.Forming) {
				f.Proxy = proxy.Readonly
				f.Times = proxy.Times{Dial: 10 * time.Millisecond, Failure: 20 * time.Millisecond, Read: 30 * time.Millisecond, Write: 40 * time.Millisecond, Refresh: 50 * time.Millisecond}
			}),
		},
		{
			name: "0.4: size and delays", env: []string{"ETCD_CLUSTER_ACTIVE_SIZE=5", "ETCD_CLUSTER_REMOVE_DELAY=90.5", "ETCD_CLUSTER_SYNC_INTERVAL=7"},
			want: forming3(func(f *settings.Forming) {
				f.Size, f.RemoveDelay, f.Times.Refresh = 5, 90500*time.Millisecond, 7*time.Second
			}),
		},
		{
			name: "join and heal", env: []string{"ETCD_JOIN=10.0.0.1, host:4001,https://h:2379", "ETCD_JOIN_TOKEN=secret", "ETCD_HEAL=off", "ETCD_REMOVE_DELAY=10m", "ETCD_CLUSTER_REMOVE_DELAY=1"},
			want: forming3(func(f *settings.Forming) {
				f.Join, f.JoinToken = []string{"http://10.0.0.1:2379", "http://host:4001", "https://h:2379"}, "secret"
				f.Heal, f.RemoveDelay = false, 10*time.Minute
			}),
		},
		{
			name: "two ways to form", env: []string{"ETCD_INITIAL_CLUSTER=id=http://127.0.0.1:2380", "ETCD_DISCOVERY=http://h/t", "ETCD_DISCOVERY_SRV=example.org", "ETCD_JOIN=h"},
			want: forming3(nil),
			warnings: []string{
				`ETCD_DISCOVERY="http://h/t" has no effect: ETCD_INITIAL_CLUSTER is set too and comes first`,
				`ETCD_DISCOVERY_SRV="example.org" has no effect: ETCD_INITIAL_CLUSTER is set too and comes first`,
				`ETCD_JOIN="h" has no effect: ETCD_INITIAL_CLUSTER is set too and comes first`,
			},
		},
		{
			name: "join without a token", env: []string{"ETCD_JOIN=h"},
			want:     forming3(func(f *settings.Forming) { f.Join = []string{"http://h:2379"} }),
			warnings: []string{`ETCD_JOIN="h" is set without ETCD_JOIN_TOKEN: members admit machines only that know their token`},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := settings.FromEnvironment(append(c.env, "ETCD_INITIAL_ADVERTISE_PEER_URLS=http://127.0.0.1:2380"), settings.Machine{ID: "id"}, options.New(io.Discard).Known)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, s.Forming); d != "" {
				t.Errorf("forming (-want +got):\n%s", d)
			}
			if d := cmp.Diff(c.warnings, s.Warnings); d != "" {
				t.Errorf("warnings (-want +got):\n%s", d)
			}
		})
	}
}

func TestFormingErrors(t *testing.T) {
	for env, want := range map[string]string{
		"ETCD_PROXY=maybe":                 `read ETCD_PROXY="maybe": it is none of off, on, readonly`,
		"ETCD_DISCOVERY_FALLBACK=wait":     `read ETCD_DISCOVERY_FALLBACK="wait": it is none of proxy, exit`,
		"ETCD_DISCOVERY=token":             `read ETCD_DISCOVERY="token": it is not a URL; write it as https://HOST/TOKEN`,
		"ETCD_DISCOVERY_PROXY=10.0.0.1:80": `it is not a URL`,
		"ETCD_REMOVE_DELAY=soon":           `read ETCD_REMOVE_DELAY="soon": it is not a time`,
		"ETCD_REMOVE_DELAY=-5":             `it is not a time`,
		"ETCD_REMOVE_DELAY=1e300":          `it is not a time`,
		"ETCD_PROXY_DIAL_TIMEOUT=NaN":      `it is not a time`,
		"ETCD_CLUSTER_ACTIVE_SIZE=-1":      `it is not a number of members`,
		"ETCD_JOIN=10.0.0.1":               `has no address yet, which others could reach`,
		"ETCD_JOIN=:2379":                  `it has no host`,
		"ETCD_JOIN=h:99999":                `the port is not a number`,
	} {
		_, err := settings.FromEnvironment([]string{env}, settings.Machine{ID: "id"}, options.New(io.Discard).Known)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want %s", env, err, want)
		}
	}
}

// TestOwnAddress: a machine that forms a cluster with others is never
// advertised as 127.0.0.1 because its address was not known.
func TestOwnAddress(t *testing.T) {
	for _, c := range []struct {
		name              string
		env               []string
		address           string
		peer, client, err string
	}{
		{"nothing given", []string{"ETCD_DISCOVERY=http://h/t"}, "10.0.0.7", "http://10.0.0.7:2380", "http://10.0.0.7:2379", ""},
		{"not substituted", []string{"ETCD_DISCOVERY=http://h/t", "ETCD_INITIAL_ADVERTISE_PEER_URLS=http://$private_ipv4:2380", "ETCD_ADVERTISE_CLIENT_URLS=http://:2379"}, "10.0.0.7", "http://10.0.0.7:2380", "http://10.0.0.7:2379", ""},
		{"0.4, not substituted", []string{"ETCD_DISCOVERY=http://h/t", "ETCD_PEER_ADDR=$private_ipv4:7001", "ETCD_ADDR=:4001"}, "10.0.0.7", "http://10.0.0.7:7001", "http://10.0.0.7:4001", ""},
		{"given", []string{"ETCD_JOIN=h", "ETCD_JOIN_TOKEN=t", "ETCD_PEER_ADDR=10.0.0.9:7001", "ETCD_ADDR=10.0.0.9:4001"}, "10.0.0.7", "http://10.0.0.9:7001", "http://10.0.0.9:4001", ""},
		{"IPv6", []string{"ETCD_DISCOVERY_SRV=h"}, "fd00::1", "http://[fd00::1]:2380", "http://[fd00::1]:2379", ""},
		{"alone", nil, "10.0.0.7", "http://127.0.0.1:2380", "http://127.0.0.1:2379", ""},
		{"no address at all", []string{"ETCD_DISCOVERY=http://h/t", "ETCD_PEER_ADDR=:7001"}, "", "", "", `the peer address ":7001" has no host and this machine has no address yet`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := settings.FromEnvironment(c.env, settings.Machine{ID: "id", Address: c.address}, options.New(io.Discard).Known)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %v, want %s", err, c.err)
				}
				return
			}
			if err != nil || s.Flags["initial-advertise-peer-urls"] != c.peer || s.Flags["advertise-client-urls"] != c.client {
				t.Errorf("got %q, %q, %v", s.Flags["initial-advertise-peer-urls"], s.Flags["advertise-client-urls"], err)
			}
		})
	}
}

// TestBegins: of machines with the same user-data, the one that ETCD_JOIN names
// begins the cluster.
func TestBegins(t *testing.T) {
	for _, c := range []struct {
		join string
		want []string
	}{
		{"10.0.0.7", nil},
		{"10.0.0.7:4001", nil},
		{"http://box:2379", nil},
		{"10.0.0.7:5001", []string{"http://10.0.0.7:5001"}}, // another member on this machine
		{"10.0.0.8,10.0.0.7", []string{"http://10.0.0.8:2379"}},
		{"10.0.0.8", []string{"http://10.0.0.8:2379"}},
	} {
		s, err := settings.FromEnvironment([]string{"ETCD_JOIN=" + c.join, "ETCD_JOIN_TOKEN=t"},
			settings.Machine{ID: "id", Hostname: "box", Address: "10.0.0.7"}, options.New(io.Discard).Known)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.want, s.Forming.Join); d != "" || s.Forming.JoinToken != "t" {
			t.Errorf("%s (-want +got):\n%s", c.join, d)
		}
	}
}
