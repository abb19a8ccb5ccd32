// Package agents is the folder of the daemons: KV, scheduler, network and names,
// SSH server, updates, health and reboots.
//
// All but sshd and docker-init are one binary, coracled, called by many names:
// etcd, etcdctl, etcdutl, discovery, fleetd, fleetctl, flanneld, names,
// update-engine, coracle-health, locksmithd, locksmithctl, coracle-install, coracle-reset,
// systemd-cryptenroll, wget, curl, rsync. Daemons
// are units of their own: systemctl status etcd.
//
//	etcd           /var/lib/etcd; clients on 2379 and 4001; ETCD_* as of 3, 2 and 0.4; a cluster by
//	               ETCD_INITIAL_CLUSTER, ETCD_DISCOVERY, ETCD_DISCOVERY_SRV, or ETCD_JOIN and _JOIN_TOKEN;
//	               ETCD_TLS=auto or ETCD_TLS_CA_FILE: certificates; port 2378 hands the authority on
//	discovery      /etc/coracle/discovery.env; /new?size=N on port 8087, tokens in the machine's etcd
//	fleetd         /etc/fleet/fleet.conf and FLEET_*, or coreos.fleet; off until fleet.service is started;
//	               the API on /run/fleet.sock, over TCP by a drop-in of fleet.socket (FLEET_TLS_CAFILE,
//	               _CERTFILE, _KEYFILE); SIGHUP reads the settings anew, SIGTERM takes the units away
//	fleetctl       the scheduler's commands, through /run/fleet.sock or --tunnel HOST; FLEETCTL_*;
//	               ~/.fleetctl/known_hosts; fleetctl help
//	sshd           keys only; host keys are made on the first boot and kept
//	update-engine  /etc/coreos/update.conf: GROUP, SERVER; talk to it with updatectl
//	flanneld       /coreos.com/network/config in the store, FLANNELD_*; /run/flannel/subnet.env;
//	               back ends vxlan, host-gw, wireguard, udp; a reservation is a lease without an end
//	names          UNIT.coracle.internal and MACHINE.coracle.internal on 169.254.53.53; NAMES_*;
//	               [X-Names] Port=8080/tcp http in a unit's file for SRV
//	locksmithd     REBOOT_STRATEGY, LOCKSMITHD_REBOOT_WINDOW_START and _LENGTH; DRAIN_TIMEOUT (2m): how
//	               long the scheduler's units may take to leave before a reboot, 0s to leave them
//	coracle-install -d DISK, or the kernel arguments coracle.install=DISK, coracle.config=URL, coracle.image=URL,
//	               coracle.install-channel, -server and -version, coracle.after=reboot|poweroff|stay
//	coracle-reset  -keep PATH...; the next start does it
//	systemd-cryptenroll  the keys of the encrypted state: list, --recovery-key, --wipe-slot=
//	coracled config  diff, apply [--try 2m], confirm: a change of user-data on a running machine
//	coracle-health /etc/coracle/health.d/*.yaml: when is a new release good
//
// Programs of the machine find the certificates of its own store by themselves.
//
// A new store has no users: who reaches its client ports may do everything. To
// give it users, on any machine of the cluster:
//
//	etcdctl user add root                  it asks for a password; root may do everything
//	etcdctl user add web
//	etcdctl role add web
//	etcdctl role grant-permission --prefix web readwrite /web/
//	etcdctl user grant-role web web
//	etcdctl auth enable                    makes root's role if it has to
//
// The same users, roles and permissions hold for both versions of the API, and
// etcd 2's words make the same ones: ETCDCTL_API=2 etcdctl role grant web --path
// '/web/*' --rw. Requests of version 2 without a user may do what the role guest
// may, of version 3 nothing. Enabling with etcd 2's words makes a role guest that
// may do everything, as it did there: take that away with etcdctl role revoke
// guest --path '/*' --rw. Programs then need a name and a password: locksmithd
// LOCKSMITHD_ETCD_USERNAME and _PASSWORD, and with FLEET_, FLANNELD_ or NAMES_
// in front fleetd, flanneld and names. Snapshots, healing and the members'
// health go on without.
package agents
