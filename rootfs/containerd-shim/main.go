// Command containerd-shim is upstream's containerd-shim-runc-v2: the process
// that stands between containerd and the programs of one container, so that
// they outlive a restart of containerd. containerd finds it by that name.
//
// It is a program of its own, and not a name of containerd's, because there is
// one for every container: alone it has 4 MB of memory of its own and 12 MB of
// pages of the program, which all shims share (amd64, stripped, 14 MB).
package main

import (
	"context"

	"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/manager"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2/task/plugin"
	"github.com/containerd/containerd/v2/pkg/shim"
)

func main() {
	shim.RunShim(context.Background(), manager.NewShimManager("io.containerd.runc.v2"))
}
