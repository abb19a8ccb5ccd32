// Package initrd is the folder of stage 1: what runs from the kernel's first
// process until the verified root takes over.
//
// Its program, init, loads the drivers of the disks, finds root and hash tree
// by the identifiers that the root hash on the command line gives, opens them
// with dm-verity, enlarges and mounts the state partition, lays /etc over it
// and switches root. When it cannot, it says why on the console and restarts
// after ten seconds; coracle.debug on the command line gives a shell instead.
//
// A live system's root is in files that came with the initrd or lie on a medium
// (package live); the rest is the same.
//
// On a machine with a TPM it measures its begin and its end, and between them
// opens a state partition that is encrypted (packages luks and tpm); with
// coracle.encrypt=tpm2 that of a new machine is made so.
//
// Kernel arguments: roothash=HASH, coracle.debug, coracle.encrypt=tpm2, coracle.live=memory|medium,
// coracle.state=memory|LABEL=NAME|/dev/NAME, coracle.state-format.
package initrd
