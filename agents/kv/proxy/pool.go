package proxy

import (
	"net"
	"slices"
	"sync"
	"time"
)

// pool is the members' addresses, with the time until which one that failed is
// only a last resort.
type pool struct {
	wait time.Duration
	own  []string // this machine's ports

	mu     sync.Mutex
	hosts  []string
	failed map[string]time.Time
	next   int
}

func newPool(wait time.Duration, own []string) *pool {
	return &pool{wait: wait, own: own, failed: map[string]time.Time{}}
}

// set replaces the members by their client URLs. It leaves out, and returns,
// those that would lead back to this machine.
func (p *pool) set(urls []string) (skipped []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hosts = nil
	for _, u := range urls {
		host, port, err := net.SplitHostPort(hostOf(u))
		ip := net.ParseIP(host)
		here := host == "localhost" || (ip != nil && (ip.IsLoopback() || ip.IsUnspecified()))
		switch {
		case err != nil, here && slices.Contains(p.own, port):
			skipped = append(skipped, u)
		default:
			p.hosts = append(p.hosts, net.JoinHostPort(host, port))
		}
	}
	return skipped
}

func (p *pool) urls() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.hosts)
}

func (p *pool) fail(host string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed[host] = now.Add(p.wait)
}

// order gives the members in the order to try them: in turn, those that failed
// not long ago last.
func (p *pool) order(now time.Time) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var good, bad []string
	for i := range p.hosts {
		host := p.hosts[(p.next+i)%len(p.hosts)]
		if p.failed[host].After(now) {
			bad = append(bad, host)
			continue
		}
		good = append(good, host)
	}
	p.next++
	return append(good, bad...)
}

// live is the number of members that have not failed.
func (p *pool) live(now time.Time) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, host := range p.hosts {
		if !p.failed[host].After(now) {
			n++
		}
	}
	return n
}
