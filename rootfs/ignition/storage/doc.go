// Package storage makes what the storage section of an Ignition config asks for
// besides files: partitions, arrays of md, LUKS2 volumes, file systems and swap;
// and on every later boot opens and assembles them again.
//
// Nothing that holds data is formatted unless the config says so: what a device
// holds is looked for first, by the rules of Ignition's operator notes. A disk
// that is in use is not partitioned anew, and the disk that the system runs
// from never. What a power cut left half made is known by its UUID, which is
// written down before it is made, and is made over.
//
// Partition tables are written by go-diskfs, arrays by mdadm, file systems by
// their own mkfs, volumes by package luks. There is no udev on this machine, so
// the links in /dev/disk are made here too. Left out on purpose: btrfs (the kernel
// has none), Argon2 in volumes made here (the keys are random files), Clevis and TPMs.
package storage
