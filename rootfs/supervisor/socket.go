package supervisor

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coracle-os/coracle/rootfs/socket"
	"github.com/coracle-os/coracle/rootfs/transaction"
	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/name"
)

// socketDriver is one socket unit: it listens, and starts its service when
// something comes in.
type socketDriver struct {
	s   *Supervisor
	l   *live
	cfg *unit.Socket

	sub      string // "dead", "listening", "running", "failed"
	outcome  string
	fds      []int
	accepted int
	open     int // connections that are served now
	triggers []time.Time
}

func (s *Supervisor) newSocket(l *live) *socketDriver {
	return &socketDriver{s: s, l: l, cfg: l.u.Socket, sub: "dead", outcome: "success"}
}

func (d *socketDriver) state() (transaction.State, string) {
	switch d.sub {
	case "dead":
		return transaction.Inactive, d.sub
	case "failed":
		return transaction.Failed, d.sub
	default:
		return transaction.Active, d.sub
	}
}

func (d *socketDriver) set(sub string) {
	from, _ := d.state()
	if sub == "dead" || sub == "failed" {
		d.close()
	}
	d.sub = sub
	to, _ := d.state()
	d.s.changed(d.l, change{from: from, to: to})
}

func (d *socketDriver) start() error {
	d.outcome, d.triggers = "success", nil
	if !d.cfg.Accept {
		sv := d.s.find(d.cfg.Service)
		if sv == nil || sv.u.LoadState != unit.Loaded {
			return fmt.Errorf("the service %s to activate is not loaded", d.cfg.Service)
		}
		if !down(sv.active()) {
			return fmt.Errorf("the service %s is already active, refusing", d.cfg.Service)
		}
	}
	uid, gid, err := d.s.cfg.Exec.Lookup(d.cfg.SocketUser, d.cfg.SocketGroup)
	if err == nil {
		d.fds, err = socket.Open(d.cfg, socket.Owner{UID: uid, GID: gid})
	}
	if err != nil {
		d.s.log(3, d.l.u.Name, "Failed to listen: %v", err)
		d.fail("resources")
		return nil
	}
	d.listen()
	return nil
}

// listen waits for the next thing to come in.
func (d *socketDriver) listen() {
	for _, fd := range d.fds {
		err := d.s.cfg.Sockets.Arm(fd, func() {
			d.s.Post(func() { d.s.guard(d.l, func() { d.ready(fd) }) })
		})
		if err != nil {
			d.s.log(3, d.l.u.Name, "Failed to listen: %v", err)
			d.fail("resources")
			return
		}
	}
	d.set("listening")
}

func (d *socketDriver) pause() {
	for _, fd := range d.fds {
		d.s.cfg.Sockets.Disarm(fd)
	}
}

func (d *socketDriver) close() {
	d.pause()
	socket.Close(d.fds)
	d.fds = nil
}

func (d *socketDriver) fail(result string) {
	if d.outcome == "success" {
		d.outcome = result
	}
	d.set("failed")
}

// ready is called when something came in on fd.
func (d *socketDriver) ready(fd int) {
	if d.sub != "listening" {
		return
	}
	if d.tooOften() {
		d.s.log(3, d.l.u.Name, "Trigger limit hit, refusing further activation.")
		d.fail("trigger-limit-hit")
		return
	}
	if d.cfg.Accept {
		d.accept(fd)
		return
	}
	d.pause()
	d.set("running")
	if sv := d.s.find(d.cfg.Service); sv != nil && up(sv.active()) {
		return
	}
	if _, err := d.s.enqueue(transaction.Request{Type: transaction.Start, Unit: d.cfg.Service}); err != nil {
		d.s.log(3, d.l.u.Name, "Failed to start %s: %v", d.cfg.Service, err)
		d.fail("resources")
	}
}

func (d *socketDriver) tooOften() bool {
	lim := d.cfg.TriggerLimit
	if lim.Interval <= 0 || lim.Burst <= 0 {
		return false
	}
	now := time.Now()
	for len(d.triggers) > 0 && now.Sub(d.triggers[0]) > lim.Interval {
		d.triggers = d.triggers[1:]
	}
	if len(d.triggers) >= lim.Burst {
		return true
	}
	d.triggers = append(d.triggers, now)
	return false
}

// accept takes one connection and starts an instance of the template for it.
func (d *socketDriver) accept(fd int) {
	defer d.listenAgain(fd)
	conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
	if err != nil {
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ECONNABORTED) {
			d.s.log(4, d.l.u.Name, "Failed to accept a connection: %v", err)
		}
		return
	}
	if d.cfg.MaxConnections > 0 && d.open >= d.cfg.MaxConnections {
		d.s.log(4, d.l.u.Name, "Too many incoming connections (%d), dropping connection.", d.open)
		unix.Close(conn)
		return
	}
	instance := name.WithInstance(d.cfg.Service, strconv.Itoa(d.accepted)+"-"+peerName(conn))
	d.accepted++
	l := d.s.require(instance)
	sv, ok := l.d.(*serviceDriver)
	if !ok || !down(l.active()) {
		d.s.log(3, d.l.u.Name, "Failed to start %s for a connection: it cannot be loaded", instance)
		unix.Close(conn)
		return
	}
	sv.socket, sv.from = conn, d
	d.open++
	if _, err := d.s.enqueue(transaction.Request{Type: transaction.Start, Unit: instance}); err != nil {
		d.s.log(3, d.l.u.Name, "Failed to start %s for a connection: %v", instance, err)
		sv.hangUp()
	}
}

// listenAgain arms one descriptor after a connection was taken from it.
func (d *socketDriver) listenAgain(fd int) {
	if d.sub != "listening" {
		return
	}
	err := d.s.cfg.Sockets.Arm(fd, func() {
		d.s.Post(func() { d.s.guard(d.l, func() { d.ready(fd) }) })
	})
	if err != nil {
		d.fail("resources")
	}
}

// peerName is the part of an instance's name that says who is at the other
// end.
func peerName(fd int) string {
	local, _ := unix.Getsockname(fd)
	peer, err := unix.Getpeername(fd)
	if err != nil {
		return "unknown"
	}
	if c, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
		if _, ok := local.(*unix.SockaddrUnix); ok {
			return fmt.Sprintf("%d-%d", c.Pid, c.Uid)
		}
	}
	return name.Escape(endpoint(local) + "-" + endpoint(peer))
}

func endpoint(a unix.Sockaddr) string {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return fmt.Sprintf("%d.%d.%d.%d:%d", a.Addr[0], a.Addr[1], a.Addr[2], a.Addr[3], a.Port)
	case *unix.SockaddrInet6:
		return fmt.Sprintf("%x:%d", a.Addr, a.Port)
	default:
		return ""
	}
}

// triggerChanged is called when the service that this socket starts has come
// up or gone down.
func (d *socketDriver) triggerChanged(sv *live, to transaction.State) {
	if d.cfg.Accept || d.sub != "listening" && d.sub != "running" {
		return
	}
	switch {
	case up(to):
		d.pause()
		d.set("running")
	case sv.limitHit:
		d.fail("service-start-limit-hit")
	case d.sub == "running":
		d.listen()
	}
}

func (d *socketDriver) stop() {
	d.close()
	socket.Remove(d.cfg)
	d.set("dead")
}

func (d *socketDriver) reload() error   { return errors.New("a socket cannot be reloaded") }
func (d *socketDriver) canReload() bool { return false }
func (d *socketDriver) refuse()         { d.fail("start-limit-hit") }

func (d *socketDriver) reset() {
	d.outcome = "success"
	if d.sub == "failed" {
		d.set("dead")
	}
}

func (d *socketDriver) configure(u *unit.Unit) {
	if u.Socket != nil {
		d.cfg = u.Socket
	}
}

func (d *socketDriver) result() string       { return d.outcome }
func (d *socketDriver) kill(string, int) int { return 0 }

func (d *socketDriver) properties(set func(name, value string)) {
	set("Result", d.outcome)
	set("NAccepted", strconv.Itoa(d.accepted))
	set("NConnections", strconv.Itoa(d.open))
}

// sockets returns the descriptors that a service is started with, and their
// names: those of all its socket units that listen.
func (s *Supervisor) sockets(l *live) (fds []int, names []string) {
	units := s.graph.By(l.u.Name, unit.Triggers)
	for _, n := range l.u.Service.Sockets {
		units = appendNew(units, n)
	}
	for _, n := range units {
		o := s.find(n)
		if o == nil {
			continue
		}
		d, ok := o.d.(*socketDriver)
		if !ok || d.cfg.Accept {
			continue
		}
		for _, fd := range d.fds {
			_ = unix.SetNonblock(fd, l.u.Service.NonBlocking)
			fds = append(fds, fd)
			names = append(names, d.fdName())
		}
	}
	return fds, names
}

func (d *socketDriver) fdName() string {
	if d.cfg.FileDescriptorName != "" {
		return d.cfg.FileDescriptorName
	}
	return d.l.u.Name
}

func appendNew(list []string, n string) []string {
	for _, x := range list {
		if x == n {
			return list
		}
	}
	return append(list, n)
}
