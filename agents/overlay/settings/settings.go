// Package settings is what flanneld is told: flannel's flags, the same as
// variables FLANNELD_* (a flag wins), and what Coracle adds.
//
// Left out on purpose: everything for Kubernetes (kube-*, net-config-path,
// ip-blackhole-route), whose subnet manager is not built in, and healthz,
// which the unit's state replaces. Options of flannel 0.5 that have no meaning
// any more (remote, listen, networks) are named in a warning.
package settings

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/coracle-os/coracle/agents/kv/pki"
)

// Settings are flanneld's options.
type Settings struct {
	EtcdEndpoints []string
	EtcdPrefix    string
	EtcdKeyfile   string
	EtcdCertfile  string
	EtcdCAFile    string
	EtcdUsername  string
	EtcdPassword  string

	Interfaces []string // names or addresses, tried in order
	IfaceRegex []string
	CanReach   string // an address: the interface that routes to it
	PublicIP   string
	PublicIPv6 string

	SubnetFile  string
	RenewMargin time.Duration // before the end of the subnet's lease
	IPMasq      bool
	RandomPorts bool          // masquerade to random ports
	Resync      time.Duration // at which rules and paths are looked at anew
	Forward     bool          // accept forwarded packets of the overlay

	MachineID string // "" reads /etc/machine-id. Coracle's own
	// DefaultNetwork is written as the cluster's configuration if there is
	// none; "" waits for somebody to write it. Coracle's own.
	DefaultNetwork string
	// Memory is the bbolt file that keeps the subnet over a reboot, and
	// DockerOptions the file that docker.service reads. Coracle's own.
	Memory, DockerOptions string
	// CNI is the directory that gets the network's list for containerd; ""
	// writes none. Coracle's own.
	CNI string
	// KVCertificates is the directory of the machine's own member of the KV: what
	// is there is used for it when no files are named. Coracle's own.
	KVCertificates string
}

// list is a flag that may be given more than once.
type list struct{ to *[]string }

func (l list) String() string {
	if l.to == nil {
		return ""
	}
	return strings.Join(*l.to, ",")
}

func (l list) Set(value string) error {
	for part := range strings.SplitSeq(value, ",") {
		if part = strings.TrimSpace(part); part != "" {
			*l.to = append(*l.to, part)
		}
	}
	return nil
}

// gone are options that flannel had, with what stands for them today.
var gone = map[string]string{
	"remote":   "machines talk to the KV directly",
	"listen":   "machines talk to the KV directly",
	"networks": "there is one network; give it in the KV at PREFIX/config",
}

// ErrUsage says that the command line cannot be read.
var ErrUsage = errors.New("see flanneld --help")

// Parse reads args (without the program's name) and the variables of env,
// which looks one up. Warnings are for the log. flag.ErrHelp and ErrUsage
// have been explained on out.
func Parse(args []string, env func(string) (string, bool), out io.Writer) (s Settings, warnings []string, err error) {
	fs := flag.NewFlagSet("flanneld", flag.ContinueOnError)
	fs.SetOutput(out)
	var endpoints []string
	fs.Var(list{&endpoints}, "etcd-endpoints", "URLs of etcd, separated by commas (default the machine's own)")
	fs.StringVar(&s.EtcdPrefix, "etcd-prefix", "/coreos.com/network", "where etcd keeps the network")
	fs.StringVar(&s.EtcdKeyfile, "etcd-keyfile", "", "file with the key of etcd-certfile")
	fs.StringVar(&s.EtcdCertfile, "etcd-certfile", "", "file with the certificate to show to etcd")
	fs.StringVar(&s.EtcdCAFile, "etcd-cafile", "", "file with the authority of etcd's certificate")
	fs.StringVar(&s.EtcdUsername, "etcd-username", "", "etcd's user")
	fs.StringVar(&s.EtcdPassword, "etcd-password", "", "the user's password")
	fs.Var(list{&s.Interfaces}, "iface", "interface (name or address) that reaches the other machines; the first that exists")
	fs.Var(list{&s.IfaceRegex}, "iface-regex", "the same as a regular expression over names and addresses")
	fs.StringVar(&s.CanReach, "iface-can-reach", "", "the interface that routes to this address")
	fs.StringVar(&s.PublicIP, "public-ip", "", "address by which the other machines reach this one")
	fs.StringVar(&s.PublicIPv6, "public-ipv6", "", "the same for IPv6")
	fs.StringVar(&s.SubnetFile, "subnet-file", "/run/flannel/subnet.env", "file that gets the machine's subnet and MTU")
	margin := fs.Int("subnet-lease-renew-margin", 60, "minutes before its end at which a lease is renewed, 1 to 1439")
	fs.BoolVar(&s.IPMasq, "ip-masq", false, "let containers reach the world by the machine's address")
	noRandom := fs.Bool("ip-masq-fully-random-disable", false, "keep the ports of masqueraded connections")
	resync := fs.Int("iptables-resync", 5, "seconds between looks at the firewall's rules")
	fs.BoolVar(&s.Forward, "iptables-forward-rules", true, "accept packets of the overlay in the forward chain")
	fs.StringVar(&s.MachineID, "machine-id", "", "what this machine is told from others by (default from /etc/machine-id)")
	fs.StringVar(&s.DefaultNetwork, "default-network", "", "configuration to write when the cluster has none, as JSON")
	fs.StringVar(&s.Memory, "memory", "/var/lib/flannel/flannel.db", "file that keeps the machine's subnet over a reboot")
	fs.StringVar(&s.DockerOptions, "docker-options", "/run/flannel_docker_opts.env", "file that gets Docker's options")
	fs.StringVar(&s.CNI, "cni-dir", "/etc/cni/net.d", "directory that gets the network of containerd's containers; empty for none")
	fs.StringVar(&s.KVCertificates, "etcd-own", pki.Local, "directory with the certificates of the machine's own etcd")
	for name, instead := range gone {
		fs.Func(name, "not used any more: "+instead, func(string) error {
			warnings = append(warnings, fmt.Sprintf("--%s is not used any more: %s", name, instead))
			return nil
		})
	}
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return s, nil, err
	case err != nil:
		return s, nil, ErrUsage
	case fs.NArg() > 0:
		return s, nil, fmt.Errorf("argument %q: %w", fs.Arg(0), ErrUsage)
	}
	if err := fromEnvironment(fs, env); err != nil {
		return s, nil, err
	}
	s.EtcdEndpoints = endpoints
	if len(endpoints) == 0 {
		s.EtcdEndpoints = []string{"http://127.0.0.1:2379", "http://127.0.0.1:4001"}
	}
	if *margin < 1 || *margin > 1439 {
		return s, nil, fmt.Errorf("--subnet-lease-renew-margin is %d: give 1 to 1439 minutes", *margin)
	}
	if *resync < 1 {
		return s, nil, fmt.Errorf("--iptables-resync is %d: give at least 1 second", *resync)
	}
	s.RenewMargin, s.Resync = time.Duration(*margin)*time.Minute, time.Duration(*resync)*time.Second
	s.RandomPorts = !*noRandom
	s.EtcdPrefix = "/" + strings.Trim(s.EtcdPrefix, "/")
	return s, warnings, nil
}

// fromEnvironment sets every flag that was not given from FLANNELD_<NAME>.
func fromEnvironment(fs *flag.FlagSet, env func(string) (string, bool)) (err error) {
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	fs.VisitAll(func(f *flag.Flag) {
		name := "FLANNELD_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := env(name)
		if !ok || given[f.Name] || err != nil {
			return
		}
		if e := fs.Set(f.Name, value); e != nil {
			err = fmt.Errorf("read %s=%q: %w", name, value, e)
		}
	})
	return err
}
