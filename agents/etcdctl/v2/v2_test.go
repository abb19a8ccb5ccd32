package v2

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/program"
)

func freeURL(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

// server is Debian's etcd 3.4 with its API v2.
func server(t *testing.T) string {
	t.Helper()
	client, peer := freeURL(t), freeURL(t)
	cmd := exec.Command("etcd", "--enable-v2", "--unsafe-no-fsync", "--name=m1", "--data-dir="+t.TempDir(), "--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=m1="+peer)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if r, err := http.Get(client + "/v2/members/leader"); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return client
			}
		}
		if time.Now().After(end) {
			t.Fatalf("etcd does not answer:\n%s", &log)
		}
	}
}

type outcome struct {
	code     int
	out, err string
}

func ours(t *testing.T, url, in string, args ...string) outcome {
	t.Helper()
	var out, stderr bytes.Buffer
	env := func(name string) string { return map[string]string{"ETCDCTL_ENDPOINTS": url}[name] }
	code := Main(t.Context(), args, env, program.Stdio{In: strings.NewReader(in), Out: &out, Err: &stderr})
	return outcome{code, out.String(), stderr.String()}
}

func theirs(t *testing.T, url, in string, args ...string) outcome {
	t.Helper()
	cmd := exec.Command("etcdctl", args...)
	cmd.Env = []string{"ETCDCTL_API=2", "ETCDCTL_ENDPOINTS=" + url}
	var out, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in), &out, &stderr
	_ = cmd.Run()
	return outcome{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// indexes differ from one call to the next.
var indexes = regexp.MustCompile(`(?m)\[\d+\]$|ndex: \d+$|ndex":\d+|/\d{20}\b`)

// TestAsUpstream runs the same commands with etcdctl of Debian's etcd 3.4.
func TestAsUpstream(t *testing.T) {
	url := server(t)
	for _, line := range []string{
		"set /P/a one", "get /P/a", "set /P/a two --ttl 100", "set /P/a three --swap-with-value two", "set /P/a four --swap-with-value two",
		"set /P/none x --swap-with-value two", "get /P/none", "get /P", "mk /P/a five", "mk /P/b six", "mk --in-order /P/queue job",
		"update /P/b seven", "update /P/none seven", "mkdir /P/d", "mkdir /P/d", "setdir /P/e", "updatedir /P/d --ttl 100", "updatedir /P/none --ttl 1",
		"set /P/d/x 1", "set /P/d/y/z 2", "set /P/_hidden h", "ls --sort /P", "ls --sort -p /P", "ls --recursive --sort /P", "ls /P/a", "ls /P/none",
		"-o extended get /P/b", "-o json get /P/b", "-o json set /P/b eight", "rm /P/d", "rm --dir /P/d", "rmdir /P/d", "rm --recursive /P/d", "rm /P/b",
		"rm /P/a --with-value one", "rm /P/a --with-value three", "rm /P/none", "rmdir /P/e", "set /P/late", "get", "set /P/in",
		"watch /P/w --after-index 1", "cluster-health", "member list", "--no-sync get /P/in",
	} {
		in := ""
		if line == "set /P/in" {
			in = "from stdin\n"
		}
		if strings.HasPrefix(line, "watch") {
			for _, p := range []string{"o", "t"} {
				ours(t, url, "", "set", "/"+p+"/w", "seen")
			}
		}
		args := func(prefix string) []string { return strings.Fields(strings.ReplaceAll(line, "/P", "/"+prefix)) }
		a, b := ours(t, url, in, args("o")...), theirs(t, url, in, args("t")...)
		plain := func(s, prefix string) string {
			return indexes.ReplaceAllString(strings.ReplaceAll(s, "/"+prefix+"/", "/P/"), "N")
		}
		if got, want := plain(a.out, "o"), plain(b.out, "t"); got != want {
			t.Errorf("%s\nprints  %q\nupstream %q", line, got, want)
		}
		if a.code != b.code {
			t.Errorf("%s: exit code %d, upstream %d (%s, upstream %s)", line, a.code, b.code, a.err, b.err)
		}
		if got, want := plain(a.err, "o"), plain(b.err, "t"); got != want && strings.HasPrefix(want, "Error:  1") {
			t.Errorf("%s\nsays    %q\nupstream %q", line, got, want)
		}
	}
}

func TestWatchForever(t *testing.T) {
	url := server(t)
	for _, value := range []string{"1", "2"} {
		ours(t, url, "", "set", "/w/k", value)
	}
	ours(t, url, "", "rm", "/w/k")
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"watch", "--forever", "--recursive", "--after-index", "1", "/w"},
			"[set] /w/k\n1\n[set] /w/k\n2\n[delete] /w/k\nPrevNode.Value: 2\n"},
		{[]string{"exec-watch", "--recursive", "--after-index", "1", "/w", "--", "/bin/sh", "-c", "echo $ETCD_WATCH_ACTION:$ETCD_WATCH_KEY:$ETCD_WATCH_VALUE"},
			"set:/w/k:1\nset:/w/k:2\ndelete:/w/k:\n"},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		out := &enough{want: test.want, stop: cancel}
		limit := time.AfterFunc(20*time.Second, cancel)
		env := func(name string) string { return map[string]string{"ETCDCTL_ENDPOINTS": url}[name] }
		Main(ctx, test.args, env, program.Stdio{In: strings.NewReader(""), Out: out, Err: io.Discard})
		limit.Stop()
		cancel()
		if got := out.String(); got != test.want {
			t.Errorf("%q: %q, want %q", test.args, got, test.want)
		}
	}
}

// enough stops the program when it has printed what is wanted. It must not have
// the buffer's own ReadFrom, which copies past Write.
type enough struct {
	out  bytes.Buffer
	want string
	stop func()
}

func (e *enough) String() string { return e.out.String() }

func (e *enough) Write(p []byte) (int, error) {
	n, err := e.out.Write(p)
	if e.out.Len() >= len(e.want) {
		e.stop()
	}
	return n, err
}

func TestMine(t *testing.T) {
	for line, want := range map[string]bool{
		"set /a b": true, "ls": true, "--no-sync get /a": true, "-C http://a get /a": true, "get /a": false, "put /a b": false,
		"--endpoints=http://a ls /": true, "--endpoints http://a mkdir /a": true, "--endpoints http://a get ls": false,
		"member list": false, "watch /a": false, "cluster-health": true, "-- set": false, "": false, "get set": false,
		"user list": false, "user add u": false, "user remove u": true, "role grant r --path /a --read": true, "role grant-permission r read /a": false, "backup --data-dir /d": true,
	} {
		if got := Mine(strings.Fields(line), ""); got != want {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
		if !Mine(strings.Fields(line), "2") || Mine(strings.Fields(line), "3") {
			t.Errorf("%q: ETCDCTL_API does not decide", line)
		}
	}
}
