// Package options are the flags of etcd.service: those of etcd 3.7 as package
// embed has them, and the ones of package settings, which fills in what the
// command line leaves open. It is for the machine's etcd only; the result is
// embed's own configuration.
package options

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/agents/kv/settings"
	"github.com/coracle-os/coracle/rootfs/program"
	"go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/etcd/pkg/v3/flags"
	"go.etcd.io/etcd/server/v3/embed"
)

// ErrHelp is the result of Read for --help and --version, whose answers
// have been written.
var ErrHelp = errors.New("answered")

// ErrUsage is inside the errors about wrong words of the command line.
var ErrUsage = errors.New("see etcd --help")

// Options are etcd's flags, bound to a configuration of package embed.
type Options struct {
	Embed        *embed.Config
	set          *flag.FlagSet
	clusterState *flags.SelectiveStringValue
	configFile   string
	version      bool
}

// New gives the flags, which write their help to out.
func New(out io.Writer) *Options {
	o := &Options{
		Embed:        embed.NewConfig(),
		set:          flag.NewFlagSet("etcd", flag.ContinueOnError),
		clusterState: flags.NewSelectiveStringValue(embed.ClusterStateFlagNew, embed.ClusterStateFlagExisting),
	}
	o.set.SetOutput(out)
	o.Embed.AddFlags(o.set)
	settings.AddFlags(o.set)
	o.set.Var(o.clusterState, "initial-cluster-state", "Whether the cluster is new or existing; only read when the member has no data.")
	o.set.StringVar(&o.configFile, "config-file", "", "Path to etcd's own YAML configuration file; no other flag or variable is read with it.")
	o.set.BoolVar(&o.version, "version", false, "Print the version and exit.")
	return o
}

// Known reports whether etcd has a flag of that name.
func (o *Options) Known(name string) bool { return o.set.Lookup(name) != nil }

// apply sets the flags that the command line did not set.
func (o *Options) apply(s settings.Settings) error {
	given := map[string]bool{}
	o.set.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for _, name := range slices.Sorted(maps.Keys(s.Flags)) {
		if given[name] {
			continue
		}
		if err := o.set.Set(name, s.Flags[name]); err != nil {
			return fmt.Errorf("set --%s to %q: %w", name, s.Flags[name], err)
		}
	}
	return nil
}

// Config returns what the flags say as a checked configuration. Lists are kept
// by their flags and are moved over here, as upstream's own main does.
func (o *Options) Config() (*embed.Config, error) {
	if o.configFile != "" {
		cfg, err := embed.ConfigFromFile(o.configFile)
		if err != nil {
			return nil, fmt.Errorf("read etcd's configuration file %q: %w", o.configFile, err)
		}
		return cfg, nil
	}
	cfg, fs := o.Embed, o.set
	cfg.ListenPeerUrls = flags.UniqueURLsFromFlag(fs, "listen-peer-urls")
	cfg.AdvertisePeerUrls = flags.UniqueURLsFromFlag(fs, "initial-advertise-peer-urls")
	cfg.ListenClientUrls = flags.UniqueURLsFromFlag(fs, "listen-client-urls")
	cfg.ListenClientHttpUrls = flags.UniqueURLsFromFlag(fs, "listen-client-http-urls")
	cfg.AdvertiseClientUrls = flags.UniqueURLsFromFlag(fs, "advertise-client-urls")
	cfg.ListenMetricsUrls = flags.UniqueURLsFromFlag(fs, "listen-metrics-urls")
	cfg.DiscoveryCfg.Endpoints = flags.UniqueStringsFromFlag(fs, "discovery-endpoints")
	cfg.CORS = flags.UniqueURLsMapFromFlag(fs, "cors")
	cfg.HostWhitelist = flags.UniqueStringsMapFromFlag(fs, "host-whitelist")
	cfg.ClientTLSInfo.AllowedHostnames = flags.StringsFromFlag(fs, "client-cert-allowed-hostname")
	cfg.PeerTLSInfo.AllowedCNs = flags.StringsFromFlag(fs, "peer-cert-allowed-cn")
	cfg.PeerTLSInfo.AllowedHostnames = flags.StringsFromFlag(fs, "peer-cert-allowed-hostname")
	cfg.CipherSuites = flags.StringsFromFlag(fs, "cipher-suites")
	cfg.MaxConcurrentStreams = flags.Uint32FromFlag(fs, "max-concurrent-streams")
	cfg.LogOutputs = flags.UniqueStringsFromFlag(fs, "log-outputs")
	cfg.ClusterState = o.clusterState.String()
	fs.Visit(func(f *flag.Flag) { cfg.FlagsExplicitlySet[f.Name] = true })
	o.initialCluster(cfg)
	if !flags.IsSet(fs, "auto-compaction-mode") && !flags.IsSet(fs, "auto-compaction-retention") {
		// Upstream keeps every revision, until the store is at its quota.
		cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModeRevision, "10000"
	}
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("check etcd's settings: %w", err)
	}
	return cfg, nil
}

// initialCluster makes a cluster of this one member unless another way to form
// one was given.
func (o *Options) initialCluster(cfg *embed.Config) {
	if flags.IsSet(o.set, "initial-cluster") {
		return
	}
	if cfg.DNSCluster != "" || cfg.DNSClusterServiceName != "" || len(cfg.DiscoveryCfg.Endpoints) > 0 {
		cfg.InitialCluster = ""
		return
	}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
}

// Read takes the settings from the command line and the environment.
func Read(args, environ []string, m settings.Machine, stdio program.Stdio) (*Options, settings.Settings, error) {
	o := New(stdio.Err)
	switch err := o.set.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil, settings.Settings{}, ErrHelp
	case err != nil:
		return nil, settings.Settings{}, ErrUsage
	case o.set.NArg() > 0:
		return nil, settings.Settings{}, fmt.Errorf("%q is not a flag; %w", o.set.Arg(0), ErrUsage)
	case o.version:
		printVersion(stdio.Out)
		return nil, settings.Settings{}, ErrHelp
	}
	s, err := settings.FromEnvironment(append(environ, flagsAsEnvironment(o.set)...), m, o.Known)
	if err != nil {
		return nil, s, err
	}
	if s.Flags["config-file"] != "" {
		o.configFile, s.Forming = s.Flags["config-file"], settings.Forming{}
		return o, s, nil
	}
	return o, s, o.apply(s)
}

// flagsAsEnvironment gives the flags of the command line as variables, so that
// what they leave open is completed in one place.
func flagsAsEnvironment(fs *flag.FlagSet) []string {
	var out []string
	fs.Visit(func(f *flag.Flag) {
		name := "ETCD_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		out = append(out, name+"="+f.Value.String())
	})
	return out
}

func printVersion(w io.Writer) {
	fmt.Fprintf(w, "etcd Version: %s\nGit SHA: %s\nGo Version: %s\nGo OS/Arch: %s/%s\n",
		version.Version, version.GitSHA, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
