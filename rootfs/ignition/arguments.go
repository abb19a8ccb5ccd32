package ignition

import (
	"net/url"
	"slices"
	"strings"

	"github.com/coreos/ignition/v2/config/v3_5/types"

	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// argumentsFile has the settings that a config asks for as kernel arguments.
const argumentsFile = "/etc/sysctl.d/20-kernel-arguments.conf"

// asIs are arguments that say what Coracle does anyway, by their name and value.
var asIs = []string{
	"net.ifnames=0", "biosdevname=0", // interfaces have the kernel's names
	"systemd.unified_cgroup_hierarchy", "systemd.unified_cgroup_hierarchy=1", "systemd.unified_cgroup_hierarchy=yes", "systemd.unified_cgroup_hierarchy=true",
	"selinux=0", "enforcing=0", "security=none", // there is no SELinux
}

// arguments makes the steps for kernel arguments. The command line is part of
// the boot entry, one signed file: what can be had by other means is, and the
// rest is compared with what the machine was started with.
func (c *compiler) arguments() {
	var settings strings.Builder
	var compared types.KernelArguments
	for i, k := range c.config.KernelArguments.ShouldExist {
		word := string(k)
		if setting, ok := strings.CutPrefix(word, "sysctl."); ok && strings.Index(setting, "=") > 0 && !strings.ContainsAny(setting, "\r\n") {
			key, value, _ := strings.Cut(setting, "=")
			settings.WriteString(key + " = " + value + "\n")
			continue
		}
		if slices.Contains(asIs, word) {
			continue
		}
		compared.ShouldExist = append(compared.ShouldExist, k)
		if !c.check {
			continue // the machine says whether it has it
		}
		c.problems.Add(c.where("kernelArguments", "shouldExist", i), plan.Warning,
			"kernel argument %q is not added: the command line is part of the signed boot entry; an image has it by kernel.arguments of its recipe, and without it the machine is not set up", word)
	}
	for _, k := range c.config.KernelArguments.ShouldNotExist {
		compared.ShouldNotExist = append(compared.ShouldNotExist, k)
	}
	if len(compared.ShouldExist)+len(compared.ShouldNotExist) > 0 {
		c.add(KernelArguments{KernelArguments: compared}, "kernelArguments", "kernelArguments")
	}
	if settings.Len() == 0 {
		return
	}
	source, mode, yes := "data:,"+url.PathEscape(settings.String()), 0o644, true
	c.config.Storage.Files = append(slices.Clone(c.config.Storage.Files), types.File{
		Node:          types.Node{Path: argumentsFile, Overwrite: &yes},
		FileEmbedded1: types.FileEmbedded1{Mode: &mode, Contents: types.Resource{Source: &source}},
	})
}
