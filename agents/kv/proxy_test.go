package kv

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestProxyFollowsTheMembers(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	p := trio(l, staticCluster(3))
	formed(t, l, 60*time.Second, []string{"n1", "n2", "n3"}, 1, 2, 3)
	env := []string{"ETCD_NAME=w", staticCluster(3), "ETCD_PROXY=on", "ETCD_PROXY_REFRESH_INTERVAL=1000", "ETCD_PROXY_DIAL_TIMEOUT=500"}
	four := l.machine(4)
	worker := four.etcd(env...)
	for _, port := range []string{"2379", "4001"} {
		eventually(t, 20*time.Second, func() string {
			if code, text := four.request("GET", "http://127.0.0.1:"+port+"/version", ""); code != 200 {
				return fmt.Sprintf("port %s: %d %s", port, code, text)
			}
			return ""
		})
	}
	p[0].kill()
	for i := range 10 {
		eventually(t, 15*time.Second, func() string { return four.put("/p", fmt.Sprint(i)) })
	}
	l.machine(1).etcd(staticCluster(3))
	eventually(t, 30*time.Second, func() string { return l.machine(1).has("/p", "9") })
	// A member that is stopped takes connections and says nothing.
	p[2].Cmd.Process.Signal(unix.SIGSTOP)
	eventually(t, 30*time.Second, func() string { return four.put("/p", "stopped") })
	p[2].Cmd.Process.Signal(unix.SIGCONT)
	// Another member than at the beginning is found and remembered.
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	worker.kill()
	worker = four.etcd("ETCD_NAME=w", "ETCD_PROXY=on", "ETCD_INITIAL_CLUSTER=x=http://10.77.0.99:2380")
	eventually(t, 30*time.Second, func() string { return four.has("/p", "stopped") })
	c := four.client(four.endpoint())
	watch := c.Watch(ctx, "/w")
	eventually(t, 10*time.Second, func() string { return l.machine(2).put("/w", "1") })
	select {
	case r := <-watch:
		if r.Err() != nil {
			t.Errorf("watch through the proxy: %v", r.Err())
		}
	case <-ctx.Done():
		t.Error("no event through the proxy")
	}
	worker.stop()
	if code := worker.Cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("stopping ended with code %d", code)
	}
}

func TestProxyReadonly(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.machine(1).etcd("ETCD_NAME=a")
	formed(t, l, 30*time.Second, []string{"a"}, 1)
	four := l.machine(4)
	four.etcd("ETCD_NAME=w", "ETCD_INITIAL_CLUSTER=a=http://10.77.0.1:2380", "ETCD_PROXY=readonly", "ETCD_PROXY_REFRESH_INTERVAL=1000")
	eventually(t, 20*time.Second, func() string { return four.has("/formed", "10.77.0.1") })
	c := four.client(four.endpoint())
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	watch := c.Watch(ctx, "/formed")
	for name, err := range map[string]error{
		"put":        second(c.Put(ctx, "/k", "v")),
		"delete":     second(c.Delete(ctx, "/formed")),
		"txn":        second(c.Txn(ctx).Then(clientv3.OpPut("/k", "v")).Commit()),
		"lease":      second(c.Grant(ctx, 60)),
		"member add": second(c.MemberAdd(ctx, []string{"http://10.77.0.9:2380"})),
		"user add":   second(c.UserAdd(ctx, "u", "p")),
	} {
		if code := status.Code(err); code != codes.PermissionDenied && rpctypes.ErrorDesc(err) == "" || err == nil || !strings.Contains(err.Error(), "only reads") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if problem := l.machine(1).put("/formed", "again"); problem != "" {
		t.Fatal(problem)
	}
	select {
	case r := <-watch:
		if r.Err() != nil || len(r.Events) != 1 || string(r.Events[0].Kv.Value) != "again" {
			t.Errorf("watch: %+v", r)
		}
	case <-ctx.Done():
		t.Error("no event through the proxy")
	}
	for _, x := range []struct {
		method, path, body string
		want               int
	}{
		{"GET", "/version", "", 200},
		{"GET", "/health", "", 200},
		{"PUT", "/v2/keys/a", "value=1", 501},
		{"POST", "/v2/keys/a", "value=1", 501},
		{"DELETE", "/v2/keys/a", "", 501},
		{"POST", "/v2/members", "{}", 501},
		{"POST", "/v3/kv/put", `{"key":"YQ==","value":"YQ=="}`, 403},
		{"POST", "/v3/kv/range", `{"key":"L2Zvcm1lZA=="}`, 200},
		{"POST", "/coracle/v1/admission", `{}`, 501},
	} {
		if code, text := four.request(x.method, four.endpoint()+x.path, x.body); code != x.want {
			t.Errorf("%s %s: %d %s, want %d", x.method, x.path, code, text, x.want)
		}
	}
}

// garbageMain answers whatever comes on the peer port with noise.
func garbageMain() int {
	l, err := net.Listen("tcp", ":2380")
	if err != nil {
		return 1
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return 1
		}
		noise := make([]byte, 1<<16)
		rand.Read(noise)
		c.SetReadDeadline(time.Now().Add(time.Second))
		c.Read(make([]byte, 1<<10)) // what is unread when a connection closes resets it
		c.Write([]byte("HTTP/1.1 200 OK\r\nX-Etcd-Cluster-ID: zz\r\n\r\n"))
		c.Write(noise)
		c.Close()
	}
}

func second(_ any, err error) error { return err }

// TestGarbage: a peer that speaks garbage is dead to the others, and garbage
// sent to a member does it no harm.
func TestGarbage(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.machine(3).start("garbage", nil)
	l.machine(1).etcd(staticCluster(3), "ETCD_REMOVE_DELAY=2s")
	l.machine(2).etcd(staticCluster(3), "ETCD_REMOVE_DELAY=2s")
	for n := 1; n <= 2; n++ {
		eventually(t, 60*time.Second, func() string { return l.machine(n).put("/g", "1") })
	}
	noise := make([]byte, 1<<16)
	rand.Read(noise)
	for _, port := range []string{"2379", "2380", "4001"} {
		for _, begin := range []string{"", "GET /raft HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "POST /raft HTTP/1.1\r\nHost: x\r\nContent-Length: 65536\r\n\r\n"} {
			c, err := l.machine(9).dial(t.Context(), "tcp", "10.77.0.1:"+port)
			if err != nil {
				t.Fatal(err)
			}
			c.Write(append([]byte(begin), noise...))
			c.Close()
		}
	}
	proxy := l.machine(4).etcd("ETCD_NAME=w", "ETCD_PROXY=on", "ETCD_INITIAL_CLUSTER=x=http://10.77.0.3:2380", "ETCD_PROXY_REFRESH_INTERVAL=500")
	proxy.says(t, 20*time.Second, "is not what an etcd member says")
	time.Sleep(3 * time.Second)
	for n := 1; n <= 2; n++ {
		if problem := l.machine(n).put("/g", "2"); problem != "" {
			t.Error(problem)
		}
	}
}
