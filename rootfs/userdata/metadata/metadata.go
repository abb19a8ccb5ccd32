// Package metadata is the program that asks the metadata service of the platform
// that it is told, and writes what that says as JSON, for coreos-cloudinit. It
// has net/http, which does not belong into the binary that PID 1 is: so it is
// linked into coracled, and started only on a machine of such a platform.
//
// `-ready` tells the platform that the machine is up, or with `-failed REASON`
// that it is not, where the platform wants to know (Azure).
package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/coracle-os/coracle/rootfs/userdata/azure"
	"github.com/coracle-os/coracle/rootfs/userdata/digitalocean"
	"github.com/coracle-os/coracle/rootfs/userdata/ec2"
	"github.com/coracle-os/coracle/rootfs/userdata/gce"
	"github.com/coracle-os/coracle/rootfs/userdata/hetzner"
	"github.com/coracle-os/coracle/rootfs/userdata/imds"
	"github.com/coracle-os/coracle/rootfs/userdata/openstack/service"
	"github.com/coracle-os/coracle/rootfs/userdata/platform"
	"github.com/coracle-os/coracle/rootfs/userdata/vmware"
)

// Bounds of all requests together.
const (
	FetchLimit  = 60 * time.Second
	ReportLimit = 20 * time.Second
)

// Asker asks platforms. The zero value with Now is the system's own.
type Asker struct {
	// Client is what requests are made with; its Base is set where it is "".
	Client imds.Client
	// WireServer is the address for Azure's reports; "" is Azure's own.
	WireServer string
	Now        func() time.Time
	// ProvisioningCD reads Azure's CD.
	ProvisioningCD func(context.Context) ([]byte, error)
	// VMware is the host of a machine on VMware.
	VMware func() (vmware.Host, error)
}

// Ask asks the metadata of a platform.
func (a Asker) Ask(ctx context.Context, name platform.Name) (platform.Result, error) {
	c := a.Client
	if c.Base == "" {
		c.Base = imds.LinkLocal
	}
	switch name {
	case platform.EC2:
		return ec2.Fetch(ctx, &c)
	case platform.GCE:
		return gce.Fetch(ctx, &c, a.Now())
	case platform.Azure:
		return azure.Fetch(ctx, &c, a.ProvisioningCD)
	case platform.DigitalOcean:
		return digitalocean.Fetch(ctx, &c)
	case platform.OpenStack:
		return service.Fetch(ctx, &c)
	case platform.Hetzner:
		return hetzner.Fetch(ctx, &c)
	case platform.VMware:
		host, err := a.VMware()
		if err != nil {
			return platform.Result{}, err
		}
		return vmware.Fetch(host)
	}
	return platform.Result{}, fmt.Errorf("ask platform %q: it is not known; use one of %q", name, platform.Names())
}

// Report tells a platform how it went; failure is "" when the machine is ready.
// Most platforms do not want to know.
func (a Asker) Report(ctx context.Context, name platform.Name, failure string) error {
	if name != platform.Azure {
		return nil
	}
	c := a.Client
	if c.Base = a.WireServer; c.Base == "" {
		c.Base = azure.WireServer
	}
	return azure.Tell(ctx, &c, failure)
}

// System is the asker of this machine.
func System() Asker {
	return Asker{Now: time.Now, ProvisioningCD: provisioningCD, VMware: vmware.System}
}

// Main is the program.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	asker := System()
	asker.Client.Say = func(text string) { fmt.Fprintln(stdio.Err, text) }
	err := run(ctx, asker, args[1:], stdio.Out, stdio.Err)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(stdio.Err, strings.ReplaceAll(err.Error(), "\n", "; "))
		return 1
	}
	return 0
}

func run(ctx context.Context, a Asker, args []string, out, problems io.Writer) error {
	flags := flag.NewFlagSet(platform.Program, flag.ContinueOnError)
	flags.SetOutput(problems)
	ready := flags.Bool("ready", false, "tell the platform that the machine is ready")
	failed := flags.String("failed", "", "tell the platform that provisioning failed, with the `REASON`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("usage: %s [-ready | -failed REASON] PLATFORM; platforms: %q", platform.Program, platform.Names())
	}
	name := platform.Name(flags.Arg(0))
	if *ready || *failed != "" {
		ctx, cancel := context.WithTimeout(ctx, ReportLimit)
		defer cancel()
		return a.Report(ctx, name, *failed)
	}
	ctx, cancel := context.WithTimeout(ctx, FetchLimit)
	defer cancel()
	result, err := a.Ask(ctx, name)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}
