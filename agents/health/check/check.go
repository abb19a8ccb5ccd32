// Package check reads the files of health.d, in which the image and the owner
// of a machine say what a new release must get to work before it is kept, and
// carries the checks out.
//
// A file is YAML, one document, read strictly: an unknown key is an error, with
// its line. Later directories win: /etc/coracle/health.d/10-a.yaml replaces
// /usr/lib/coracle/health.d/10-a.yaml, and an empty file takes its checks away.
//
//	deadline: 2m              # of every check that has none; 2 minutes
//	checks:
//	  - name: the shop answers          # for messages
//	    http: {url: "http://127.0.0.1:8080/healthz", status: 200, contains: ok}
//	    deadline: 90s         # from the start of the checks to success; at most 30m
//	    timeout: 5s           # of one attempt; 10 seconds
//	  - units: [docker.socket, shop.service]   # all active
//	  - not-failed: ["*.target", etcd.service] # none failed or restarted over and over
//	  - tcp: 127.0.0.1:2379                    # accepts a connection
//	  - command: [/opt/bin/selftest, --quick]  # exits with 0
//
// A check is tried once a second until it succeeds or its deadline is over;
// once is enough. The package knows nothing of boot entries: what follows from
// a failed check is decided in agents/health. Left out on purpose: checks that
// depend on others, and HTTPS without a certificate that the machine trusts.
package check

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"strings"
	"time"
)

// Bounds of what a file may ask for.
const (
	DefaultDeadline = 2 * time.Minute
	MaxDeadline     = 30 * time.Minute
	DefaultTimeout  = 10 * time.Second
	// MaxFile bounds a file, in bytes.
	MaxFile = 1 << 20
)

// Check is one check. Exactly one of Units, NotFailed, HTTP, TCP and Command
// is set.
type Check struct {
	Name      string   `yaml:"name"`
	Units     []string `yaml:"units"`
	NotFailed []string `yaml:"not-failed"` // patterns of path.Match
	HTTP      *HTTP    `yaml:"http"`
	TCP       string   `yaml:"tcp"`
	Command   []string `yaml:"command"`
	// Deadline is for all attempts together, from the start of the checks;
	// Timeout is for one.
	Deadline time.Duration `yaml:"deadline"`
	Timeout  time.Duration `yaml:"timeout"`

	// Source is "FILE:LINE".
	Source string `yaml:"-"`
}

// HTTP is a request that must be answered.
type HTTP struct {
	URL      string `yaml:"url"`
	Status   int    `yaml:"status"`   // 0 means any from 200 to 299
	Contains string `yaml:"contains"` // in the first 64 KiB of the body
}

// String is the check's name, or what it does when it has none.
func (c Check) String() string {
	switch {
	case c.Name != "":
		return c.Name
	case c.Units != nil:
		return "units active: " + strings.Join(c.Units, " ")
	case c.NotFailed != nil:
		return "units not failed: " + strings.Join(c.NotFailed, " ")
	case c.HTTP != nil:
		return "GET " + c.HTTP.URL
	case c.TCP != "":
		return "connect to " + c.TCP
	}
	return strings.Join(c.Command, " ")
}

// validate says what is wrong with the check, and fills in what it leaves open.
func (c *Check) validate(deadline time.Duration) error {
	kinds := 0
	for _, set := range []bool{c.Units != nil, c.NotFailed != nil, c.HTTP != nil, c.TCP != "", c.Command != nil} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		return fmt.Errorf("a check has one of units, not-failed, http, tcp and command, this one has %d", kinds)
	}
	if c.Deadline == 0 {
		c.Deadline = deadline
	}
	if c.Timeout == 0 {
		c.Timeout = min(DefaultTimeout, c.Deadline)
	}
	if c.Deadline < time.Second || c.Deadline > MaxDeadline {
		return fmt.Errorf("deadline %s: use 1s to %s", c.Deadline, MaxDeadline)
	}
	if c.Timeout < 0 || c.Timeout > c.Deadline {
		return fmt.Errorf("timeout %s is longer than the deadline %s", c.Timeout, c.Deadline)
	}
	return errors.Join(validateUnits(c.Units, false), validateUnits(c.NotFailed, true), c.validateProbe())
}

func (c *Check) validateProbe() error {
	if c.Command != nil && (len(c.Command) == 0 || !path.IsAbs(c.Command[0])) {
		return fmt.Errorf("command %q: begin with the program's absolute path", c.Command)
	}
	if c.TCP != "" {
		if _, _, err := net.SplitHostPort(c.TCP); err != nil {
			return fmt.Errorf("tcp %q: write HOST:PORT: %w", c.TCP, err)
		}
	}
	if c.HTTP == nil {
		return nil
	}
	u, err := url.Parse(c.HTTP.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("http url %q: write http://HOST[:PORT]/PATH", c.HTTP.URL)
	}
	if s := c.HTTP.Status; s != 0 && (s < 100 || s > 599) {
		return fmt.Errorf("http status %d: use 100 to 599", s)
	}
	return nil
}

func validateUnits(names []string, pattern bool) error {
	if names != nil && len(names) == 0 {
		return errors.New("an empty list of units checks nothing")
	}
	for _, n := range names {
		if _, err := path.Match(n, ""); pattern && err != nil {
			return fmt.Errorf("unit pattern %q: %w", n, err)
		}
		if path.Ext(n) == "" || strings.ContainsAny(n, "/ \t") {
			return fmt.Errorf("unit %q: write the whole name, such as %q", n, "docker.service")
		}
	}
	return nil
}
