package provision

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/coracle-os/coracle/rootfs/provision/owned"
	"github.com/coracle-os/coracle/rootfs/user"
	"github.com/coracle-os/coracle/rootfs/userdata"
)

// TestUsersLeave: a user goes when it has left the document that made it, at a
// later boot, and in no other case.
func TestUsersLeave(t *testing.T) {
	const with = "#cloud-config\nusers: [{name: elroy, ssh_authorized_keys: [ssh-ed25519 AAAA]}, {name: core}]\n"
	const without = "#cloud-config\nhostname: a\n"
	tests := []struct {
		name string
		then []userdata.Source
		stay bool
	}{
		{"left", []userdata.Source{{Name: "config drive /dev/vdc", Data: []byte(without)}}, false},
		{"stays", []userdata.Source{{Name: "config drive /dev/vdc", Data: []byte(with)}}, true},
		{"moved to another source", []userdata.Source{{Name: "config drive /dev/vdb", Data: []byte(without)}, {Name: "fw_cfg", Data: []byte(with)}}, true},
		{"no source", nil, true},
		{"another source only", []userdata.Source{{Name: "fw_cfg", Data: []byte(without)}}, true},
		{"cannot be read", []userdata.Source{{Name: "config drive /dev/vdb", Err: errors.New("I/O error")}}, true},
		{"has a mistake", []userdata.Source{{Name: "config drive /dev/vdb", Data: []byte("#cloud-config\nusers: [\n")}}, true},
		{"is a script now", []userdata.Source{{Name: "config drive /dev/vdb", Data: []byte("#!/bin/sh\n")}}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil)
			boot := func(sources ...userdata.Source) {
				users, err := owned.Load(w.root)
				if err != nil {
					t.Fatal(err)
				}
				run := *w.Provisioner
				run.Users, run.Sources = users, sources
				run.Run(context.Background())
			}
			boot(userdata.Source{Name: "config drive /dev/vdb", Data: []byte(with)})
			boot(tt.then...)
			_, err := user.Lookup(w.root, "elroy")
			if stays := err == nil; stays != tt.stay {
				t.Errorf("stays: %v, want %v\n%s", stays, tt.stay, strings.Join(w.events, "\n"))
			}
			if _, err := user.Lookup(w.root, "core"); err != nil {
				t.Errorf("core, whom provisioning did not make: %v", err)
			}
			if _, err := user.Lookup(w.root, "elroy"); err != nil && !strings.Contains(strings.Join(w.events, "\n"), "remove user elroy (the user is no longer in config drive)") {
				t.Errorf("not said:\n%s", strings.Join(w.events, "\n"))
			}
		})
	}
}

func TestMetadataFile(t *testing.T) {
	w := newWorld(t, nil)
	w.Sources = []userdata.Source{{Name: "a"}}
	w.Sources[0].Metadata.SSHKeys = []string{"k"}
	w.Sources[0].Metadata.PublicIPv4 = "203.0.113.1"
	w.Run(context.Background())
	write(t, w.root, MetadataPath, "")
	if _, err := Facts(w.root); err == nil {
		t.Error("damaged metadata: no error")
	}
	if err := writeMetadata(w.root+MetadataPath, w.metadata); err != nil {
		t.Fatal(err)
	}
	facts, err := Facts(w.root)
	if err != nil || len(facts.Metadata.SSHKeys) != 1 || facts.Metadata.PublicIPv4 != "203.0.113.1" {
		t.Errorf("%+v, %v", facts, err)
	}
}
