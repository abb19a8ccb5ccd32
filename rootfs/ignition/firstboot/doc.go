// Package firstboot is the program ignition: on a machine's first boot it finds
// the Ignition config, gets all that it names, applies it step by step and notes
// that it is done, so that no later boot does it again. ignition.service runs it
// before coreos-cloudinit and before any unit of the owner's is started, by way
// of package detect, which keeps this program away from machines without such a
// config.
//
// All or nothing: a config that is not valid, that asks for what Coracle can
// not do, or that names a document that can not be had, changes nothing but the
// SSH keys of its users, which let the owner in. What goes wrong later ends the
// run. Until a run reached its end no unit of the config is started, the service
// has failed, and the next boot (or `systemctl restart ignition`) begins again;
// every step is one that can be taken twice. Progress is kept in
// /var/lib/coracle/ignition.json, so a run that a power cut ended is reported
// with the step that it was at.
//
// Storage that was made is not made again by the next run, only compared: by
// then it may be mounted.
//
// The config is that of the first place that has one: ignition.config.url= on
// the kernel command line, QEMU's fw_cfg entry opt/com.coreos/config, the
// places of coreos-cloudinit, config.ign of the OEM partition, and last the
// document at cloud-config-url=. That one coreos-cloudinit fetches, once, for it
// lets the owner in before it waits for a server; when it is an Ignition config,
// coreos-cloudinit runs this program with it.
package firstboot
