package ignition

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/coreos/ignition/v2/config/v3_5"
	"github.com/coreos/ignition/v2/config/v3_5/types"

	"github.com/coracle-os/coracle/rootfs/provision/plan"
)

// Bounds of a tree of configs that merge others.
const (
	maxDepth   = 16
	maxConfigs = 128
)

// Fetcher gets the documents that configs name.
type Fetcher interface {
	// Fetch returns a document, decompressed and verified.
	Fetch(ctx context.Context, r types.Resource) ([]byte, error)
	// Configure makes the timeouts, proxies and certificate authorities of a
	// config count for the documents that it names.
	Configure(ctx context.Context, config types.Ignition) error
}

// Resolve returns a config with all that it merges, or what replaces it. name
// is where the config is from, for messages; from is what was said about it.
func Resolve(ctx context.Context, name string, data []byte, fetcher Fetcher) (types.Config, plan.Report, error) {
	r := resolver{fetcher: fetcher}
	config, err := r.document(ctx, name, data, nil)
	if err != nil {
		return types.Config{}, r.problems, err
	}
	if r.configs > 1 {
		for _, m := range check(config) {
			m.Text = "in the merged config: " + m.Text
			r.problems = append(r.problems, m)
			if m.Severity == plan.Error {
				err = fmt.Errorf("merge %s: %w", name, ErrInvalid)
			}
		}
	}
	return config, r.problems, err
}

type resolver struct {
	fetcher  Fetcher
	problems plan.Report
	configs  int
}

// link is a config that is being resolved.
type link struct {
	name   string
	digest [sha256.Size]byte
}

// document parses a config and resolves what it names. chain leads to it.
func (r *resolver) document(ctx context.Context, name string, data []byte, chain []link) (types.Config, error) {
	here := link{name, sha256.Sum256(data)}
	names := func() string {
		var all []string
		for _, l := range chain {
			all = append(all, l.name)
		}
		return strings.Join(append(all, name), " -> ")
	}
	switch r.configs++; {
	case slices.ContainsFunc(chain, func(l link) bool { return l.digest == here.digest }):
		return types.Config{}, fmt.Errorf("the configs merge each other in a loop: %s; take one of them out", names())
	case len(chain) >= maxDepth:
		return types.Config{}, fmt.Errorf("configs merge each other more than %d deep: %s", maxDepth, names())
	case r.configs > maxConfigs:
		return types.Config{}, fmt.Errorf("more than %d configs are merged", maxConfigs)
	}
	config, problems, err := Parse(data)
	for _, m := range problems {
		if len(chain) > 0 {
			m.Text, m.Position = fmt.Sprintf("%s: line %d: %s", name, m.Line, m.Text), plan.Position{}
		}
		r.problems = append(r.problems, m)
	}
	if err != nil {
		return types.Config{}, fmt.Errorf("%s: %w", names(), err)
	}
	if err := r.fetcher.Configure(ctx, config.Ignition); err != nil {
		return types.Config{}, fmt.Errorf("%s: %w", names(), err)
	}
	chain = append(slices.Clone(chain), here)
	if replace := config.Ignition.Config.Replace; replace.Source != nil {
		return r.reference(ctx, replace, chain)
	}
	merged := config
	for _, reference := range config.Ignition.Config.Merge {
		child, err := r.reference(ctx, reference, chain)
		if err != nil {
			return types.Config{}, err
		}
		merged = v3_5.Merge(merged, child)
	}
	merged.Ignition.Config = types.IgnitionConfig{}
	return merged, nil
}

func (r *resolver) reference(ctx context.Context, reference types.Resource, chain []link) (types.Config, error) {
	if reference.Source == nil {
		return types.Config{}, nil
	}
	data, err := r.fetcher.Fetch(ctx, reference)
	if err != nil {
		return types.Config{}, fmt.Errorf("get a config that %s names: %w", chain[len(chain)-1].name, err)
	}
	return r.document(ctx, short(*reference.Source), data, chain)
}

// short is a source for a message: what is in a data URL is neither short nor
// for everyone to read.
func short(source string) string {
	if strings.HasPrefix(source, "data:") {
		return fmt.Sprintf("a data URL of %d bytes", len(source))
	}
	return source
}
