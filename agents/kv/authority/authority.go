// Package authority is how a machine comes by its cluster's authority when no
// file with one is given (`tls: auto`): the machine that begins the cluster
// makes it, and every other machine gets it from one that has it, sealed as
// package admission says, before it speaks to the members at all. Since the
// authority is what all trust is built on, it is never made anew where it once
// was: a machine that lost it gets it from the others or says so.
//
// Left out on purpose: clusters that form all at once, from a list or a
// discovery token. No machine of them is the first, so that they need a file
// with the authority; and changing the authority of a cluster that runs.
package authority

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/coracle-os/coracle/agents/kv/admission"
	"github.com/coracle-os/coracle/agents/kv/pki"
)

// Port is where machines hand the authority on, beside etcd's own.
const Port = "2378"

const (
	askEvery = 2 * time.Second
	askFor   = 5 * time.Second // one machine
)

// Config is what Obtain and Serve need.
type Config struct {
	File    string   // with the authority
	Token   string   // what all machines of the cluster know
	Sources []string // hosts of other machines; none where the cluster begins
	Member  bool     // etcd's data is here
	Now     func() time.Time
	Random  io.Reader
	// Tell takes a line for the log.
	Tell func(text string, failure bool)
}

// Obtain returns when the authority's file is there and good: it may wait for
// the other machines without end.
func Obtain(ctx context.Context, c Config) error {
	f, old, err := c.facts()
	if err != nil {
		return err
	}
	do, reason := decide(f)
	if do != keep {
		c.Tell("tls: "+reason, do == refuse)
	}
	switch do {
	case refuse:
		return fmt.Errorf("read the authority in %s: %s", c.File, reason)
	case create:
		return c.create()
	case compare:
		text, err := c.ask(ctx)
		if err != nil {
			c.Tell(fmt.Sprintf("tls: the authority here could not be compared with the cluster's: %v", err), true)
			return nil
		}
		return c.take(text, old)
	case fetch:
		text, err := c.askLong(ctx)
		if err != nil {
			return err
		}
		return c.take(text, old)
	}
	return nil
}

// facts reads the disk; old is the authority that is there, if it is good.
func (c Config) facts() (facts, pki.Authority, error) {
	f := facts{member: c.Member, sources: len(c.Sources) > 0}
	_, err := os.Stat(pki.In(filepath.Dir(c.File)).Authority)
	f.issued = err == nil
	text, err := os.ReadFile(c.File)
	if errors.Is(err, os.ErrNotExist) {
		return f, pki.Authority{}, nil
	}
	if err != nil {
		return f, pki.Authority{}, fmt.Errorf("read the authority: %w", err)
	}
	old, err := pki.Parse(text)
	f.there, f.problem = true, err
	return f, old, nil
}

func (c Config) create() error {
	a, err := pki.New("etcd", c.Now(), c.Random)
	if err != nil {
		return err
	}
	text, err := a.PEM()
	if err != nil {
		return err
	}
	return c.write(text)
}

func (c Config) write(text []byte) error {
	if err := os.MkdirAll(filepath.Dir(c.File), 0o700); err != nil {
		return fmt.Errorf("write the authority: %w", err)
	}
	return pki.Replace(c.File, text)
}

// take puts the cluster's authority in place of what was there, which is kept
// beside it when it is another one.
func (c Config) take(text []byte, old pki.Authority) error {
	a, err := pki.Parse(text)
	if err != nil {
		return fmt.Errorf("%w: it is what another machine of the cluster has", err)
	}
	if old.Certificate != nil && old.Equal(a) {
		return nil
	}
	if _, err := os.Stat(c.File); err == nil {
		if err := os.Rename(c.File, c.File+".old"); err != nil {
			return fmt.Errorf("move the old authority aside: %w", err)
		}
		c.Tell(fmt.Sprintf("tls: the authority here was not the cluster's and was moved to %s.old", c.File), true)
	}
	c.Tell("tls: the authority came from another machine of the cluster", false)
	return c.write(text)
}

// ask asks each source once.
func (c Config) ask(ctx context.Context) ([]byte, error) {
	client := &http.Client{Timeout: askFor, Transport: &http.Transport{DisableKeepAlives: true}}
	var problems []error
	for _, host := range c.Sources {
		text, err := admission.Fetch(ctx, client, "http://"+net.JoinHostPort(host, Port), c.Token)
		if err == nil {
			_, err = pki.Parse(bytes.Clone(text))
		}
		if err == nil {
			return text, nil
		}
		problems = append(problems, err)
	}
	return nil, errors.Join(problems...)
}

// askLong asks until there is an answer.
func (c Config) askLong(ctx context.Context) ([]byte, error) {
	said := ""
	for {
		text, err := c.ask(ctx)
		switch {
		case err == nil:
			return text, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err.Error() != said:
			said = err.Error()
			c.Tell(fmt.Sprintf("tls: waiting for the authority: %v; the other machines must run with ETCD_TLS=auto and the same ETCD_JOIN_TOKEN, and have port %s open", err, Port), true)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(askEvery):
		}
	}
}
