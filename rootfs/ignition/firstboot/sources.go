package firstboot

import (
	"context"

	"github.com/coreos/ignition/v2/config/v3_5/types"

	"github.com/coracle-os/coracle/rootfs/ignition/detect"
	"github.com/coracle-os/coracle/rootfs/userdata"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
)

// finder looks for the config.
type finder struct {
	root        string
	commandLine string
	places      userdata.Places
	fetch       func(context.Context, types.Resource) ([]byte, error)
	platform    platform.Name
	ask         func(context.Context, platform.Name) (platform.Result, error)
}

// find returns what there is, the most important first. The platform's service
// is asked only when no place on the machine has a config. The document at
// cloud-config-url= is not fetched: coreos-cloudinit does that, when the owner
// can log in.
func (f finder) find(ctx context.Context) ([]Source, error) {
	if address := detect.ConfigURL(f.commandLine); address != "" {
		data, err := f.fetch(ctx, types.Resource{Source: &address})
		return []Source{{Name: address, Data: data, Err: err}}, nil
	}
	sources, oem := detect.Local(ctx, f.root, f.places)
	isConfig, isPlatform := false, false
	address, _ := userdata.URL(f.commandLine)
	var found []Source
	for _, s := range sources {
		isConfig = isConfig || detect.IsConfig(s.Data)
		isPlatform = isPlatform || s.IsPlatform
		found = append(found, Source{Name: s.Name, Data: s.Data, Err: s.Err})
	}
	if !isConfig && !isPlatform && f.platform != platform.None {
		result, err := f.ask(ctx, f.platform)
		found = append(found, Source{Name: "metadata of platform " + string(f.platform), Data: result.UserData, Err: err})
		if address == "" {
			address = result.URL
		}
	}
	if address != "" {
		found = append(found, Source{Name: address, Later: true})
	}
	for _, s := range oem {
		found = append(found, Source{Name: s.Name, Data: s.Data, Err: s.Err})
	}
	return found, nil
}
