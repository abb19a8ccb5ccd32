// Package etcdctl is upstream's command line client of etcd as one program of
// a multi-call binary. It is for people and scripts on the machine; verbs,
// flags and ETCDCTL_* variables are those of etcd 3.7.
//
// Upstream's commands read os.Args and write to the process's own streams, and
// end the process themselves on an error, so a caller in a test sees the real
// ones and not the streams that it passed. The verbs of etcd 2 are left out.
package etcdctl

import (
	"context"
	"os"

	"github.com/coracle-os/coracle/rootfs/program"
	"go.etcd.io/etcd/etcdctl/v3/ctlv3"
)

// Main runs etcdctl with the arguments args; args[0] is not looked at.
func Main(_ context.Context, args []string, _ program.Stdio) int {
	os.Args = append([]string{"etcdctl"}, args[1:]...)
	ctlv3.MustStart()
	return 0
}
