package nocloud

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	keys := []string{"ssh-ed25519 A", "ssh-ed25519 B"}
	for _, tt := range []struct {
		name, meta string
		host       string
		keys       []string
		errors     int
	}{
		{"list", "instance-id: i\nlocal-hostname: boat\npublic-keys: [ssh-ed25519 A, ssh-ed25519 B]\n", "boat", keys, 0},
		{"one", "hostname: boat\npublic-keys: ssh-ed25519 A\n", "boat", keys[:1], 0},
		{"named", "hostname: old\nlocal-hostname: boat\npublic-keys: {b: ssh-ed25519 B, a: ssh-ed25519 A}\n", "boat", keys, 0},
		{"as EC2 has them", `{"public-keys": {"0": {"openssh-key": "ssh-ed25519 A"}, "1": {"openssh-key": "ssh-ed25519 B"}}}`, "", keys, 0},
		{"empty", "", "", nil, 0},
		{"not YAML", "{", "", nil, 1},
	} {
		r := Parse(map[string][]byte{MetaData: []byte(tt.meta), UserData: []byte("#cloud-config\n")})
		if r.Metadata.Hostname != tt.host || !cmp.Equal(r.Metadata.SSHKeys, tt.keys) || len(r.Errors) != tt.errors || r.UserData == nil {
			t.Errorf("%s: %+v", tt.name, r)
		}
	}
}

func TestNetworkThatIsNone(t *testing.T) {
	r := Parse(map[string][]byte{NetworkConfig: []byte("version: 7")})
	if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "version 7") || len(r.Errors) > 0 {
		t.Errorf("%+v", r)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("#!/bin/sh\n"), []byte("local-hostname: a\npublic-keys: [k]\n"), []byte("version: 1\nconfig: []\n"))
	f.Add([]byte("I2Nsb3VkLWNvbmZpZwo="), []byte("public-keys: {a: {openssh-key: b}}"), []byte("network: {version: 2}"))
	f.Fuzz(func(t *testing.T, user, meta, network []byte) {
		r := Parse(map[string][]byte{UserData: user, MetaData: meta, NetworkConfig: network})
		for _, key := range r.Metadata.SSHKeys {
			if strings.ContainsAny(key, "\n\r") || key == "" {
				t.Errorf("key %q", key)
			}
		}
	})
}
