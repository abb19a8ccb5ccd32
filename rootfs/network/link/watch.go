package link

import (
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
)

// Watch sends on the channel that it returns whenever interfaces, addresses or
// routes changed; changes that come together make one message. It ends, and
// closes the channel, when done is closed.
//
// The kernel drops messages when they come too fast; the subscription is made
// anew then, which counts as a change.
func (k *Kernel) Watch(done <-chan struct{}, problem func(error)) (<-chan struct{}, error) {
	news := make(chan struct{}, 1)
	subscription, err := subscribe(problem)
	if err != nil {
		return nil, err
	}
	go func() {
		defer close(news)
		for {
			broken := subscription.pass(done, news)
			subscription.close()
			if !broken {
				return
			}
			for {
				var err error
				if subscription, err = subscribe(problem); err == nil {
					break
				}
				problem(err)
				select {
				case <-done:
					return
				case <-time.After(time.Second):
				}
			}
			tell(news)
		}
	}()
	return news, nil
}

type subscription struct {
	links     chan netlink.LinkUpdate
	addresses chan netlink.AddrUpdate
	routes    chan netlink.RouteUpdate
	done      chan struct{}
}

func subscribe(problem func(error)) (*subscription, error) {
	s := &subscription{make(chan netlink.LinkUpdate, 64), make(chan netlink.AddrUpdate, 64), make(chan netlink.RouteUpdate, 64), make(chan struct{})}
	if err := netlink.LinkSubscribeWithOptions(s.links, s.done, netlink.LinkSubscribeOptions{ErrorCallback: problem}); err != nil {
		return nil, fmt.Errorf("watch interfaces: %w", err)
	}
	if err := netlink.AddrSubscribeWithOptions(s.addresses, s.done, netlink.AddrSubscribeOptions{ErrorCallback: problem}); err != nil {
		s.close()
		return nil, fmt.Errorf("watch addresses: %w", err)
	}
	if err := netlink.RouteSubscribeWithOptions(s.routes, s.done, netlink.RouteSubscribeOptions{ErrorCallback: problem}); err != nil {
		s.close()
		return nil, fmt.Errorf("watch routes: %w", err)
	}
	return s, nil
}

// pass hands news on until done (false) or until the kernel hung up (true).
func (s *subscription) pass(done <-chan struct{}, news chan<- struct{}) (broken bool) {
	for {
		open := true
		select {
		case <-done:
			return false
		case _, open = <-s.links:
		case _, open = <-s.addresses:
		case _, open = <-s.routes:
		}
		if !open {
			return true
		}
		tell(news)
	}
}

// close ends the subscription; the library's goroutines may wait to send, so
// what they send is taken until they are gone.
func (s *subscription) close() {
	close(s.done)
	go drain(s.links)
	go drain(s.addresses)
	go drain(s.routes)
}

func drain[T any](c <-chan T) {
	for range c {
	}
}

func tell(news chan<- struct{}) {
	select {
	case news <- struct{}{}:
	default:
	}
}
