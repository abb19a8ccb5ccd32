// Package agents is the folder of the daemons: KV, SSH server, updates, health
// and reboots.
//
// All but sshd and docker-init are one binary, coracled, called by many names:
// etcd, etcdctl, etcdutl, discovery, update-engine, coracle-health, locksmithd,
// locksmithctl, fleetd, fleetctl, wget. Daemons are units of their own: systemctl status etcd.
//
//	etcd           /var/lib/etcd; clients on 2379 and 4001; ETCD_* as of 3, 2 and 0.4; a cluster by
//	               ETCD_INITIAL_CLUSTER, ETCD_DISCOVERY, ETCD_DISCOVERY_SRV, or ETCD_JOIN and _JOIN_TOKEN
//	discovery      /etc/coracle/discovery.env; /new?size=N on port 8087, tokens in the machine's etcd
//	sshd           keys only; host keys are made on the first boot and kept
//	update-engine  /etc/coreos/update.conf: GROUP, SERVER; talk to it with updatectl
//	locksmithd     REBOOT_STRATEGY, LOCKSMITHD_REBOOT_WINDOW_START and _LENGTH
//	coracle-health /etc/coracle/health.d/*.yaml: when is a new release good
//	fleetctl       the scheduler's commands, through /run/fleet.sock or --tunnel HOST; FLEETCTL_*;
//	               ~/.fleetctl/known_hosts; fleetctl help
package agents
