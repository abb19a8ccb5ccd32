package proxy

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPool(t *testing.T) {
	now := time.Unix(1000, 0)
	p := newPool(5*time.Second, []string{"2379"})
	if got := newPool(0, nil).order(now); len(got) != 0 {
		t.Errorf("empty: %v", got)
	}
	skipped := p.set([]string{"http://a:2379", "http://b:2379", "https://[fd00::1]:2379", "http://127.0.0.1:2379", "http://localhost:2379", "http://127.0.0.1:9", "nothing"})
	if d := cmp.Diff([]string{"http://127.0.0.1:2379", "http://localhost:2379", "nothing"}, skipped); d != "" {
		t.Errorf("skipped:\n%s", d)
	}
	for _, want := range [][]string{
		{"a:2379", "b:2379", "[fd00::1]:2379", "127.0.0.1:9"},
		{"b:2379", "[fd00::1]:2379", "127.0.0.1:9", "a:2379"},
	} {
		if d := cmp.Diff(want, p.order(now)); d != "" {
			t.Error(d)
		}
	}
	p.fail("[fd00::1]:2379", now)
	if d := cmp.Diff([]string{"127.0.0.1:9", "a:2379", "b:2379", "[fd00::1]:2379"}, p.order(now)); d != "" {
		t.Errorf("one failed:\n%s", d)
	}
	if n := p.live(now); n != 3 {
		t.Errorf("%d live", n)
	}
	if n := p.live(now.Add(5 * time.Second)); n != 4 {
		t.Errorf("later %d live", n)
	}
}
