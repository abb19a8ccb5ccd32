package machine

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// BootTimeout bounds the time from power-on to SSH under emulation.
const BootTimeout = 4 * time.Minute

// Dial logs in as user, waiting for the machine to come up.
func (m *Machine) Dial(user string) *ssh.Client {
	m.t.Helper()
	client, err := m.tryDial(user, BootTimeout)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { client.Close() })
	return client
}

func (m *Machine) tryDial(user string, within time.Duration) (*ssh.Client, error) {
	config := &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(m.key)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 20 * time.Second}
	deadline := time.Now().Add(within)
	for {
		client, err := dialOnce(fmt.Sprintf("127.0.0.1:%d", m.ports[22]), config)
		if err == nil {
			return client, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("log in as %q within %s: %w", user, within, err)
		}
		select {
		case <-m.Done():
			return nil, fmt.Errorf("log in as %q: the machine has ended: %w", user, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// dialOnce bounds the handshake too: a guest that is still booting accepts
// connections through QEMU's forwarder and then says nothing.
func dialOnce(address string, config *ssh.ClientConfig) (*ssh.Client, error) {
	conn, err := net.DialTimeout("tcp", address, config.Timeout)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(config.Timeout))
	c, channels, requests, err := ssh.NewClientConn(conn, address, config)
	if err != nil {
		conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	return ssh.NewClient(c, channels, requests), nil
}

// Result is what a command printed and how it ended.
type Result struct {
	Out, Err string
	Code     int
}

// Exec runs a shell command as user and returns its result, waiting for the
// machine to come up.
func (m *Machine) Exec(user, command string) Result {
	m.t.Helper()
	r, err := m.try(user, command, BootTimeout)
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

// try is Exec; the error is that of a login that did not succeed in time.
func (m *Machine) try(user, command string, within time.Duration) (Result, error) {
	client, err := m.tryDial(user, within)
	if err != nil {
		return Result{}, err
	}
	defer client.Close()
	return runOn(client, command, silence), nil
}

// runOn runs a command in a session of its own. A connection that breaks, or
// that gives no sign of life for as long as silence, is closed, and the
// result's code is -1.
func runOn(client *ssh.Client, command string, silence time.Duration) Result {
	over := make(chan struct{})
	defer close(over)
	go watchConnection(client, silence, over)
	session, err := client.NewSession()
	if err != nil { // the machine is on its way down
		client.Close()
		return Result{Code: -1, Err: err.Error()}
	}
	defer session.Close()
	var out, stderr bytes.Buffer
	session.Stdout, session.Stderr = &out, &stderr
	timer := time.AfterFunc(5*time.Minute, func() { client.Close() })
	defer timer.Stop()
	err = session.Run(command)
	r := Result{Out: out.String(), Err: stderr.String()}
	var exit *ssh.ExitError
	switch {
	case errors.As(err, &exit):
		r.Code = exit.ExitStatus()
	case err != nil:
		client.Close()
		r.Code, r.Err = -1, r.Err+err.Error()
	}
	return r
}

// silence is how long a machine may leave a connection without an answer.
const silence = 30 * time.Second

// watchConnection closes a connection whose machine has gone without a word, as
// one does that loses power, until over is closed.
func watchConnection(client *ssh.Client, silence time.Duration, over <-chan struct{}) {
	for {
		answered := make(chan struct{})
		go func() {
			// Any answer will do, also that the request is not known.
			_, _, _ = client.SendRequest("keepalive@openssh.com", true, nil)
			close(answered)
		}()
		select {
		case <-over:
			return
		case <-time.After(silence):
			client.Close()
			return
		case <-answered:
		}
		select {
		case <-over:
			return
		case <-time.After(silence / 10):
		}
	}
}

// Run runs a command as core; it must succeed. It returns trimmed output.
func (m *Machine) Run(command string) string {
	m.t.Helper()
	r := m.Exec("core", command)
	if r.Code != 0 {
		m.t.Fatalf("%s: exit %d\n%s%s", command, r.Code, r.Out, r.Err)
	}
	return strings.TrimSpace(r.Out)
}

// Eventually runs a command as core until it succeeds and prints something
// that contains want. It stays logged in meanwhile: under emulation the
// handshakes would keep the machine busy. One that has crashed is soon left.
func (m *Machine) Eventually(command, want string, within time.Duration) string {
	m.t.Helper()
	deadline := time.Now().Add(within)
	var client *ssh.Client
	defer func() {
		if client != nil {
			client.Close()
		}
	}()
	for pause := 300 * time.Millisecond; ; pause = min(pause*5/4, 2*time.Second) {
		if client == nil {
			var err error
			if client, err = m.tryDial("core", time.Until(deadline)); err != nil {
				m.t.Fatalf("%s: no %q within %s: %v", command, want, within, err)
			}
		}
		r := runOn(client, command, silence/3)
		if r.Code == 0 && strings.Contains(r.Out, want) {
			return strings.TrimSpace(r.Out)
		}
		if r.Code < 0 { // broken, or the command was killed: what comes up next is a new machine
			client.Close()
			client = nil
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("%s: no %q within %s; last: exit %d\n%s%s", command, want, within, r.Code, r.Out, r.Err)
		}
		select {
		case <-m.Done():
		case <-time.After(pause):
		}
	}
}
