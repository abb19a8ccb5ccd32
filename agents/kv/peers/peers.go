// Package peers asks etcd members over their peer ports who the members of
// their cluster are. It is for what must know that before or without being a
// member: the proxy, a machine that wants to join, one whose member was
// removed, and for the leader, which takes an answer as the sign of life.
//
// The specification is etcd's own handler of /members on the peer port, which
// answers from the member's local state.
package peers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Member is one member as another one sees it.
type Member struct {
	ID         uint64   `json:"id"`
	Name       string   `json:"name"` // empty until it has started
	PeerURLs   []string `json:"peerURLs"`
	ClientURLs []string `json:"clientURLs"`
	Learner    bool     `json:"isLearner"`
}

// Cluster is one member's view.
type Cluster struct {
	ID      uint64
	Members []Member
}

// Ask asks the member at a peer URL. An answer that is not a member's is an
// error that quotes it.
func Ask(ctx context.Context, client *http.Client, peerURL string) (Cluster, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(peerURL, "/")+"/members", nil)
	if err != nil {
		return Cluster{}, fmt.Errorf("ask the member at %q: %w", peerURL, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return Cluster{}, fmt.Errorf("ask the member at %q: %w", peerURL, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return Cluster{}, fmt.Errorf("read the answer of %q: %w", peerURL, err)
	}
	c := Cluster{}
	id, iderr := strconv.ParseUint(resp.Header.Get("X-Etcd-Cluster-ID"), 16, 64)
	if err := json.Unmarshal(text, &c.Members); err != nil || iderr != nil || len(c.Members) == 0 {
		return Cluster{}, fmt.Errorf("read the answer of %q: status %d, %.60q is not what an etcd member says", peerURL, resp.StatusCode, text)
	}
	c.ID = id
	return c, nil
}

// AskAny asks one URL after the other and takes the first answer.
func AskAny(ctx context.Context, client *http.Client, peerURLs []string) (Cluster, error) {
	var problems []error
	for _, u := range peerURLs {
		c, err := Ask(ctx, client, u)
		if err == nil {
			return c, nil
		}
		problems = append(problems, err)
	}
	if len(problems) == 0 {
		return Cluster{}, errors.New("ask the members: no peer URL is known")
	}
	return Cluster{}, errors.Join(problems...)
}

// AskAll asks all URLs and gives the answers that came.
func AskAll(ctx context.Context, client *http.Client, peerURLs []string) []Cluster {
	answers := make(chan Cluster, len(peerURLs))
	for _, u := range peerURLs {
		go func() {
			c, _ := Ask(ctx, client, u)
			answers <- c
		}()
	}
	var out []Cluster
	for range peerURLs {
		if c := <-answers; c.ID != 0 {
			out = append(out, c)
		}
	}
	return out
}

// Removed reports whether a majority of the members of a cluster say that the
// member id is not one of them: fewer could be those that missed its arrival.
func Removed(answers []Cluster, cluster, id uint64) bool {
	without := 0
	size := 0
	for _, c := range answers {
		if c.ID != cluster || slices.ContainsFunc(c.Members, func(m Member) bool { return m.ID == id }) {
			continue
		}
		without++
		size = max(size, len(c.Members))
	}
	return without > size/2
}

// PeerURLs are the peer URLs of all members, and ClientURLs the client URLs.
func (c Cluster) PeerURLs() []string {
	return c.urls(func(m Member) []string { return m.PeerURLs })
}

// ClientURLs are the client URLs of all members.
func (c Cluster) ClientURLs() []string {
	return c.urls(func(m Member) []string { return m.ClientURLs })
}

func (c Cluster) urls(of func(Member) []string) []string {
	var out []string
	for _, m := range c.Members {
		out = append(out, of(m)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
