package settings_test

import (
	"fmt"
	"io"
	"testing"

	"github.com/coracle-os/coracle/agents/kv/options"
	"github.com/coracle-os/coracle/agents/kv/settings"
	"github.com/google/go-cmp/cmp"
)

const private = "http://127.0.0.1:2379,http://127.0.0.1:4001"

// flags3 is what every case has unless it says otherwise.
func flags3(change map[string]string) map[string]string {
	f := map[string]string{
		"name": "id", "data-dir": "/var/lib/etcd", "log-format": "console",
		"listen-client-urls": private, "advertise-client-urls": "http://127.0.0.1:2379",
		"listen-peer-urls": "http://127.0.0.1:2380", "initial-advertise-peer-urls": "http://127.0.0.1:2380",
	}
	for k, v := range change {
		f[k] = v
	}
	return f
}

func TestFromEnvironment(t *testing.T) {
	for _, c := range []struct {
		name     string
		env      []string
		flags    map[string]string
		warnings []string
	}{
		{name: "nothing set"},
		{name: "other variables", env: []string{"PATH=/bin", "ETCD_CORS=", "broken"}},
		{
			name: "0.4: the example of the documentation",
			env:  []string{"ETCD_ADDR=10.0.2.15:4001", "ETCD_PEER_ADDR=10.0.2.15:7001"},
			flags: map[string]string{
				"listen-client-urls": "http://0.0.0.0:2379,http://0.0.0.0:4001", "advertise-client-urls": "http://10.0.2.15:4001",
				"listen-peer-urls": "http://0.0.0.0:2380,http://0.0.0.0:7001", "initial-advertise-peer-urls": "http://10.0.2.15:7001",
			},
		},
		{
			name: "0.4: the address was not known",
			env:  []string{"ETCD_ADDR=:4001", "ETCD_PEER_ADDR=$private_ipv4:7001"},
			flags: map[string]string{
				"listen-client-urls": "http://0.0.0.0:2379,http://0.0.0.0:4001", "advertise-client-urls": "http://127.0.0.1:4001",
				"listen-peer-urls": "http://0.0.0.0:2380,http://0.0.0.0:7001", "initial-advertise-peer-urls": "http://127.0.0.1:7001",
			},
			warnings: []string{
				`ETCD_ADDR=":4001" has no host, this machine's address was not known: 127.0.0.1 is advertised`,
				`ETCD_PEER_ADDR="$private_ipv4:7001" has no host, this machine's address was not known: 127.0.0.1 is advertised`,
			},
		},
		{
			name: "0.4: bound to one address and another port",
			env:  []string{"ETCD_ADDR=10.0.0.1:5001", "ETCD_BIND_ADDR=10.0.0.1"},
			flags: map[string]string{
				"listen-client-urls": "http://10.0.0.1:2379,http://10.0.0.1:4001,http://10.0.0.1:5001," +
					"http://127.0.0.1:2379,http://127.0.0.1:4001,http://127.0.0.1:5001",
				"advertise-client-urls": "http://10.0.0.1:5001",
			},
		},
		{
			name: "0.4: TLS and timing",
			env: []string{"ETCD_ADDR=10.0.0.1:4001", "ETCD_CA_FILE=/ca", "ETCD_CERT_FILE=/c", "ETCD_KEY_FILE=/k", "ETCD_SNAPSHOTCOUNT=5",
				"ETCD_PEER_ELECTION_TIMEOUT=2000", "ETCD_PEER_HEARTBEAT_INTERVAL=200", "ETCD_VERY_VERBOSE=true"},
			flags: map[string]string{
				"listen-client-urls": "https://0.0.0.0:2379,https://0.0.0.0:4001", "advertise-client-urls": "https://10.0.0.1:4001",
				"trusted-ca-file": "/ca", "client-cert-auth": "true", "cert-file": "/c", "key-file": "/k", "snapshot-count": "5",
				"election-timeout": "2000", "heartbeat-interval": "200", "log-level": "debug",
			},
		},
		{
			name: "0.4 and 2: what is no more",
			env:  []string{"ETCD_SNAPSHOT=true", "ETCD_GRAPHITE_HOST=h:1", "ETCD_PEERS=10.0.0.1:7001", "ETCD_NOSUCH=1"},
			warnings: []string{
				`ETCD_GRAPHITE_HOST="h:1" has no effect: figures are at /metrics on the client port`,
				`ETCD_NOSUCH="1" is not a setting of etcd 3.7 and has no effect`,
				`ETCD_PEERS="10.0.0.1:7001" has no effect: a list of peers does not say whether a cluster exists: set ETCD_INITIAL_CLUSTER for a new one, or ETCD_JOIN and ETCD_JOIN_TOKEN`,
				`ETCD_SNAPSHOT="true" has no effect: snapshots are always on; see ETCD_SNAPSHOT_COUNT`,
			},
		},
		{
			name: "the name from the list of members",
			env:  []string{"ETCD_INITIAL_CLUSTER=a=http://10.0.0.1:2380,b=http://10.0.0.2:2380", "ETCD_INITIAL_ADVERTISE_PEER_URLS=http://10.0.0.2:2380", "ETCD_LISTEN_PEER_URLS=http://10.0.0.2:2380"},
			flags: map[string]string{
				"name": "b", "initial-cluster": "a=http://10.0.0.1:2380,b=http://10.0.0.2:2380",
				"listen-peer-urls": "http://10.0.0.2:2380", "initial-advertise-peer-urls": "http://10.0.0.2:2380",
			},
		},
		{
			name: "2: as coreos.etcd2 writes it",
			env: []string{"ETCD_NAME=n", "ETCD_ADVERTISE_CLIENT_URLS=http://10.0.0.1:2379", "ETCD_INITIAL_ADVERTISE_PEER_URLS=http://10.0.0.1:2380",
				"ETCD_LISTEN_CLIENT_URLS=http://0.0.0.0:2379,http://0.0.0.0:4001", "ETCD_LISTEN_PEER_URLS=http://10.0.0.1:2380",
				"ETCD_INITIAL_CLUSTER=n=http://10.0.0.1:2380", "ETCD_DATA_DIR=/data"},
			flags: map[string]string{
				"name": "n", "data-dir": "/data", "initial-cluster": "n=http://10.0.0.1:2380",
				"listen-client-urls": "http://0.0.0.0:2379,http://0.0.0.0:4001", "advertise-client-urls": "http://10.0.0.1:2379",
				"listen-peer-urls": "http://10.0.0.1:2380", "initial-advertise-peer-urls": "http://10.0.0.1:2380",
			},
		},
		{
			name: "2: the address was not known",
			env:  []string{"ETCD_ADVERTISE_CLIENT_URLS=http://:2379", "ETCD_LISTEN_PEER_URLS=http://$private_ipv4:2380,http://$private_ipv4:7001", "ETCD_INITIAL_ADVERTISE_PEER_URLS=http://$private_ipv4:2380"},
			flags: map[string]string{
				"listen-client-urls": "http://0.0.0.0:2379,http://0.0.0.0:4001", "advertise-client-urls": "http://127.0.0.1:2379",
				"listen-peer-urls": "http://0.0.0.0:2380,http://0.0.0.0:7001", "initial-advertise-peer-urls": "http://127.0.0.1:2380",
			},
			warnings: []string{
				`--advertise-client-urls: "http://:2379" has no host, this machine's address was not known: 127.0.0.1 is used`,
				`--initial-advertise-peer-urls: "http://:2380" has no host, this machine's address was not known: 127.0.0.1 is used`,
				`--listen-peer-urls: "http://:2380" has no host, this machine's address was not known: 0.0.0.0 is used`,
				`--listen-peer-urls: "http://:7001" has no host, this machine's address was not known: 0.0.0.0 is used`,
			},
		},
		{
			name:     "an older and a newer word for one thing",
			env:      []string{"ETCD_SNAPSHOTCOUNT=5", "ETCD_SNAPSHOT_COUNT=6"},
			flags:    map[string]string{"snapshot-count": "6"},
			warnings: []string{`ETCD_SNAPSHOTCOUNT="5" has no effect: --snapshot-count is already "6"`},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := settings.FromEnvironment(c.env, settings.Machine{ID: "id", Hostname: "host"}, options.New(io.Discard).Known)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(flags3(c.flags), s.Flags); d != "" {
				t.Errorf("flags (-want +got):\n%s", d)
			}
			if d := cmp.Diff(c.warnings, s.Warnings); d != "" {
				t.Errorf("warnings (-want +got):\n%s", d)
			}
		})
	}
}

func TestFromEnvironmentErrors(t *testing.T) {
	for _, c := range []struct{ env, want string }{
		{"ETCD_ADDR=10.0.0.1:http:x", `read ETCD_ADDR="10.0.0.1:http:x": address 10.0.0.1:http:x: too many colons in address; write it as host:port`},
		{"ETCD_ADDR=10.0.0.1:70000", `read ETCD_ADDR="10.0.0.1:70000": the port is not a number from 1 to 65535`},
		{"ETCD_LISTEN_PEER_URLS=http://a b:2380", `read --listen-peer-urls: "http://a b:2380" is not a URL: parse "http://a b:2380": invalid character " " in host name`},
	} {
		_, err := settings.FromEnvironment([]string{c.env}, settings.Machine{ID: "id"}, options.New(io.Discard).Known)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: got error %v, want %s", c.env, err, c.want)
		}
	}
}

func TestNameOfMachine(t *testing.T) {
	for _, c := range []struct {
		m    settings.Machine
		want string
	}{{settings.Machine{ID: "id", Hostname: "host"}, "id"}, {settings.Machine{Hostname: "host"}, "host"}, {settings.Machine{}, ""}} {
		s, err := settings.FromEnvironment(nil, c.m, options.New(io.Discard).Known)
		if err != nil || s.Flags["name"] != c.want {
			t.Errorf("%+v: name %q, error %v, want %q", c.m, s.Flags["name"], err, c.want)
		}
	}
}

func ExampleFromEnvironment() {
	s, _ := settings.FromEnvironment([]string{"ETCD_ADDR=10.0.0.1:4001"}, settings.Machine{ID: "m"}, func(string) bool { return false })
	fmt.Println(s.Flags["advertise-client-urls"])
	// Output: http://10.0.0.1:4001
}
