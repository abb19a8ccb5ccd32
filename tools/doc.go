// Package tools is the folder of the programs for people: the builder's command
// (coracle), what it stands on (qemu, cluster, progress, tufrepo), and setup, which
// installs the Debian packages that building and testing need.
//
// pxe is the boot server; coracle-install is the installer for other Linux systems.
//
//	go run ./tools/coracle build|run|cluster|inspect|verify|key|release|bundle|pxe -h
package tools
