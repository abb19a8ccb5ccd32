package settings

import (
	"bytes"
	"errors"
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func none(string) (string, bool) { return "", false }

func variables(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for _, pair := range pairs {
			if key, value, _ := strings.Cut(pair, "="); key == name {
				return value, true
			}
		}
		return "", false
	}
}

func TestDefaults(t *testing.T) {
	got, warnings, err := Parse(nil, none, &bytes.Buffer{})
	if err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	want := Settings{
		EtcdEndpoints: []string{"http://127.0.0.1:2379", "http://127.0.0.1:4001"}, EtcdPrefix: "/coreos.com/network",
		SubnetFile: "/run/flannel/subnet.env", RenewMargin: time.Hour, RandomPorts: true, Resync: 5 * time.Second, Forward: true,
		Memory: "/var/lib/flannel/flannel.db", DockerOptions: "/run/flannel_docker_opts.env", CNI: "/etc/cni/net.d", KVCertificates: "/var/lib/etcd/pki",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFlagsAndVariables(t *testing.T) {
	env := variables("FLANNELD_IFACE=10.0.0.2,eth1", "FLANNELD_IP_MASQ=true", "FLANNELD_ETCD_PREFIX=coreos.com/other/",
		"FLANNELD_PUBLIC_IP=192.0.2.1", "FLANNELD_REMOTE=10.0.0.1:8888")
	got, warnings, err := Parse([]string{"--public-ip", "192.0.2.9", "-etcd-endpoints=http://a:1,http://b:2"}, env, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"10.0.0.2", "eth1"}, got.Interfaces); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"http://a:1", "http://b:2"}, got.EtcdEndpoints); diff != "" {
		t.Error(diff)
	}
	if !got.IPMasq || got.EtcdPrefix != "/coreos.com/other" || got.PublicIP != "192.0.2.9" {
		t.Errorf("got %+v", got)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "--remote is not used any more") {
		t.Errorf("warnings %q", warnings)
	}
}

func TestBad(t *testing.T) {
	for _, test := range []struct {
		args []string
		env  []string
		want string
	}{
		{args: []string{"extra"}, want: `argument "extra"`},
		{args: []string{"--no-such"}, want: "flanneld --help"},
		{args: []string{"--subnet-lease-renew-margin=0"}, want: "1 to 1439"},
		{args: []string{"--iptables-resync=0"}, want: "at least 1 second"},
		{env: []string{"FLANNELD_IP_MASQ=perhaps"}, want: `FLANNELD_IP_MASQ="perhaps"`},
	} {
		_, _, err := Parse(test.args, variables(test.env...), &bytes.Buffer{})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q %q: got %v, want %q", test.args, test.env, err, test.want)
		}
	}
	if _, _, err := Parse([]string{"--help"}, none, &bytes.Buffer{}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help: %v", err)
	}
}
