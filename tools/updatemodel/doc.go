// Package updatemodel has only tests: whole updates from a publisher's
// repository to a machine, with the real engine, the real client and a real web
// server, on a disk and an EFI system partition in memory. What reaches them is
// recorded, so that every instant at which power may fail can be looked at, and
// each kind of bad input and bad luck has a test of its own.
//
// It stands to the right of publisher and agents because it needs both. Real
// firmware, boot loader and kernel are in qemu-tests.
package updatemodel
