package qemutests

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/kv/pki"
	"github.com/coracle-os/coracle/qemu-tests/machine"
	"github.com/coracle-os/coracle/tools/qemu"
)

// clusterUserData is one document for all machines but for the address.
const clusterUserData = keyOnly + `hostname: node%[1]d
write_files:
  - path: /etc/store-authority.pem
    owner: etcd:etcd
    permissions: "0600"
    encoding: base64
    content: %[2]s
coreos:
  etcd2:
    name: node%[1]d
    listen-client-urls: http://0.0.0.0:2379,http://0.0.0.0:4001
    advertise-client-urls: http://10.9.0.%[1]d:2379
    listen-peer-urls: http://10.9.0.%[1]d:2380
    initial-advertise-peer-urls: http://10.9.0.%[1]d:2380
    initial-cluster: node1=http://10.9.0.1:2380,node2=http://10.9.0.2:2380,node3=http://10.9.0.3:2380
    initial-cluster-state: new
    tls-ca-file: /etc/store-authority.pem
  units:
    - name: 10-lan.network
      runtime: true
      content: |
        [Match]
        MACAddress=52:54:00:09:00:0%[1]d
        [Network]
        Address=10.9.0.%[1]d/24
    - name: etcd2.service
      command: start
`

// TestCluster has three machines that form one store from user-data, with TLS,
// lose one and get it back.
func TestCluster(t *testing.T) {
	authority, err := pki.New("store", time.Now(), rand.Reader)
	must(t, err)
	secret, err := authority.PEM()
	must(t, err)
	port, err := qemu.FreePort()
	must(t, err)
	var nodes []*machine.Machine
	for i := range 3 {
		name := fmt.Sprintf("%s-%d", t.Name(), i+1)
		nodes = append(nodes, machine.Boot(t, machine.Options{Name: name, Memory: 1024, UserData: fmt.Sprintf(clusterUserData, i+1, base64.StdEncoding.EncodeToString(secret)),
			Change: func(c *qemu.Config) {
				c.LAN = qemu.LAN{Group: fmt.Sprintf("239.255.9.1:%d", port), MAC: fmt.Sprintf("52:54:00:09:00:0%d", i+1)}
			}}))
	}
	nodes[0].Eventually("sudo etcdctl endpoint health --cluster 2>&1 | grep -c 'is healthy'", "3", 3*time.Minute)
	nodes[0].Run("sudo etcdctl put message Hello")
	if got := nodes[1].Run("sudo etcdctl get message --print-value-only"); got != "Hello" {
		t.Errorf("another machine reads %q", got)
	}
	begin := time.Now()
	nodes[2].Kill()
	nodes[1].Eventually("sudo etcdctl put message Again", "OK", time.Minute)
	t.Logf("a write %.1f s after the loss of a machine", time.Since(begin).Seconds())
	nodes[2].PowerCut()
	nodes[2].Eventually("sudo etcdctl get message --print-value-only", "Again", 3*time.Minute)
	nodes[0].Eventually("sudo locksmithctl status", "Available: 1", time.Minute)
	nodes[0].Eventually("systemctl status etcd.service", " of 3, revision", 30*time.Second)
}
