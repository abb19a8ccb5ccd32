package kv

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// dnsMain is a name server for the domain of the tests: it knows the host nN as
// 10.77.0.N and one SRV record for each number among its arguments.
func dnsMain(args []string) int {
	conn, err := net.ListenPacket("udp", ":53")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	buf := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return 1
		}
		if answer, err := dnsAnswer(buf[:n], args); err == nil {
			conn.WriteTo(answer, from)
		}
	}
}

func dnsAnswer(question []byte, hosts []string) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil || len(m.Questions) != 1 {
		return nil, fmt.Errorf("read the question: %w", err)
	}
	q := m.Questions[0]
	m.Header = dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true}
	m.Additionals, m.Answers = nil, nil
	head := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 1}
	known := false
	for _, h := range hosts {
		host := "n" + h + ".cluster.test."
		if q.Name.String() == "_etcd-server._tcp.cluster.test." {
			known = true
			if q.Type == dnsmessage.TypeSRV {
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.SRVResource{Port: 2380, Target: dnsmessage.MustNewName(host)}})
			}
		}
		if q.Name.String() == host {
			known = true
			if q.Type == dnsmessage.TypeA {
				last, _ := strconv.Atoi(h)
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: netip.AddrFrom4([4]byte{10, 77, 0, byte(last)}).As4()}})
			}
		}
	}
	if !known {
		m.RCode = dnsmessage.RCodeNameError
	}
	return m.Pack()
}

// resolver makes the machine ask a name server; `ip netns exec` shows the file
// to its programs.
func (m *machineUnderTest) resolver(ip string) {
	m.t.Helper()
	dir := filepath.Join("/etc/netns", m.Namespace)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		os.RemoveAll(dir)
		os.Remove("/etc/netns") // only when nobody else uses it
	})
	if err := os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver "+ip+"\noptions timeout:1 attempts:2\n"), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func TestDNS(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.machine(8).start("dns", nil, "1", "2", "3")
	for n := 1; n <= 4; n++ {
		l.machine(n).resolver("10.77.0.8")
	}
	begin := time.Now()
	for n := 1; n <= 3; n++ {
		l.machine(n).etcd(fmt.Sprintf("ETCD_NAME=s%d", n), "ETCD_DISCOVERY_SRV=cluster.test")
	}
	formed(t, l, 60*time.Second, []string{"s1", "s2", "s3"}, 1, 2, 3)
	t.Logf("a cluster of three formed by DNS in %v", time.Since(begin))
	l.machine(4).etcd("ETCD_NAME=s4", "ETCD_DISCOVERY_SRV=cluster.test", "ETCD_PROXY=on")
	eventually(t, 30*time.Second, func() string { return l.machine(4).put("/by", "dns") })
}

func TestDNSWithoutRecords(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	m := l.machine(1)
	m.resolver("10.77.0.8")
	l.machine(8).start("dns", nil)
	p := m.etcd("ETCD_NAME=s1", "ETCD_DISCOVERY_SRV=cluster.test")
	if code := p.ends(t, 60*time.Second); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	p.says(t, 0, "error setting up initial cluster")
	p.says(t, 0, "cluster.test")
	if slices.Contains([]string{p.Log.String()}, "goroutine ") {
		t.Error("a stack trace")
	}
}
