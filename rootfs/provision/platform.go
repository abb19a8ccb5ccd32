package provision

import (
	"context"
	"fmt"

	"github.com/coracle-os/coracle/rootfs/provision/apply"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
	"github.com/coracle-os/coracle/rootfs/userdata"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

// choose leaves one of the platform's disk and its metadata service.
func (p *Provisioner) choose() {
	for _, source := range p.Sources {
		if source.IsPlatform && p.Platform != platform.None {
			p.Say(fmt.Sprintf("%s: it is used, the metadata of platform %s is not asked for", source.Name, p.Platform))
			p.Platform = platform.None
		}
	}
}

// ask asks the platform once.
func (p *Provisioner) ask(ctx context.Context) {
	if p.asked != nil {
		return
	}
	name := "metadata of platform " + string(p.Platform)
	if p.Platform.NeedsNetwork() {
		p.wait(ctx, "waiting for the network, to get the "+name, p.anyAddress)
	}
	bounded, cancel := context.WithTimeout(ctx, FetchTimeout)
	defer cancel()
	result, err := p.Ask(bounded, p.Platform)
	if err != nil {
		err = fmt.Errorf("%w; the machine goes on without it, `systemctl restart coreos-cloudinit` asks again", err)
	}
	source := userdata.FromPlatform(name, result, err)
	p.asked = &source
	if p.URL == "" {
		p.URL = result.URL
	}
	p.network(ctx, source)
}

// askFailure is why the platform's metadata could not be had, "" when it was.
func (p *Provisioner) askFailure() string {
	if p.asked == nil || p.asked.Err == nil {
		return ""
	}
	return p.asked.Err.Error()
}

// network writes the network files of sources, before anything waits for the
// network that they set up.
func (p *Provisioner) network(ctx context.Context, sources ...userdata.Source) {
	if p.Executor == nil {
		return
	}
	for _, source := range sources {
		files := networkPlan(source)
		p.Executor.Apply(ctx, files, func(o apply.Outcome) {
			if o.Result == apply.Failed {
				p.Say(source.Name + ": " + describe(o))
			}
		})
	}
}

// networkPlan is what a source's network files ask for.
func networkPlan(source userdata.Source) (files plan.Plan) {
	const reason = "the platform's network"
	for _, file := range source.Network {
		files.Steps = append(files.Steps, plan.Step{
			Action: plan.PlaceUnit{Path: "/run/systemd/network/" + file.Name, Content: []byte(file.Content)}, Reason: reason,
		})
	}
	if len(files.Steps) > 0 {
		files.Steps = append(files.Steps, plan.Step{Action: plan.RestartNetwork{}, Reason: reason})
	}
	return files
}
