// Package image is the folder of what a Coracle image is and how one is made.
//
// Everything here takes values and gives values or files, runs as any user, and
// mounts nothing. A recipe (package recipe) names what goes in. Package build
// has the steps: Debian packages, kernel modules and Go programs become a file
// tree (tree), the tree an EROFS (erofs) with its dm-verity hash tree (verity),
// kernel, initrd and command line with the root hash become one UKI (uki), and
// all of them a disk (esp, ext4, gpt). The same inputs give the same bytes.
//
// With keys of package secureboot, what firmware starts is signed (efisign), and
// so is what a TPM will have measured of it (measure).
//
// Packages live, pxe and iso give an image to machines without a disk of their own.
//
// Package inspect reads an image back; release and delta are the form in which
// it is published and how much of it a machine has already.
package image
