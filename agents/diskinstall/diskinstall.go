// Package diskinstall is coracle-install: it puts a release on a disk, with the
// configuration that its first boot applies. It runs on a live system, started
// over the network or from a medium, and on any other Linux.
//
// What is written is in package source, and the order of the writes, which makes
// a cut at any moment harmless, in package target. On a live system kernel
// arguments start it without anybody there (see Arguments). Left out on purpose:
// keeping anything that the disk held, and choosing a disk.
package diskinstall

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/coracle-os/coracle/agents/diskinstall/source"
	"github.com/coracle-os/coracle/agents/diskinstall/target"
	"github.com/coracle-os/coracle/image/gpt"
	"github.com/coracle-os/coracle/rootfs/cloudconfig"
	"github.com/coracle-os/coracle/rootfs/ignition"
	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// Config is a configuration for the OEM partition.
type Config struct {
	Name    string // of the file there
	Content []byte
	Notes   []string // what is wrong in it, for the owner; the rest applies
}

// Names of configurations on the OEM partition, those of CoreOS.
const (
	cloudConfigName = "cloud-config.yml"
	ignitionName    = "config.ign"
)

// CloudConfig checks a cloud-config or script.
func CloudConfig(content []byte) (*Config, error) {
	if len(content) > cloudconfig.MaxSize {
		return nil, fmt.Errorf("the configuration has more than %d bytes", cloudconfig.MaxSize)
	}
	switch kind := cloudconfig.Detect(content); kind {
	case cloudconfig.KindCloudConfig, cloudconfig.KindScript:
	case cloudconfig.KindIgnition:
		return nil, errors.New("the configuration is an Ignition config; give it with -i")
	default:
		return nil, fmt.Errorf("the configuration is no cloud-config: %s", cloudconfig.UnknownHint(content))
	}
	c := &Config{Name: cloudConfigName, Content: content}
	if cloudconfig.Detect(content) == cloudconfig.KindCloudConfig {
		for _, e := range cloudconfig.Validate(content).Sorted() {
			if !e.Formal {
				c.Notes = append(c.Notes, e.String())
			}
		}
	}
	return c, nil
}

// Ignition checks that content is an Ignition config of version 3.
func Ignition(content []byte) (*Config, error) {
	var c struct {
		Ignition struct{ Version string }
	}
	if err := json.Unmarshal(content, &c); err != nil {
		return nil, fmt.Errorf("the Ignition config is no JSON: %w", err)
	}
	if !strings.HasPrefix(c.Ignition.Version, "3.") {
		return nil, fmt.Errorf("the Ignition config says version %q; want 3.x", c.Ignition.Version)
	}
	doc := ignition.Compile(context.Background(), "the Ignition config", content, nil)
	var wrong []error
	for _, p := range doc.Plan.Problems {
		if p.Severity == plan.Error {
			wrong = append(wrong, errors.New(p.String()))
		}
	}
	if len(wrong) > 0 {
		return nil, fmt.Errorf("the Ignition config can not be applied: %w", errors.Join(wrong...))
	}
	return &Config{Name: ignitionName, Content: content,
		Notes: []string{"the machine's first boot applies it"}}, nil
}

// AnyConfig checks a configuration of either kind.
func AnyConfig(content []byte) (*Config, error) {
	if cloudconfig.Detect(content) == cloudconfig.KindIgnition || bytes.HasPrefix(bytes.TrimSpace(content), []byte("{")) {
		return Ignition(content)
	}
	return CloudConfig(content)
}

// Job is one installation.
type Job struct {
	Source source.Source
	Disk   *target.Disk
	Config *Config // nil for none
	// Say tells the owner a sentence; Progress how far the writing is.
	Say      func(format string, args ...any)
	Progress func(done, whole int64)
	// Mount is target.Mount, but in tests.
	Mount func(name string, offset, size int64, fill func(dir string) error) error
}

// Run installs. Until the disk is known to be large enough nothing is written;
// after an error the disk has no partition table, and nothing on it starts.
func (j *Job) Run(ctx context.Context) error {
	what, err := j.Source.Describe(ctx)
	if err != nil {
		return err
	}
	defer j.Source.Close()
	j.Say("installing %s on %s (%d MiB)", what, j.Disk.Name, j.Disk.Size>>20)
	begin := func(l gpt.Layout) error {
		if err := j.Disk.Fits(l); err != nil {
			return err
		}
		return j.Disk.Begin()
	}
	result, err := j.Source.Fill(ctx, j.Disk, begin, j.Progress)
	if err != nil {
		return err
	}
	if err := j.configure(result.Layout); err != nil {
		return err
	}
	j.Say("reading back what was written")
	if err := j.Disk.Finish(result.Layout, result.BootCode, result.Check); err != nil {
		return err
	}
	if result.Note != "" {
		j.Say("note: %s", result.Note)
	}
	j.Say("%s has version %s, root %s", j.Disk.Name, result.Version, result.RootHash)
	return nil
}

// configure puts the configuration on the OEM partition.
func (j *Job) configure(l gpt.Layout) error {
	if j.Config == nil {
		return nil
	}
	part, ok := l.Find(gpt.OEM)
	if !ok {
		return fmt.Errorf("the image has no partition %q for the configuration", gpt.OEM)
	}
	return j.Mount(j.Disk.Name, part.Start, part.Size, func(dir string) error {
		name := filepath.Join(dir, j.Config.Name)
		if err := os.WriteFile(name, j.Config.Content, 0o600); err != nil {
			return fmt.Errorf("write the configuration: %w", err)
		}
		return nil
	})
}
