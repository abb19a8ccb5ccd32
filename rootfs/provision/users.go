package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/provision/apply"
	"github.com/coracle-os/coracle/rootfs/provision/owned"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
	"github.com/coracle-os/coracle/rootfs/userdata"
)

// note keeps what the removal of users and a change of the running machine need
// to know of a source.
func (p *Provisioner) note(source userdata.Source, kind cloudconfig.Kind, steps plan.Plan, whole bool) {
	p.plans = append(p.plans, steps)
	if p.whole == nil {
		p.whole = map[string]bool{}
	}
	p.whole[owned.SourceOf(source.Name)] = whole && source.Err == nil && isCloudConfig(kind)
	m := &p.metadata
	if source.Metadata.Hostname != "" {
		m.Hostname = source.Metadata.Hostname
	}
	for _, key := range source.Metadata.SSHKeys {
		if !slices.Contains(m.SSHKeys, key) {
			m.SSHKeys = append(m.SSHKeys, key)
		}
	}
	m.Addresses = source.Metadata.Addresses.Or(m.Addresses)
}

// isCloudConfig tells whether the users of a document are made at every boot.
func isCloudConfig(kind cloudconfig.Kind) bool {
	return kind == cloudconfig.KindCloudConfig || kind == cloudconfig.KindMultipart
}

// remember keeps the users that a source has made.
func (p *Provisioner) remember(source userdata.Source, kind cloudconfig.Kind) {
	created := p.Executor.Created
	p.Executor.Created = nil
	if p.Users == nil || len(created) == 0 || !isCloudConfig(kind) {
		return
	}
	for _, name := range created {
		p.Users[name] = owned.SourceOf(source.Name)
	}
	if err := p.Users.Save(p.Root); err != nil {
		p.Say("warning: " + err.Error())
	}
}

// removeUsers removes the users that have left the document that made them.
func (p *Provisioner) removeUsers(ctx context.Context) {
	steps := p.Users.Leaving(func(source string) bool { return p.whole[source] }, p.plans...)
	if p.Executor == nil {
		for _, step := range steps {
			p.Say(fmt.Sprintf("%s%s", step, p.compared(step)))
		}
		return
	}
	p.Executor.Apply(ctx, plan.Plan{Steps: steps}, func(o apply.Outcome) {
		a, ok := o.Step.Action.(plan.RemoveUser)
		switch {
		case o.Result == apply.Failed:
			p.Say(describe(o))
		case ok:
			delete(p.Users, a.Name)
			p.Say(o.Step.String())
		}
	})
	if len(steps) > 0 {
		if err := p.Users.Save(p.Root); err != nil {
			p.Say("warning: " + err.Error())
		}
	}
}

// MetadataPath is where a boot leaves what the platform says about the machine,
// for a change of the running machine.
const MetadataPath = "/run/coracle/metadata.json"

func writeMetadata(path string, m cloudconfig.Metadata) error {
	data, err := json.Marshal(m)
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep the metadata: %w", err)
	}
	return nil
}

// Facts returns what a plan needs to know about the running machine below root,
// with the metadata of its last boot.
func Facts(root string) (cloudconfig.Facts, error) {
	p := &Provisioner{
		Root: root, Interfaces: interfaces,
		Hostname: func() string { name, _ := os.Hostname(); return name },
	}
	var m cloudconfig.Metadata
	data, err := os.ReadFile(filepath.Join(root, MetadataPath))
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return cloudconfig.Facts{}, fmt.Errorf("read the metadata of this machine: %w", err)
	}
	return p.facts(userdata.Source{Metadata: m}), nil
}
