// The CNI plug-ins that give containers of `ctr run --cni` the machine's part
// of the overlay: upstream's bridge and host-local
// (github.com/containernetworking/plugins), unchanged, are built from this
// module; they are named as tools so that their requirements are here.
//
// They are two names of one program, of 3.8 MB (amd64, stripped) where each by
// itself has 4 and 3 MB: main packages of upstream's, put together as u-root's
// commands are. Left out are those that flanneld's network list does not name:
// portmap, firewall and tuning, as Docker publishes ports and flanneld
// masquerades; loopback, which ctr does not ask for.
module github.com/coracle-os/coracle/rootfs/cni

go 1.26.0

tool (
	github.com/containernetworking/plugins/plugins/ipam/host-local
	github.com/containernetworking/plugins/plugins/main/bridge
)

require (
	github.com/alexflint/go-filemutex v1.3.0 // indirect
	github.com/containernetworking/cni v1.3.0 // indirect
	github.com/containernetworking/plugins v1.9.1 // indirect
	github.com/coreos/go-iptables v0.8.0 // indirect
	github.com/networkplumbing/go-nft v0.4.0 // indirect
	github.com/pkg/errors v0.9.1 // indirect
	github.com/safchain/ethtool v0.6.2 // indirect
	github.com/vishvananda/netlink v1.3.1 // indirect
	github.com/vishvananda/netns v0.0.5 // indirect
	golang.org/x/sys v0.35.0 // indirect
	sigs.k8s.io/knftables v0.0.18 // indirect
)
