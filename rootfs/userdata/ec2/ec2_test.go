package ec2

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKeyPaths(t *testing.T) {
	for list, want := range map[string][]string{
		"0=ada\n1=eve": {"meta-data/public-keys/0/openssh-key", "meta-data/public-keys/1/openssh-key"},
		"0=a=b\r\n":    {"meta-data/public-keys/0/openssh-key"},
		"":             nil,
		"../x=y\n<p>":  nil,
	} {
		if diff := cmp.Diff(want, KeyPaths(list)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", list, diff)
		}
	}
	if n := len(KeyPaths(strings.Repeat("7=x\n", 5000))); n != maxKeys {
		t.Errorf("%d keys", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("#!/bin/sh\n", "ip-10-0-0-5.ec2.internal", "10.0.0.5", "0=ada", "ssh-rsa A ada\n")
	f.Fuzz(func(t *testing.T, user, host, address, list, key string) {
		d := Documents{userData: user, hostname: host, localIPv4: address, publicIPv4: address, ipv6: address, keyList: list}
		for _, path := range KeyPaths(list) {
			d[path] = key
		}
		r := Parse(d)
		if _, err := netip.ParseAddr(r.Metadata.PublicIPv4); r.Metadata.PublicIPv4 != "" && err != nil {
			t.Error(err)
		}
		for _, key := range r.Metadata.SSHKeys {
			if strings.ContainsAny(key, "\n\r") || key == "" {
				t.Errorf("key %q", key)
			}
		}
	})
}
