// Package admission is how a machine without data asks the members of a
// running etcd cluster to become one of them: a machine with `join` in its
// cloud-config, one beyond the size of a discovery token, one whose member was
// removed. It is an addition of Coracle and follows no specification: one POST
// of JSON to Path on a member's client port, repeated until the answer is
// Admitted.
//
// Both sides prove that they know the cluster's join token with an HMAC-SHA256
// over the text, and the answer's covers a number that the machine chose. This
// keeps out machines that do not know the token, and keeps a machine from
// joining a stranger. Admission does not hide anything and does not keep somebody
// who can read the traffic from sending a request again: that one only names the
// machine and addresses it was made for, which must still be nobody's. No clock
// is part of it.
//
// A machine without the cluster's authority gets it before it can speak TLS, by
// Fetch, sealed to a key that it made for this one request: see authority.go.
package admission

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Path is where members listen for requests, on their client ports.
const Path = "/coracle/v1/admission"

const (
	proofHeader = "Coracle-Proof"
	limit       = 64 << 10
)

// Request is what a machine asks with.
type Request struct {
	Name     string   `json:"name"`
	PeerURLs []string `json:"peerURLs"`
	Nonce    string   `json:"nonce"` // hexadecimal, new for each request
	// OnlyAdded asks not to become a candidate, and to be admitted only when the
	// owner has added a member at the peer URLs.
	OnlyAdded bool `json:"onlyAdded,omitempty"`
}

// State is a member's answer in a word.
type State string

// The answers.
const (
	Admitted State = "admitted" // start a member with InitialCluster
	Waiting  State = "waiting"  // ask again later
	Ask      State = "ask"      // another member: the leader is at Clients
	Refused  State = "refused"  // see Reason; asking again helps when that has changed
)

// Answer is what a member says.
type Answer struct {
	State          State    `json:"state"`
	Reason         string   `json:"reason,omitempty"`
	InitialCluster string   `json:"initialCluster,omitempty"`
	Size           int      `json:"size,omitempty"`
	Clients        []string `json:"clients,omitempty"` // where to ask next
	Peers          []string `json:"peers,omitempty"`   // peer URLs of all members
}

// ErrToken is inside the errors about a token that the other side does not
// share.
var ErrToken = errors.New("the join tokens differ")

// Send asks the member at a client URL.
func Send(ctx context.Context, client *http.Client, clientURL, token string, r Request) (Answer, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return Answer{}, fmt.Errorf("ask %s for admission: %w", clientURL, err)
	}
	text, err := post(ctx, client, strings.TrimRight(clientURL, "/")+Path, token, r.Nonce, body)
	if err != nil {
		return Answer{}, fmt.Errorf("ask %s for admission: %w", clientURL, err)
	}
	var a Answer
	if err := json.Unmarshal(text, &a); err != nil {
		return Answer{}, fmt.Errorf("read the answer of %s: %w", clientURL, err)
	}
	return a, nil
}

// post sends a text with its proof and gives the text of the answer, which has
// proved that it is one to this nonce.
func post(ctx context.Context, client *http.Client, address, token, nonce string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(proofHeader, proof(token, purposeOf(req.URL.Path), body))
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the answer: %w", err)
	case resp.StatusCode == http.StatusForbidden:
		return nil, fmt.Errorf("it says %.200q: %w", text, ErrToken)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("status %d, %.80q is not what a member of Coracle says", resp.StatusCode, text)
	case !hmac.Equal([]byte(resp.Header.Get(proofHeader)), []byte(proof(token, "answer "+nonce, text))):
		return nil, fmt.Errorf("its answer does not prove that it knows the token: %w", ErrToken)
	}
	return text, nil
}

// Handler answers requests that prove to know the token with what decide says.
// With an empty token everybody is refused.
func Handler(token string, decide func(context.Context, Request) Answer) http.Handler {
	return handler(token, func(ctx context.Context, body []byte) (string, any, error) {
		var r Request
		err := json.Unmarshal(body, &r)
		if err == nil {
			err = r.check()
		}
		if err != nil {
			return "", nil, err
		}
		return r.Nonce, decide(ctx, r), nil
	})
}

// handler lets those requests through to answer that prove to know the token.
// answer gives the request's nonce and what is sent; its error is the fault of
// the machine that asks.
func handler(token string, answer func(context.Context, []byte) (nonce string, value any, err error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
		switch {
		case err != nil:
			http.Error(w, "the request is too long or broke off", http.StatusRequestEntityTooLarge)
			return
		case token == "":
			http.Error(w, "this member admits nobody: set ETCD_JOIN_TOKEN on all machines of the cluster", http.StatusForbidden)
			return
		case !hmac.Equal([]byte(r.Header.Get(proofHeader)), []byte(proof(token, purposeOf(r.URL.Path), body))):
			http.Error(w, "ETCD_JOIN_TOKEN of the machine that asks is not this cluster's", http.StatusForbidden)
			return
		}
		nonce, value, err := answer(r.Context(), body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		text, err := json.Marshal(value)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set(proofHeader, proof(token, "answer "+nonce, text))
		w.Write(text)
	})
}

// check refuses what could not be written into an initial cluster.
func (r Request) check() error {
	if r.Name == "" || strings.ContainsAny(r.Name, "=,\n") || len(r.PeerURLs) == 0 || len(r.Nonce) < 16 {
		return fmt.Errorf("read the request: the name %q, the peer URLs or the nonce are missing or odd", r.Name)
	}
	for _, text := range r.PeerURLs {
		u, err := url.Parse(text)
		if err != nil || !slices.Contains([]string{"http", "https"}, u.Scheme) || u.Hostname() == "" || u.Port() == "" || u.Path != "" {
			return fmt.Errorf("read the request: %q is not a peer URL", text)
		}
	}
	return nil
}

// purposeOf keeps the requests of the two paths apart.
func purposeOf(path string) string {
	if strings.HasSuffix(path, AuthorityPath) {
		return "authority request"
	}
	return "request"
}

// proof is the HMAC of a text with a purpose, so that a request is never an
// answer.
func proof(token, purpose string, text []byte) string {
	mac := hmac.New(sha256.New, []byte(token))
	fmt.Fprintf(mac, "coracle admission %s\n", purpose)
	mac.Write(text)
	return hex.EncodeToString(mac.Sum(nil))
}
