// Package etcdctl is upstream's command line client of etcd as one program of
// a multi-call binary. It is for people and scripts on the machine; verbs,
// flags and ETCDCTL_* variables are those of etcd 3.7.
//
// Upstream's commands read os.Args and write to the process's own streams, and
// end the process themselves on an error, so a caller in a test sees the real
// ones and not the streams that it passed. A command line in the syntax of etcd
// 2 is run by package v2: with ETCDCTL_API=2, or when only etcd 2 knows its verb.
//
// When the machine's own member has certificates of the cluster's authority,
// those are used unless others are named; they are readable for root only.
package etcdctl

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/coracle-os/coracle/agents/etcdctl/v2"
	"github.com/coracle-os/coracle/agents/kv/pki"
	"github.com/coracle-os/coracle/rootfs/program"
	"go.etcd.io/etcd/etcdctl/v3/ctlv3"
)

// Main runs etcdctl with the arguments args; args[0] is not looked at.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	if v2.Mine(args[1:], os.Getenv("ETCDCTL_API")) {
		return v2.Main(ctx, args[1:], os.Getenv, stdio)
	}
	os.Args = append([]string{"etcdctl"}, args[1:]...)
	for name, value := range ownCertificates(os.Args, os.Environ(), pki.In(pki.Local)) {
		os.Setenv(name, value)
	}
	ctlv3.MustStart()
	return 0
}

// ownCertificates are the variables that make upstream's commands use the
// machine's certificates, none when others are named.
func ownCertificates(args, environ []string, f pki.Files) map[string]string {
	named := func(s string) bool {
		for _, word := range []string{"--cacert", "--cert", "--key", "ETCDCTL_CACERT=", "ETCDCTL_CERT=", "ETCDCTL_KEY="} {
			if strings.HasPrefix(s, word) {
				return true
			}
		}
		return false
	}
	if slices.ContainsFunc(args, named) || slices.ContainsFunc(environ, named) || !f.Readable() {
		return nil
	}
	return map[string]string{"ETCDCTL_CACERT": f.Authority, "ETCDCTL_CERT": f.Certificate, "ETCDCTL_KEY": f.Key}
}
