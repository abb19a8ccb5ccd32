package kv

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRounds lets one of five machines die, pause, lose its network or its disk
// in each round, member or not, and looks that the cluster has three living
// members again and that no acknowledged write is lost. TEST_ROUNDS and
// TEST_SEED make it longer or the same again.
func TestRounds(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	seed, rounds := uint64(time.Now().UnixNano()), 4
	if n, err := strconv.ParseUint(os.Getenv("TEST_SEED"), 10, 64); err == nil {
		seed = n
	}
	if n, err := strconv.Atoi(os.Getenv("TEST_ROUNDS")); err == nil {
		rounds = n
	}
	t.Logf("TEST_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	url := newToken(t, l, service(t, l), "")
	start := func(n int) process {
		return l.machine(n).etcd(fmt.Sprintf("ETCD_NAME=r%d", n), "ETCD_DISCOVERY="+url, "ETCD_REMOVE_DELAY=3s", "ETCD_PROXY_REFRESH_INTERVAL=1000", "ETCD_PROXY_DIAL_TIMEOUT=500")
	}
	p := map[int]process{}
	for n := 1; n <= 5; n++ {
		p[n] = start(n)
	}
	acknowledged := map[string]string{}
	write := func(to int, key string) {
		if l.machine(to).put(key, key) == "" {
			acknowledged[key] = key
		}
	}
	eventually(t, 60*time.Second, func() string { return l.machine(1).put("/begin", "x") })
	for round := range rounds {
		victim := 1 + r.IntN(5)
		other := 1 + victim%5
		write(other, fmt.Sprintf("/%d/before", round))
		what := []string{"kill", "pause", "cut", "disk"}[r.IntN(4)]
		t.Logf("round %d: %s machine %d", round, what, victim)
		switch what {
		case "kill", "disk":
			p[victim].kill()
		case "pause":
			p[victim].Cmd.Process.Signal(unix.SIGSTOP)
		case "cut":
			l.machine(victim).Plug(false)
		}
		for i := range 5 {
			write(other, fmt.Sprintf("/%d/%d", round, i))
		}
		eventually(t, 90*time.Second, func() string { return l.three(other, victim) })
		write(other, fmt.Sprintf("/%d/after", round))
		switch what {
		case "disk":
			if err := os.RemoveAll(filepath.Join(l.machine(victim).dir, "member")); err != nil {
				t.Fatal(err)
			}
			fallthrough
		case "kill":
			p[victim] = start(victim)
		case "pause":
			p[victim].Cmd.Process.Signal(unix.SIGCONT)
		case "cut":
			l.machine(victim).Plug(true)
		}
		eventually(t, 90*time.Second, func() string { return l.three(other, 0) })
		eventually(t, 60*time.Second, func() string { return l.machine(victim).put("/back", fmt.Sprint(round)) })
	}
	for n := 1; n <= 5; n++ {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		c := l.machine(n).client(l.machine(n).endpoint())
		for key := range acknowledged {
			resp, err := c.Get(ctx, key)
			if err != nil || len(resp.Kvs) != 1 {
				t.Errorf("machine %d: %s: %v, %v: an acknowledged write is lost", n, key, resp, err)
			}
		}
		cancel()
	}
	if len(acknowledged) < rounds {
		t.Errorf("only %d writes were acknowledged", len(acknowledged))
	}
}

// three says what is missing to a cluster of three members as machine at sees
// it, without the one that is down.
func (l *network) three(at, down int) string {
	names, problem := l.machine(at).voters()
	switch {
	case problem != "":
		return problem
	case len(names) != 3, down > 0 && slices.Contains(names, fmt.Sprintf("r%d", down)):
		return fmt.Sprintf("the members are %v", names)
	}
	return ""
}
