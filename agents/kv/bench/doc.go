// Package bench measures agents/kv against the programs that it stands in for,
// in one run on one machine: version 2 of the API against Debian's etcd 3.4
// with --enable-v2, version 3 and the memory of an idle member against
// upstream's own main of the same release, and how long a cluster of three
// takes to form and to heal.
//
// The two sides run at the same time and are loaded in turns, a few hundred
// milliseconds each, so that what else happens on the machine meets both alike.
// A ratio is the median of the ratios of paired turns; more than 1 means that
// ours does more in the same time. Beside it is the ratio of the processor time
// that the two servers took for an operation, where the load's own share, which
// pulls the first one towards 1, does not count; less than 1 means that ours
// takes less.
//
// Version 2's PUT stays below 1 by design: one key in both versions means that
// a write is a transaction of version 3, with its conditions, its revisions and
// its file, where etcd 3.4 changed a tree in memory.
//
// There are Benchmarks only: nothing here fails because a machine is slow.
package bench
