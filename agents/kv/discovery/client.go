package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
)

// ErrRefused is inside the errors that trying again does not help against.
var ErrRefused = errors.New("the discovery token cannot be used")

// Config is what forming through a token needs.
type Config struct {
	URL  string // the token's: http(s)://HOST/TOKEN
	HTTP *http.Client
	Self Self
	// Observe waits for the cluster without registering, as a proxy does.
	Observe bool
	// Note is called with true before this machine registers and with false
	// when it has withdrawn; what it keeps is Self.Noted after a restart.
	Note func(registered bool) error
	// Tell is given each new step and each failure; failure says which.
	Tell func(text string, failure bool)
	// Pauses after failures begin with a second, or MaxPause if that is less,
	// and double up to MaxPause.
	MaxPause time.Duration
}

// Result is how forming ended.
type Result struct {
	Full           bool // the cluster is complete without this machine
	Size           int
	InitialCluster string
	Reason         string
}

// Run registers this machine and returns when the cluster is complete, with or
// without it. It tries for as long as the service cannot be reached or answers
// nonsense; an error has ErrRefused inside unless ctx ended.
func Run(ctx context.Context, c Config) (Result, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || strings.Trim(u.Path, "/") == "" {
		return Result{}, fmt.Errorf("read the discovery URL %q: it must be http(s)://HOST/TOKEN: %w", c.URL, ErrRefused)
	}
	first := min(time.Second, c.MaxPause)
	r := runner{Config: c, url: u, pause: first}
	for {
		result, done, err := r.turn(ctx)
		switch {
		case ctx.Err() != nil:
			return Result{}, ctx.Err()
		case errors.Is(err, ErrRefused):
			return Result{}, err
		case err != nil:
			r.Tell(fmt.Sprintf("%v; trying again in %v", err, r.pause), true)
			select {
			case <-ctx.Done():
				return Result{}, ctx.Err()
			case <-time.After(r.pause):
			}
			r.pause = min(2*r.pause, c.MaxPause)
		case done:
			return result, nil
		default:
			r.pause = first
		}
	}
}

type runner struct {
	Config
	url   *url.URL
	pause time.Duration
	told  string
	// unclear says that a registration was sent and its answer never came.
	unclear bool
}

// turn reads the token once and does one step.
func (r *runner) turn(ctx context.Context) (Result, bool, error) {
	registry, err := r.read(ctx)
	if err != nil {
		return Result{}, false, err
	}
	step := Decide(registry, r.Self)
	if r.Observe && step.Do != Full && step.Do != Form {
		step = Step{Do: Wait, Reason: step.Reason + "; this machine waits for their cluster"}
	}
	if text := fmt.Sprintf("discovery: %s: %s", step.Do, step.Reason); text != r.told {
		r.told = text
		r.Tell(text, false)
	}
	switch step.Do {
	case Register:
		return Result{}, false, r.register(ctx)
	case Wait:
		return Result{}, false, r.watch(ctx, registry.Index+1)
	case Withdraw:
		if err := r.withdraw(ctx); err != nil {
			return Result{}, false, err
		}
		fallthrough
	case Refuse:
		return Result{}, false, fmt.Errorf("use %s: %s: %w", r.url, step.Reason, ErrRefused)
	}
	return Result{Full: step.Do == Full, Size: registry.Size, InitialCluster: step.InitialCluster, Reason: step.Reason}, true, nil
}

type node struct {
	Key     string `json:"key"`
	Value   string `json:"value"`
	Dir     bool   `json:"dir"`
	Nodes   []node `json:"nodes"`
	Created uint64 `json:"createdIndex"`
}

// answer is etcd's, of a success or of an error.
type answer struct {
	status  int
	index   uint64
	Node    *node  `json:"node"`
	Code    int    `json:"errorCode"`
	Message string `json:"message"`
}

func (r *runner) read(ctx context.Context) (Registry, error) {
	a, err := r.do(ctx, http.MethodGet, "/_config/size", nil, nil)
	if err != nil {
		return Registry{}, err
	}
	if a.status == http.StatusNotFound {
		return Registry{}, fmt.Errorf("read %s: the service does not know this token (size key not found); make a new one with /new?size=N: %w", r.url, ErrRefused)
	}
	if a.Node == nil {
		return Registry{}, r.odd("GET", a)
	}
	size, err := strconv.Atoi(a.Node.Value)
	if err != nil {
		return Registry{}, fmt.Errorf("read %s: the token's size %q is not a number (size key is bad); make a new one with /new?size=N: %w", r.url, a.Node.Value, ErrRefused)
	}
	a, err = r.do(ctx, http.MethodGet, "", nil, nil)
	if err != nil {
		return Registry{}, err
	}
	if a.Node == nil {
		return Registry{}, r.odd("GET", a)
	}
	out := Registry{Size: size, Index: a.index}
	for _, n := range a.Node.Nodes {
		if id := path.Base(n.Key); id != "_config" && !n.Dir {
			out.Entries = append(out.Entries, Entry{ID: id, Value: n.Value, Created: n.Created})
		}
	}
	return out, nil
}

func (r *runner) register(ctx context.Context) error {
	if err := r.Note(true); err != nil {
		return fmt.Errorf("note the registration: %w", err)
	}
	r.Self.Noted = true
	a, err := r.do(ctx, http.MethodPut, "/"+r.Self.ID, url.Values{"prevExist": {"false"}}, url.Values{"value": {r.Self.Value}})
	switch {
	case err != nil:
		r.unclear = true
		return err
	case a.status == http.StatusCreated:
		return nil
	case a.Code == 105 && r.unclear: // most likely this machine's own, unanswered before
		return nil
	case a.Code == 105: // another machine was faster
		r.Self.Noted = false
		return r.Note(false)
	}
	return r.odd("PUT", a)
}

func (r *runner) withdraw(ctx context.Context) error {
	a, err := r.do(ctx, http.MethodDelete, "/"+r.Self.ID, nil, nil)
	if err != nil {
		return err
	}
	if a.status/100 != 2 && a.status != http.StatusNotFound {
		return r.odd("DELETE", a)
	}
	r.Self.Noted = false
	return r.Note(false)
}

// watch returns at the next change below the token, at the latest after some
// minutes: a lost connection must not keep the machine waiting.
func (r *runner) watch(ctx context.Context, index uint64) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	q := url.Values{"wait": {"true"}, "recursive": {"true"}, "waitIndex": {strconv.FormatUint(index, 10)}}
	_, err := r.do(ctx, http.MethodGet, "", q, nil)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil
	}
	return err
}

// do does one request below the token. Statuses of 500 and more, and answers
// that are not etcd's, are errors.
func (r *runner) do(ctx context.Context, method, below string, query, form url.Values) (answer, error) {
	if query.Get("wait") == "" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
	}
	u := *r.url
	u.Path = strings.TrimRight(u.Path, "/") + below
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return answer{}, fmt.Errorf("ask %s: %w", &u, err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := r.HTTP.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("reach the discovery service: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return answer{}, fmt.Errorf("read the answer of %s: %w", &u, err)
	}
	a := answer{status: resp.StatusCode}
	if len(text) == 0 && query.Get("wait") != "" {
		return a, nil // the service ended the watch
	}
	if err := json.Unmarshal(text, &a); err != nil || (a.Node == nil && a.Code == 0) {
		return answer{}, fmt.Errorf("read the answer of %s: status %d, %.80q is not what a discovery service says (bad discovery endpoint)", &u, resp.StatusCode, text)
	}
	a.index, _ = strconv.ParseUint(resp.Header.Get("X-Etcd-Index"), 10, 64)
	if a.status >= 500 {
		return answer{}, r.odd(method, a)
	}
	return a, nil
}

func (r *runner) odd(method string, a answer) error {
	return fmt.Errorf("%s %s: status %d, %d %s", method, r.url, a.status, a.Code, a.Message)
}
