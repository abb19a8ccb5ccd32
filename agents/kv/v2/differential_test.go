package v2_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// setting is a number from the environment: V2_OPERATIONS, V2_SEED.
func setting(t *testing.T, name string, otherwise int64) int64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestDifferential sends the same random requests to etcd 3.4 and to ours and
// wants the same answers and the same events.
func TestDifferential(t *testing.T) {
	seed := setting(t, "V2_SEED", time.Now().UnixNano())
	operations := int(setting(t, "V2_OPERATIONS", 3000))
	t.Logf("V2_SEED=%d V2_OPERATIONS=%d", seed, operations)
	d := &differential{t: t, random: rand.New(rand.NewPCG(uint64(seed), 0)),
		sides: [2]*side{newSide(t, ours(t)), newSide(t, theirs(t))}, seen: map[string]seen{}}
	for d.n = range operations {
		if d.random.IntN(25) == 0 && len(d.watches) < 12 {
			d.watch(d.newWatch())
		} else {
			d.do(d.newOp())
		}
		if d.n%50 == 49 {
			d.checkWatches()
		}
		if d.n%200 == 199 {
			d.do(op{method: "GET", key: "/", params: url.Values{"recursive": {"true"}, "sorted": {"true"}}})
		}
	}
	d.checkWatches()
	t.Logf("%d requests, %d of them watches, %d events seen by watches; by status %v; by action %v",
		operations, d.watched, d.events, d.statuses, d.actions)
}

// seen is what an answer told of a key.
type seen struct {
	value string
	index int64
}

type differential struct {
	t       *testing.T
	random  *rand.Rand
	sides   [2]*side // ours, theirs
	n       int
	last    int64 // the relative index
	seen    map[string]seen
	orders  []string // in-order keys
	files   []string // keys that had a value
	history []string // requests, for the report
	watches []*watch

	watched, events   int
	statuses, actions map[string]int
}

// fail reports a difference with what went before.
func (d *differential) fail(o op, difference string) {
	d.t.Helper()
	d.t.Fatalf("request %d: %v\n%s\nbefore:\n%s", d.n, o, difference,
		strings.Join(d.history[max(0, len(d.history)-40):], "\n"))
}

// do sends a request to both sides and compares.
func (d *differential) do(o op) {
	d.t.Helper()
	var answers [2]answer
	var errs [2]error
	var wg sync.WaitGroup
	for i, s := range d.sides {
		wg.Go(func() {
			resp, err := s.open(o)
			if err != nil {
				errs[i] = err
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			answers[i], errs[i] = s.read(resp, body, o.sorted()), err
		})
	}
	wg.Wait()
	if errs != [2]error{} {
		d.fail(o, fmt.Sprint(errs))
	}
	if text := same(answers[0], answers[1]); text != "" {
		d.fail(o, text)
	}
	d.learn(answers[0])
	d.history = append(d.history, fmt.Sprintf("%d %v: %.160s", d.n, o, answers[0].text))
}

// learn remembers what a later request may ask for.
func (d *differential) learn(a answer) {
	if d.statuses == nil {
		d.statuses, d.actions = map[string]int{}, map[string]int{}
	}
	d.statuses[a.text[:3]]++
	m, _ := a.body.(map[string]any)
	action, _ := m["action"].(string)
	d.actions[action]++
	node, _ := m["node"].(map[string]any)
	key := strings.NewReplacer("<", "{", ">", "}").Replace(keyOf(node))
	if key == "" {
		return
	}
	value, _ := node["value"].(string)
	index, _ := node["modifiedIndex"].(string)
	n, _ := strconv.ParseInt(strings.Trim(index, "{}"), 10, 64)
	d.seen[key] = seen{value, n}
	d.last = max(d.last, n)
	if value != "" {
		d.files = append(d.files, key)
	}
	if strings.Contains(key, "{#") && action == "create" {
		d.orders = append(d.orders, key)
	}
}

// watch is a watch of both sides.
type watch struct {
	op    op
	mu    sync.Mutex
	lines [2]string
	heads [2]*http.Response
}

// watch begins one on both sides; it is there when the heads have come.
func (d *differential) watch(o op) {
	w := &watch{op: o}
	for i, s := range d.sides {
		resp, err := s.open(o)
		if err != nil {
			d.fail(o, err.Error())
		}
		d.t.Cleanup(func() { resp.Body.Close() })
		w.heads[i] = resp
		go func() {
			buf := make([]byte, 64<<10)
			for {
				n, err := resp.Body.Read(buf)
				w.mu.Lock()
				w.lines[i] += string(buf[:n])
				w.mu.Unlock()
				if err != nil {
					return
				}
			}
		}()
	}
	d.watched++
	d.watches = append(d.watches, w)
	d.history = append(d.history, fmt.Sprintf("%d %v", d.n, o))
}

func (w *watch) differs(sides [2]*side) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var answers [2]answer
	for i, s := range sides {
		// etcd 3.4 tells a stream of the removal of the very key it watches twice.
		lines := slices.Compact(slices.Collect(strings.Lines(w.lines[i])))
		answers[i] = s.read(w.heads[i], []byte(strings.Join(lines, "")), false)
	}
	return same(answers[0], answers[1])
}

// checkWatches gives the watches time to be told the same, and ends them.
func (d *differential) checkWatches() {
	d.t.Helper()
	time.Sleep(20 * time.Millisecond)
	for _, w := range d.watches {
		var text string
		for range 100 {
			if text = w.differs(d.sides); text == "" {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if text != "" {
			d.fail(w.op, text)
		}
		d.events += strings.Count(w.lines[0], `{"action"`)
		for i := range d.sides {
			w.heads[i].Body.Close()
		}
	}
	d.watches = nil
}
