// Package qemutests tests the system from outside: it boots the built image
// in QEMU and looks at it over SSH and the serial console.
//
//	go test ./qemu-tests            all of it; the image is build/coracle.raw
//	CORACLE_IMAGE=FILE go test ...  another image
//
// One boot costs 15 to 30 seconds under emulation, so boots are few and each
// is shared by many checks. Failures that need a damaged disk get a boot each:
// they are short, since nothing after the failure is waited for. Power cuts are
// few for the same reason: package writelog makes the disks that the others would
// have left from one boot's writes. Consoles are kept in build/qemu-tests and scanned for panics.
package qemutests
