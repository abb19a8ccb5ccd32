package peers

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func at(t *testing.T, id, body string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/members" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("X-Etcd-Cluster-ID", id)
		io.WriteString(w, body)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

const two = `[{"id":1,"peerURLs":["http://a:2380"],"name":"a","clientURLs":["http://a:2379"]},{"id":2,"peerURLs":["http://b:2380"],"isLearner":true}]`

func TestAsk(t *testing.T) {
	good := at(t, "abc", two)
	want := Cluster{ID: 0xabc, Members: []Member{
		{ID: 1, Name: "a", PeerURLs: []string{"http://a:2380"}, ClientURLs: []string{"http://a:2379"}},
		{ID: 2, PeerURLs: []string{"http://b:2380"}, Learner: true},
	}}
	got, err := Ask(t.Context(), http.DefaultClient, good+"/")
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
	if d := cmp.Diff([]string{"http://a:2380", "http://b:2380"}, got.PeerURLs()); d != "" {
		t.Error(d)
	}
	bad := []string{at(t, "abc", "[]"), at(t, "abc", "garbage"), at(t, "no number", two), at(t, "", two), "http://127.0.0.1:1", "::"}
	for _, u := range bad {
		if c, err := Ask(t.Context(), http.DefaultClient, u); err == nil {
			t.Errorf("%s: %+v", u, c)
		}
	}
	if got, err := AskAny(t.Context(), http.DefaultClient, append(bad, good)); err != nil || got.ID != 0xabc {
		t.Errorf("any: %+v, %v", got, err)
	}
	if _, err := AskAny(t.Context(), http.DefaultClient, nil); err == nil || !strings.Contains(err.Error(), "no peer URL is known") {
		t.Errorf("nobody: %v", err)
	}
	if got := AskAll(t.Context(), http.DefaultClient, append(bad, good, good)); len(got) != 2 {
		t.Errorf("all: %+v", got)
	}
}

func TestRemoved(t *testing.T) {
	view := func(cluster uint64, ids ...uint64) Cluster {
		c := Cluster{ID: cluster}
		for _, id := range ids {
			c.Members = append(c.Members, Member{ID: id})
		}
		return c
	}
	for _, c := range []struct {
		name    string
		answers []Cluster
		want    bool
	}{
		{"nobody answers", nil, false},
		{"all have it", []Cluster{view(9, 1, 2, 3), view(9, 1, 2, 3)}, false},
		{"a majority without it", []Cluster{view(9, 2, 3), view(9, 2, 3)}, true},
		{"one of two without it", []Cluster{view(9, 2, 3)}, false},
		{"one lags behind", []Cluster{view(9, 2, 3, 4), view(9, 1, 2, 3)}, false},
		{"two of three", []Cluster{view(9, 2, 3, 4), view(9, 2, 3, 4), view(9, 1, 2, 3)}, true},
		{"the one that is left", []Cluster{view(9, 2)}, true},
		{"another cluster", []Cluster{view(8, 2), view(8, 2)}, false},
	} {
		if got := Removed(c.answers, 9, 1); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
