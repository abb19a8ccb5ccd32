package bench

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

func version3(s *server) *clientv3.Client {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.client}, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		s.b.Fatal(err)
	}
	s.b.Cleanup(func() { c.Close() })
	return c
}

func writers3(s *server) load {
	c := version3(s)
	return func(until time.Time) (int, error) {
		return together(clients, until, func(who, n int) error {
			_, err := c.Put(context.Background(), key(who*keys/clients+n), value)
			return err
		})
	}
}

func readers3(s *server) load {
	c := version3(s)
	for n := range keys {
		if _, err := c.Put(context.Background(), key(n), value); err != nil {
			s.b.Fatal(err)
		}
	}
	return func(until time.Time) (int, error) {
		return together(clients, until, func(who, n int) error {
			r, err := c.Get(context.Background(), key(who*keys/clients+n))
			if err == nil && len(r.Kvs) != 1 {
				err = errors.New("a key is missing")
			}
			return err
		})
	}
}

// BenchmarkV3 compares version 3's API with upstream's own program. With version
// 2 in use, its view of the keyspace follows every write.
func BenchmarkV3(b *testing.B) {
	our, their := ours(b), upstream(b)
	use := func(s *server) {
		if _, err := s.get("/v2/keys/"); err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range []struct {
		name    string
		load    func(*server) load
		prepare func(ours *server)
	}{
		{"put", writers3, func(*server) {}},
		{"get", readers3, func(*server) {}},
		{"put-with-v2-in-use", writers3, use},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				dir := b.TempDir()
				a := single(b, our, filepath.Join(dir, "ours"), "--unsafe-no-fsync")
				z := single(b, their, filepath.Join(dir, "theirs"), "--unsafe-no-fsync")
				c.prepare(a)
				compare(b, side{a, c.load(a)}, side{z, c.load(z)})
				a.kill()
				z.kill()
			}
		})
	}
}

// idle is how long a member is left alone before its memory is looked at.
const idle = 10 * time.Second

// BenchmarkMemory compares the memory of members that nobody uses.
func BenchmarkMemory(b *testing.B) {
	our, their := ours(b), upstream(b)
	for b.Loop() {
		dir := b.TempDir()
		a := single(b, our, filepath.Join(dir, "ours"))
		z := single(b, their, filepath.Join(dir, "theirs"))
		time.Sleep(idle)
		x, y := a.memory(), z.memory()
		for _, part := range []string{"Rss", "Pss", "Anonymous"} {
			b.ReportMetric(x[part]/(1<<20), "ours-"+part+"-MiB")
			b.ReportMetric(y[part]/(1<<20), "theirs-"+part+"-MiB")
			b.ReportMetric(x[part]/y[part], part+"-ratio")
		}
		b.ReportMetric(0, "ns/op")
		a.kill()
		z.kill()
	}
}
