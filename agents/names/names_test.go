package names

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coracle-os/coracle/agents/lab"
	"github.com/coracle-os/coracle/rootfs/control"
	"github.com/coracle-os/coracle/rootfs/program"
	"github.com/miekg/dns"
	"go.etcd.io/etcd/server/v3/embed"
)

// TestMain is also the programs of the lab's machines.
func TestMain(m *testing.M) {
	stdio := program.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	switch os.Getenv("TEST_PROGRAM") {
	case "names":
		code := Main(ctx, os.Args, stdio)
		stop()
		os.Exit(code)
	case "etcd":
		os.Exit(runEtcd(os.Args[1], os.Args[2]))
	case "ask":
		os.Exit(ask(os.Args[1], os.Args[2], os.Args[3:]))
	case "until":
		os.Exit(until(os.Args[1], os.Args[2], os.Args[3:]))
	case "upstream":
		os.Exit(runUpstream(os.Args[1]))
	}
	stop()
	os.Exit(m.Run())
}

func runEtcd(dir, address string) int {
	config := embed.NewConfig()
	config.Dir, config.LogLevel, config.UnsafeNoFsync = dir, "error", true
	client, peer := url.URL{Scheme: "http", Host: net.JoinHostPort(address, "2379")}, url.URL{Scheme: "http", Host: net.JoinHostPort(address, "2380")}
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	if _, err := embed.StartEtcd(config); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	select {}
}

// ask prints the answers to questions TYPE NAME, a line each, sorted.
func ask(network, server string, question []string) int {
	m := new(dns.Msg).SetQuestion(dns.Fqdn(question[1]), dns.StringToType[question[0]])
	client := &dns.Client{Net: network, Timeout: 3 * time.Second}
	answer, _, err := client.Exchange(m, net.JoinHostPort(server, "53"))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	var lines []string
	for _, rr := range answer.Answer {
		lines = append(lines, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(lines)
	fmt.Printf("%s: %s\n", dns.RcodeToString[answer.Rcode], strings.Join(lines, ", "))
	return 0
}

// until asks for the address of name until it is each of wants, and prints when
// that was.
func until(server, name string, wants []string) int {
	client := &dns.Client{Timeout: time.Second}
	for _, want := range wants {
		for {
			answer, _, err := client.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA), net.JoinHostPort(server, "53"))
			if err == nil && len(answer.Answer) == 1 && answer.Answer[0].(*dns.A).A.String() == want {
				fmt.Println(time.Now().UnixNano())
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	return 0
}

// BenchmarkMove is the time from a unit's start on another machine to the new
// answer on a third.
func BenchmarkMove(b *testing.B) {
	l := lab.New(b)
	kv := l.Machine(250)
	kv.Program("etcd", nil, filepath.Join(kv.Dir, "etcd"), kv.IP)
	machines := []*node{newNode(b, l, kv, 1), newNode(b, l, kv, 2)}
	third := newNode(b, l, kv, 3)
	const file = "[Service]\nExecStart=/bin/true\n"
	third.ask(60*time.Second, "NOERROR: 10.77.0.1", "A", "host1.coracle.internal")
	third.ask(60*time.Second, "NOERROR: 10.77.0.2", "A", "host2.coracle.internal")
	machines[0].run("web.service", file)
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	var total time.Duration
	now := 0
	for b.Loop() {
		from, to := machines[now], machines[1-now]
		watch := third.Start([]string{"TEST_PROGRAM=until"}, exe, "169.254.53.53", "web.coracle.internal", from.IP, to.IP)
		lab.Eventually(b, 20*time.Second, "the old answer", func() error {
			if watch.Log.String() == "" {
				return errors.New("none yet")
			}
			return nil
		})
		began := time.Now()
		from.pid1.set("web.service", "inactive")
		to.run("web.service", file)
		<-watch.Done
		var old, came int64
		if _, err := fmt.Sscan(watch.Log.String(), &old, &came); err != nil {
			b.Fatal(err)
		}
		total += time.Unix(0, came).Sub(began)
		now = 1 - now
	}
	b.ReportMetric(float64(total.Milliseconds())/float64(b.N), "ms/move")
}

// runUpstream is the name server of the network: it knows one name.
func runUpstream(address string) int {
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		answer := new(dns.Msg).SetReply(q)
		if rr, err := dns.NewRR(q.Question[0].Name + " 60 IN A 192.0.2.80"); err == nil && q.Question[0].Name == "www.example.org." {
			answer.Answer = append(answer.Answer, rr)
		} else {
			answer.Rcode = dns.RcodeNameError
		}
		w.WriteMsg(answer)
	})
	fmt.Fprintln(os.Stderr, (&dns.Server{Addr: net.JoinHostPort(address, "53"), Net: "udp", Handler: handler}).ListenAndServe())
	return 1
}

// node is a machine with the name server; PID 1 and Docker are played at their
// sockets.
type node struct {
	*lab.Machine
	t     testing.TB
	names *lab.Process
	pid1  *pid1
}

// pid1 tells watchers what the test says.
type pid1 struct {
	mu      sync.Mutex
	units   map[string]string
	changes map[chan control.Unit]bool
}

func (p *pid1) Handle(ctx context.Context, _ control.Peer, _ control.Request, send func(control.Response) error) error {
	ch := make(chan control.Unit, 64)
	p.mu.Lock()
	for name, active := range p.units {
		ch <- control.Unit{Name: name, Active: active}
	}
	p.changes[ch] = true
	p.mu.Unlock()
	for {
		select {
		case u := <-ch:
			if err := send(control.Response{Units: []control.Unit{u}}); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (p *pid1) set(name, active string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.units[name] = active
	for ch := range p.changes {
		ch <- control.Unit{Name: name, Active: active}
	}
}

func newNode(t testing.TB, l *lab.Lab, kv *lab.Machine, n int) *node {
	m := &node{Machine: l.Machine(n), t: t, pid1: &pid1{units: map[string]string{}, changes: map[chan control.Unit]bool{}}}
	listener, err := control.Listen(filepath.Join(m.Dir, "control"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	go (&control.Server{Handler: m.pid1, Log: slog.New(slog.DiscardHandler)}).Serve(ctx, listener)
	network := fmt.Sprintf(`{"interfaces":[{"name":"eth0","gateway":"10.77.0.254","addresses":["%s/24","fe80::1/64"],"dns":["%s"]}],"online":true}`, m.IP, kv.IP)
	if err := os.WriteFile(filepath.Join(m.Dir, "state.json"), []byte(network), 0o644); err != nil {
		t.Fatal(err)
	}
	os.Mkdir(filepath.Join(m.Dir, "units"), 0o755)
	m.start(kv)
	return m
}

func (m *node) start(kv *lab.Machine) {
	m.t.Helper()
	m.names = m.Program("names", nil, "--etcd-endpoints=http://"+kv.IP+":2379", "--machine-id="+strings.Repeat(m.IP[len(m.IP)-1:], 32),
		"--hostname=host"+m.IP[len(m.IP)-1:]+".example.org", "--docker="+filepath.Join(m.Dir, "docker.sock"), "--control="+filepath.Join(m.Dir, "control"),
		"--units="+filepath.Join(m.Dir, "units"), "--network="+filepath.Join(m.Dir, "state.json"), "--resolver="+filepath.Join(m.Dir, "resolver.json"))
}

// run lets a unit of the scheduler run.
func (m *node) run(unit, file string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.Dir, "units", unit), []byte(file), 0o644); err != nil {
		m.t.Fatal(err)
	}
	m.pid1.set(unit, "active")
}

// ask waits until the machine's server gives an answer.
func (m *node) ask(limit time.Duration, want string, question ...string) {
	m.t.Helper()
	m.askBy("udp", limit, want, question...)
}

func (m *node) askBy(network string, limit time.Duration, want string, question ...string) {
	m.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		m.t.Fatal(err)
	}
	lab.Eventually(m.t, limit, fmt.Sprintf("%q on %s", question, m.IP), func() error {
		ctx, done := context.WithTimeout(context.Background(), 5*time.Second)
		defer done()
		got, err := m.Run(ctx, append([]string{"env", "TEST_PROGRAM=ask", exe, network, "169.254.53.53"}, question...)...)
		if err == nil && got != want+"\n" {
			err = fmt.Errorf("got %q, want %q", got, want)
		}
		return err
	})
}

// TestNames has two machines; a unit runs on one and moves to the other, with
// a container; the KV goes away; a machine is lost.
func TestNames(t *testing.T) {
	l := lab.New(t)
	kv := l.Machine(250)
	etcd := kv.Program("etcd", nil, filepath.Join(kv.Dir, "etcd"), kv.IP)
	kv.Program("upstream", nil, kv.IP)
	a, b := newNode(t, l, kv, 1), newNode(t, l, kv, 2)

	for _, m := range []*node{a, b} {
		m.ask(30*time.Second, "NOERROR: 10.77.0.1", "A", "host1.coracle.internal")
		m.ask(10*time.Second, "NOERROR: 10.77.0.2", "A", "HOST2.Coracle.Internal")
		m.ask(10*time.Second, "NOERROR: 10.77.0.2", "A", "22222222.coracle.internal")
	}
	a.ask(time.Second, "NXDOMAIN: ", "A", "nginx.coracle.internal")
	a.ask(time.Second, "NOERROR: ", "AAAA", "host1.coracle.internal")
	a.ask(5*time.Second, "NOERROR: 192.0.2.80", "A", "www.example.org")
	a.ask(5*time.Second, "NXDOMAIN: ", "A", "nobody.example.org")
	a.askBy("tcp", 5*time.Second, "NOERROR: 10.77.0.2", "A", "host2.coracle.internal")

	file := "[Service]\nExecStart=/usr/bin/docker run --name nginx nginx\n[X-Names]\nPort=80 http\n"
	a.run("nginx.service", file)
	b.ask(5*time.Second, "NOERROR: 10.77.0.1", "A", "nginx.coracle.internal")
	b.ask(time.Second, "NOERROR: 0 1 80 10-77-0-1.coracle.internal.", "SRV", "_http._tcp.nginx.coracle.internal")
	b.ask(time.Second, "NOERROR: 10.77.0.1", "A", "10-77-0-1.coracle.internal")

	docker := serveDocker(t, filepath.Join(b.Dir, "docker.sock"))
	b.pid1.set("docker.service", "active")
	docker.set(`[{"Names":["/nginx"],"Ports":[{"PrivatePort":80,"Type":"tcp"}],"NetworkSettings":{"Networks":{"bridge":{"IPAddress":"10.1.2.9","GlobalIPv6Address":"fd10::9"}}}}]`)
	a.pid1.set("nginx.service", "inactive")
	b.run("nginx.service", file)
	for _, m := range []*node{a, b} {
		m.ask(5*time.Second, "NOERROR: 10.1.2.9", "A", "nginx.coracle.internal")
		m.ask(5*time.Second, "NOERROR: fd10::9", "AAAA", "nginx.service.coracle.internal")
	}

	etcd.Stop(syscall.SIGKILL)
	a.ask(5*time.Second, "NOERROR: 10.1.2.9", "A", "nginx.coracle.internal")
	if err := os.RemoveAll(filepath.Join(kv.Dir, "etcd")); err != nil { // it comes back with another history
		t.Fatal(err)
	}
	kv.Program("etcd", nil, filepath.Join(kv.Dir, "etcd"), kv.IP)
	docker.set(`[]`)
	a.ask(60*time.Second, "NOERROR: 10.77.0.2", "A", "nginx.coracle.internal")

	b.Plug(false)
	a.ask(40*time.Second, "NXDOMAIN: ", "A", "nginx.coracle.internal")
	b.ask(time.Second, "NOERROR: 10.77.0.2", "A", "nginx.coracle.internal") // it still knows what it runs
	b.Plug(true)
	a.ask(40*time.Second, "NOERROR: 10.77.0.2", "A", "nginx.coracle.internal")

	a.names.Stop(syscall.SIGTERM)
	if out := a.Must("ip", "link"); strings.Contains(out, "names0") {
		t.Error("the interface is left")
	}
	if _, err := os.Stat(filepath.Join(a.Dir, "resolver.json")); err == nil {
		t.Error("the resolver is still told of the server")
	}
	b.ask(5*time.Second, "NXDOMAIN: ", "A", "host1.coracle.internal")
}

// fakeDocker answers the two requests that are made of dockerd; the real one is
// in the tests with machines.
type fakeDocker struct {
	mu     sync.Mutex
	list   string
	change chan struct{}
}

func serveDocker(t *testing.T, path string) *fakeDocker {
	d := &fakeDocker{list: "[]", change: make(chan struct{}, 8)}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/v1.41/containers/json", func(w http.ResponseWriter, _ *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		fmt.Fprint(w, d.list)
	})
	mux.HandleFunc("/v1.41/events", func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		for {
			select {
			case <-r.Context().Done():
				return
			case <-d.change:
				json.NewEncoder(w).Encode(map[string]string{"Action": "start"})
				w.(http.Flusher).Flush()
			}
		}
	})
	server := &http.Server{Handler: mux}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return d
}

func (d *fakeDocker) set(list string) {
	d.mu.Lock()
	d.list = list
	d.mu.Unlock()
	d.change <- struct{}{}
}
