// Package rootfs is the folder of what lives in the root: its static files
// (base), PID 1 with its units, the journal, provisioning and the network.
//
// All programs here are one small binary, init, called by many names:
// systemctl, journalctl, networkctl, resolvectl, hostnamectl, updatectl, and
// those of the daemons that PID 1 starts first. They depend on little and start at once.
// Units are systemd's: files in /etc, /run and /usr/lib/systemd/system with
// drop-ins and templates; package unit says which settings are known.
//
// User-data is read on every boot: package userdata says where from, package
// cloudconfig what it may say and what happens to what is wrong. An Ignition
// config is applied once, by package ignition/firstboot; package ignition/live is
// for a change of it.
//
// The third-party programs (containerd, its shim, runc, dockerd, docker,
// CNI's plug-ins) have a module each, so that each is built with the versions
// its authors tested.
package rootfs
