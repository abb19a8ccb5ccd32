// Package ignition understands Ignition configs of the specifications 3.0 to
// 3.5: for the program of the same name, which sets a machine up on its first
// boot, and for `coracle config`, which checks a config on any machine. It is
// pure: documents that a config names come through a Fetcher.
//
// Types, parsing, translation between versions, merging and validation are
// those of github.com/coreos/ignition/v2, so what is valid here is valid there.
// Ours is what that module keeps internal: resolving merge and replace, and the
// compilation to Steps, one for each thing to do and in the order of doing.
//
// What Coracle can not do is found here, before anything is changed, and says
// what to do instead: the root file system is a verified image, so it is not
// made anew and nothing is written into it; the kernel's arguments are part of
// the signed boot entry, so only those that set a sysctl are applied, as a file,
// and the others compared; keys of LUKS volumes come from key files, not from
// Clevis, a TPM or a crypto card; btrfs is not in the kernel.
package ignition
