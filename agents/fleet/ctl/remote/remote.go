// Package remote reaches the machines of a cluster by SSH for fleetctl: it
// runs commands and shells on them and carries the scheduler's API through a
// tunnel. Host keys are checked against a file of fleetctl's own, as fleet's
// fleetctl did.
//
// The protocol, the file's format and key agents are golang.org/x/crypto/ssh
// with its knownhosts and agent packages. Left out on purpose: passwords,
// encrypted key files (an agent holds those), ssh_config.
package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// Config says how machines are reached. User and KnownHosts (when Strict) are
// required.
type Config struct {
	User       string
	Timeout    time.Duration // to connect and log in, 0 for none
	Strict     bool          // check host keys
	KnownHosts string        // path of the file of host keys
	Tunnel     string        // host[:port] of the machine to go through, "" for none
	Agent      string        // path of the key agent's socket, "" for none
	Keys       []string      // paths of private keys to offer after the agent's; missing ones are no error
	// Ask asks whether an unknown host is to be trusted; nil never trusts.
	Ask func(question string) bool
}

// Client is a connection to one machine.
type Client struct {
	*ssh.Client
	tunnel *ssh.Client // what it goes through, nil for none
	agent  string
}

// Close ends the connection, and the tunnel under it.
func (c *Client) Close() error {
	err := c.Client.Close()
	if c.tunnel != nil {
		c.tunnel.Close()
	}
	return err
}

// Address adds the port to an address without one.
func Address(host string, port int) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), fmt.Sprint(port))
}

// DialTunnel connects to the machine that Tunnel names.
func (c *Config) DialTunnel(ctx context.Context) (*Client, error) {
	client, err := c.connect(ctx, nil, Address(c.Tunnel, 22))
	if err != nil {
		return nil, err
	}
	return &Client{Client: client, agent: c.Agent}, nil
}

// Dial connects to address (host:port), through the tunnel if there is one.
func (c *Config) Dial(ctx context.Context, address string) (*Client, error) {
	if c.Tunnel == "" {
		client, err := c.connect(ctx, nil, address)
		if err != nil {
			return nil, err
		}
		return &Client{Client: client, agent: c.Agent}, nil
	}
	tunnel, err := c.connect(ctx, nil, Address(c.Tunnel, 22))
	if err != nil {
		return nil, err
	}
	client, err := c.connect(ctx, tunnel, address)
	if err != nil {
		tunnel.Close()
		return nil, err
	}
	return &Client{Client: client, tunnel: tunnel, agent: c.Agent}, nil
}

// connect opens a connection, directly when via is nil, and logs in.
func (c *Config) connect(ctx context.Context, via *ssh.Client, address string) (*ssh.Client, error) {
	keys, done, err := c.signers()
	if err != nil {
		return nil, err
	}
	defer done()
	check, algorithms, err := c.hostKeys(address)
	if err != nil {
		return nil, err
	}
	limited, cancel := ctx, context.CancelFunc(func() {})
	if c.Timeout > 0 {
		limited, cancel = context.WithTimeout(ctx, c.Timeout)
	}
	defer cancel()
	dial := (&net.Dialer{}).DialContext
	if via != nil {
		dial = via.DialContext
	}
	conn, err := dial(limited, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s by SSH: %w", address, err)
	}
	var asked atomic.Bool // a question to a person may take longer than the timeout
	config := &ssh.ClientConfig{User: c.User, Auth: []ssh.AuthMethod{ssh.PublicKeysCallback(keys)}, HostKeyAlgorithms: algorithms,
		HostKeyCallback: func(host string, remote net.Addr, key ssh.PublicKey) error {
			asked.Store(true)
			return check(host, remote, key)
		}}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer context.AfterFunc(limited, func() {
		if !asked.Load() {
			conn.Close()
		}
	})()
	sc, channels, requests, err := ssh.NewClientConn(conn, address, config)
	if err != nil {
		conn.Close()
		return nil, c.loginError(limited, address, err)
	}
	return ssh.NewClient(sc, channels, requests), nil
}

// loginError says what a person can do about a login that failed.
func (c *Config) loginError(ctx context.Context, address string, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("log in to %s by SSH: no answer within %s; --ssh-timeout sets how long to wait", address, c.Timeout)
	case strings.Contains(err.Error(), "unable to authenticate"):
		hint := "ssh-add a key that the machine knows"
		if c.Agent == "" {
			hint = "no key agent is running (SSH_AUTH_SOCK is not set); start ssh-agent and ssh-add a key that the machine knows"
		}
		return fmt.Errorf("log in to %s by SSH as %q: no key was accepted; %s", address, c.User, hint)
	}
	return fmt.Errorf("log in to %s by SSH: %w", address, err)
}

// signers are the keys to log in with: the agent's and then the files'. done
// must be called when the login is over.
func (c *Config) signers() (keys func() ([]ssh.Signer, error), done func(), err error) {
	var holder agent.ExtendedAgent
	done = func() {}
	if c.Agent != "" {
		conn, err := net.Dial("unix", c.Agent)
		if err != nil {
			return nil, nil, fmt.Errorf("reach the key agent that SSH_AUTH_SOCK names: %w; start ssh-agent or unset the variable", err)
		}
		holder, done = agent.NewClient(conn), func() { conn.Close() }
	}
	return func() (all []ssh.Signer, err error) {
		if holder != nil {
			if all, err = holder.Signers(); err != nil {
				return nil, fmt.Errorf("ask the key agent for its keys: %w", err)
			}
		}
		for _, path := range c.Keys {
			if data, err := os.ReadFile(path); err == nil {
				if signer, err := ssh.ParsePrivateKey(data); err == nil {
					all = append(all, signer)
				}
			}
		}
		return all, nil
	}, done, nil
}
