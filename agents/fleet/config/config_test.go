package config

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
)

// with is the defaults with changes.
func with(change func(*Config)) Config {
	c := Defaults()
	change(&c)
	return c
}

func TestRead(t *testing.T) {
	for _, test := range []struct {
		name    string
		file    string
		environ []string
		flags   Source
		want    Config
	}{
		{name: "nothing", want: Defaults()},
		{name: "the commented example", file: "# etcd_servers=[\"http://a\"]\n; verbosity=3\n\n", want: Defaults()},
		{name: "every key", file: `verbosity=1
etcd_servers=["http://192.0.2.12:4001", "https://b:2379/"]
etcd_request_timeout=2.5
etcd_cafile=/ca
etcd_keyfile=/key
etcd_certfile=/cert
etcd_username=root
etcd_password="se=cret"
etcd_key_prefix=/fleet
public_ip=192.0.2.1
metadata="region=us-west,az=us-west-1"
agent_ttl="60s"
engine_reconcile_interval=10
token_limit=50
disable_engine=true
units_directory=/run/other
tls_cafile=/a
tls_certfile=/b
tls_keyfile=/c
`, want: Config{Verbosity: 1, EtcdServers: []string{"http://192.0.2.12:4001", "https://b:2379"}, EtcdServersGiven: true, EtcdRequestTimeout: 2500 * time.Millisecond,
			EtcdCAFile: "/ca", EtcdKeyFile: "/key", EtcdCertFile: "/cert", EtcdUsername: "root", EtcdPassword: "se=cret", EtcdKeyPrefix: "/fleet/",
			PublicIP: "192.0.2.1", Metadata: map[string]string{"region": "us-west", "az": "us-west-1"}, AgentTTL: time.Minute,
			EngineReconcileInterval: 10 * time.Second, TokenLimit: 50, DisableEngine: true, UnitsDir: "/run/other/", TLSCAFile: "/a", TLSCertFile: "/b", TLSKeyFile: "/c"}},
		{name: "the environment wins over the file, flags over both", file: "agent_ttl=10s\ntoken_limit=5\npublic_ip=192.0.2.1\n",
			environ: []string{"FLEET_AGENT_TTL=20s", "FLEET_TOKEN_LIMIT=6", "PATH=/bin", "FLEET_PUBLIC_IP=", "FLEETCTL_ENDPOINT=x"}, flags: Source{{"token_limit", "7", "--token_limit"}},
			want: with(func(c *Config) { c.AgentTTL, c.TokenLimit, c.PublicIP = 20*time.Second, 7, "192.0.2.1" })},
		{name: "blanks, case, carriage returns, a section of another program", file: "\ufeff Agent-TTL = 5s \r\n[agent]\nagent_ttl=1h\n",
			want: with(func(c *Config) { c.AgentTTL = 5 * time.Second })},
		{name: "a list with commas", environ: []string{"FLEET_ETCD_SERVERS=http://a:2379, http://b:2379"},
			want: with(func(c *Config) { c.EtcdServers, c.EtcdServersGiven = []string{"http://a:2379", "http://b:2379"}, true })},
		{name: "metadata: blanks, the last wins, split at the first =, quotes", file: "metadata= a=1 , a = 2,\"b=c=d\",,e=,=f,g\n",
			want: with(func(c *Config) {
				c.Metadata = map[string]string{"a": "2", "b": "c=d", "e": ""}
				c.Warnings = []string{`metadata: "=f" is not key=value; it is left out`, `metadata: "g" is not key=value; it is left out`}
			})},
		{name: "what has no effect", file: "verify_units=true\nbogus=1\npublic_ip=here\n", environ: []string{"FLEET_DISABLE_WATCHES=true"},
			want: with(func(c *Config) {
				c.PublicIP = "here"
				c.Warnings = []string{"fleet.conf:1: verify_units has no effect: units are not signed any more",
					`fleet.conf:2: nobody knows the setting "bogus"; it has no effect`, `public_ip: "here" is not an address; it is told to others as it is`,
					"FLEET_DISABLE_WATCHES: disable_watches has no effect: the watch is what keeps the load small; there is no other way"}
			})},
	} {
		file, err := File("fleet.conf", []byte(test.file))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		got, err := Read(file, Environment(test.environ), test.flags)
		if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
			t.Errorf("%s: error %v, difference (-want +got):\n%s", test.name, err, diff)
		}
	}
}

func TestMistakes(t *testing.T) {
	for _, test := range []struct{ file, want string }{
		{"agent_ttl=soon", `fleet.conf:1: agent_ttl: "soon" is not a time like "30s" from 2s to 24h`},
		{"agent_ttl=-5s", "agent_ttl"}, {"agent_ttl=NaN", "agent_ttl"}, {"agent_ttl=1e300", "agent_ttl"}, {"engine_reconcile_interval=0", "from 10ms"},
		{"\ntoken_limit=0", `fleet.conf:2: token_limit: "0" is not a number from 1 to 65535`},
		{"token_limit=70000", "65535"}, {"verbosity=loud", "verbosity"}, {"disable_engine=perhaps", `"perhaps" is neither true nor false`},
		{"etcd_servers=[]", "no server"}, {"etcd_servers=a:2379", `"a:2379" is not a URL`}, {"etcd_key_prefix=/", "would mix"},
		{"units_directory=units", "not the path"}, {"units_directory=/", "not the path"},
		{"etcd_keyfile=/key", "give both or none"}, {"tls_certfile=/cert", "give all three or none"},
		{"agent_ttl", `fleet.conf:1: "agent_ttl" is not a setting like key=value`}, {"=1", "not a setting"}, {"a=\x00", "NUL"},
		{"agent_ttl=x\ntoken_limit=y", "\nfleet.conf:2: token_limit"}, // all at once
	} {
		file, err := File("fleet.conf", []byte(test.file))
		if err == nil {
			_, err = Read(file)
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: error %v, want one with %q", test.file, err, test.want)
		}
	}
}

// TestCloudConfig: each option of coreos.fleet is a setting that is known.
func TestCloudConfig(t *testing.T) {
	options := reflect.TypeFor[cloudconfig.Fleet]()
	for i := range options.NumField() {
		name := options.Field(i).Tag.Get("env")
		if name == "" {
			continue
		}
		c, _ := Read(Environment([]string{name + "=1"}))
		for _, w := range c.Warnings {
			if strings.Contains(w, "nobody knows") {
				t.Error(w)
			}
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add([]byte("agent_ttl=\"30s\"\n[x]\nmetadata=a=b\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		source, err := File("f", content)
		if err != nil {
			return
		}
		if c, err := Read(source); err == nil && (c.TokenLimit < 1 || c.AgentTTL < 2*time.Second || len(c.EtcdServers) == 0 || os.PathSeparator != c.UnitsDir[0]) {
			t.Errorf("%q gives %+v", content, c)
		}
	})
}
