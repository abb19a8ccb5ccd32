package v2_test

import (
	"encoding/json"
	"io"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// counts is /v2/stats/store as distances from before.
func (s *side) counts(t *testing.T, before map[string]int64) map[string]int64 {
	t.Helper()
	resp, err := s.client.Get(s.url + "/v2/stats/store")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var out map[string]int64
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		t.Fatal(err)
	}
	for name, n := range before {
		out[name] -= n
	}
	return out
}

// TestStoreStats sends requests one by one and compares which counter of
// /v2/stats/store each moves in etcd 3.4 and in ours.
func TestStoreStats(t *testing.T) {
	b := newBoth(t)
	for _, o := range []op{
		{"GET", "/none", nil, false}, {"GET", "/", nil, false}, {"GET", "/none", url.Values{"quorum": {"true"}}, false},
		{"PUT", "/s", url.Values{"value": {"1"}}, true}, {"PUT", "/s", url.Values{"value": {"2"}}, true}, {"PUT", "/s/below", url.Values{"value": {"2"}}, true},
		{"GET", "/s", nil, false}, {"GET", "/s", url.Values{"quorum": {"true"}}, false}, {"HEAD", "/s", nil, false},
		{"PUT", "/s", url.Values{"value": {"3"}, "prevExist": {"false"}}, true}, {"PUT", "/c", url.Values{"value": {"3"}, "prevExist": {"false"}}, true},
		{"PUT", "/s", url.Values{"value": {"3"}, "prevExist": {"true"}}, true}, {"PUT", "/n", url.Values{"value": {"3"}, "prevExist": {"true"}}, true},
		{"PUT", "/s", url.Values{"value": {"4"}, "prevValue": {"3"}}, true}, {"PUT", "/s", url.Values{"value": {"4"}, "prevValue": {"3"}}, true},
		{"PUT", "/n", url.Values{"value": {"4"}, "prevValue": {"3"}}, true}, {"PUT", "/s", url.Values{"value": {"4"}, "prevIndex": {"1"}}, true},
		{"PUT", "/s", url.Values{"ttl": {"100"}, "refresh": {"true"}, "prevExist": {"true"}}, true}, {"PUT", "/s", url.Values{"ttl": {"100"}, "refresh": {"true"}}, true},
		{"PUT", "/n", url.Values{"ttl": {"100"}, "refresh": {"true"}}, true}, {"PUT", "/s", url.Values{"ttl": {"100"}, "refresh": {"true"}, "prevValue": {"4"}}, true},
		{"POST", "/q", url.Values{"value": {"1"}}, true}, {"POST", "/s", url.Values{"value": {"1"}}, true}, {"PUT", "/q", url.Values{"value": {"1"}}, true},
		{"PUT", "/d", url.Values{"dir": {"true"}}, true}, {"PUT", "/d", url.Values{"dir": {"true"}}, true}, {"PUT", "/d", url.Values{"dir": {"true"}, "prevExist": {"true"}, "ttl": {"90"}}, true},
		{"PUT", "/", url.Values{"value": {"1"}}, true}, {"DELETE", "/", nil, false},
		{"PUT", "/", url.Values{"value": {"1"}, "prevExist": {"true"}}, true}, {"PUT", "/", url.Values{"value": {"1"}, "prevExist": {"false"}}, true}, {"PUT", "/", url.Values{"value": {"1"}, "prevValue": {"x"}}, true},
		{"DELETE", "/", url.Values{"prevValue": {"4"}}, false}, {"DELETE", "/", url.Values{"recursive": {"true"}}, false},
		{"PUT", "/s/x", url.Values{"value": {"1"}, "prevExist": {"false"}}, true}, {"PUT", "/s/x", url.Values{"value": {"1"}, "prevExist": {"true"}}, true},
		{"PUT", "/s/x", url.Values{"value": {"1"}, "prevValue": {"x"}}, true}, {"POST", "/s/x", url.Values{"value": {"1"}}, true}, {"POST", "/", url.Values{"value": {"1"}}, true},
		{"DELETE", "/s/x", nil, false}, {"DELETE", "/s/x", url.Values{"prevValue": {"x"}}, false}, {"GET", "/s/x", nil, false}, {"PUT", "/d", url.Values{"value": {"1"}, "prevExist": {"true"}}, true},
		{"PUT", "/d", url.Values{"value": {"1"}, "prevValue": {"x"}}, true}, {"DELETE", "/d", url.Values{"prevIndex": {"1"}}, false}, {"DELETE", "/s", url.Values{"prevIndex": {"1"}}, false},
		{"DELETE", "/n", nil, false}, {"DELETE", "/d", nil, false}, {"DELETE", "/s", url.Values{"prevValue": {"x"}}, false}, {"DELETE", "/s", url.Values{"prevValue": {"4"}}, false},
		{"DELETE", "/n", url.Values{"prevValue": {"4"}}, false}, {"DELETE", "/q", url.Values{"prevValue": {"4"}}, false}, {"DELETE", "/q", url.Values{"recursive": {"true"}}, false}, {"DELETE", "/d", url.Values{"dir": {"true"}}, false},
		{"PUT", "/c", url.Values{"value": {"1"}}, true}, {"DELETE", "/c", nil, false},
	} {
		var moved [2]map[string]int64
		for i, s := range b {
			before := s.counts(t, nil)
			resp, err := s.open(o)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			moved[i] = s.counts(t, before)
			if i == 1 {
				moved[i]["getsFail"]-- // its own look for whether there are users
			}
			for name, n := range moved[i] {
				if n == 0 {
					delete(moved[i], name)
				}
			}
		}
		if diff := cmp.Diff(moved[1], moved[0]); diff != "" {
			t.Errorf("%s: etcd 3.4 (-) and ours (+): %s", o, diff)
		}
	}
}
