// Package etcdutl is upstream's tool for etcd's files (restore a snapshot, check
// a store, defragment it while no member runs) as one program of a multi-call
// binary. It is for the owner of a machine whose store is damaged.
//
// Upstream's commands are used unchanged; only the root command, which upstream
// has in its main package, is made here, with the same flags. As with package
// etcdctl, the commands use the process's own streams and may end it.
package etcdutl

import (
	"context"
	"time"

	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/spf13/cobra"
	"go.etcd.io/etcd/etcdutl/v3/etcdutl"
)

// Main runs etcdutl with the arguments args; args[0] is not looked at.
func Main(ctx context.Context, args []string, stdio program.Stdio) int {
	root := &cobra.Command{Use: "etcdutl", Short: "An administrative command line tool for etcd3."}
	root.PersistentFlags().DurationVar(&etcdutl.FlockTimeout, "timeout", 10*time.Second, "time to wait to obtain a file lock on db file, 0 to block indefinitely")
	root.PersistentFlags().StringVarP(&etcdutl.OutputFormat, "write-out", "w", "simple", "set the output format (fields, json, protobuf, simple, table)")
	root.AddCommand(
		etcdutl.NewDefragCommand(),
		etcdutl.NewSnapshotCommand(),
		etcdutl.NewHashKVCommand(),
		etcdutl.NewVersionCommand(),
		etcdutl.NewMigrateCommand(),
	)
	root.SetArgs(args[1:])
	root.SetOut(stdio.Out)
	root.SetErr(stdio.Err)
	if err := root.ExecuteContext(ctx); err != nil {
		return 1
	}
	return 0
}
