package kv

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"

	"go.etcd.io/etcd/pkg/v3/flags"
	"go.etcd.io/etcd/server/v3/embed"
)

// errHelp is the result of parseFlags for --help and --version, whose answers
// have been written.
var errHelp = errors.New("answered")

// options are etcd's flags, bound to a configuration of package embed.
type options struct {
	embed        *embed.Config
	set          *flag.FlagSet
	clusterState *flags.SelectiveStringValue
	configFile   string
	version      bool
}

func newOptions(out io.Writer) *options {
	o := &options{
		embed:        embed.NewConfig(),
		set:          flag.NewFlagSet("etcd", flag.ContinueOnError),
		clusterState: flags.NewSelectiveStringValue(embed.ClusterStateFlagNew, embed.ClusterStateFlagExisting),
	}
	o.set.SetOutput(out)
	o.embed.AddFlags(o.set)
	addFormingFlags(o.set)
	o.set.Var(o.clusterState, "initial-cluster-state", "Whether the cluster is new or existing; only read when the member has no data.")
	o.set.StringVar(&o.configFile, "config-file", "", "Path to etcd's own YAML configuration file; no other flag or variable is read with it.")
	o.set.BoolVar(&o.version, "version", false, "Print the version and exit.")
	return o
}

// known reports whether etcd has a flag of that name.
func (o *options) known(name string) bool { return o.set.Lookup(name) != nil }

// apply sets the flags that the command line did not set.
func (o *options) apply(s Settings) error {
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

// config returns what the flags say as a checked configuration. Lists are kept
// by their flags and are moved over here, as upstream's own main does.
func (o *options) config() (*embed.Config, error) {
	if o.configFile != "" {
		cfg, err := embed.ConfigFromFile(o.configFile)
		if err != nil {
			return nil, fmt.Errorf("read etcd's configuration file %q: %w", o.configFile, err)
		}
		return cfg, nil
	}
	cfg, fs := o.embed, o.set
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
func (o *options) initialCluster(cfg *embed.Config) {
	if flags.IsSet(o.set, "initial-cluster") {
		return
	}
	if cfg.DNSCluster != "" || cfg.DNSClusterServiceName != "" || len(cfg.DiscoveryCfg.Endpoints) > 0 {
		cfg.InitialCluster = ""
		return
	}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
}
