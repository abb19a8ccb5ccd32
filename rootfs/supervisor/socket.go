package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
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

	activity // "dead", "start-pre", "start-post", "listening", "running", "stop-pre", "stop-post", "failed"
	helpers  helpers
	fds      []int
	accepted int
	open     int // connections that are served now
	refused  int
	triggers []time.Time
}

func (s *Supervisor) newSocket(l *live) *socketDriver {
	return &socketDriver{s: s, l: l, cfg: l.u.Socket, activity: activity{"dead", "success"}}
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
	d.outcome, d.triggers, d.refused = "success", nil, 0
	if !d.cfg.Accept {
		sv := d.s.find(d.cfg.Service)
		if sv == nil || sv.u.LoadState != unit.Loaded {
			return fmt.Errorf("Socket service %s not loaded, refusing.", d.cfg.Service)
		}
		// One that waits to start again has no process, and may wait for this socket.
		if _, sub := sv.d.state(); !down(sv.active()) && sub != "auto-restart" {
			return fmt.Errorf("Socket service %s already active, refusing.", d.cfg.Service)
		}
	}
	d.phase("start-pre", d.cfg.ExecStartPre, d.makeSockets, d.undo)
	return nil
}

// phase runs commands and goes on with next, or with failed and why.
func (d *socketDriver) phase(sub string, list []unit.Command, next func(), failed func(result string)) {
	if len(list) > 0 {
		d.set(sub)
	}
	d.helpers.run(d.s, d.l, &d.cfg.ExecContext, list, d.cfg.Timeout, func(result string) {
		if result == "success" {
			next()
		} else {
			failed(result)
		}
	})
}

// undo ends a start that has failed.
func (d *socketDriver) undo(result string) {
	if d.outcome == "success" {
		d.outcome = result
	}
	d.close()
	last := func(string) { d.fail(result) }
	d.phase("stop-post", d.cfg.ExecStopPost, func() { last("") }, last)
}

// makeSockets makes the sockets.
func (d *socketDriver) makeSockets() {
	uid, gid, err := d.s.cfg.Exec.Lookup(d.cfg.SocketUser, d.cfg.SocketGroup)
	if err == nil {
		d.fds, err = socket.Open(d.cfg, socket.Owner{UID: uid, GID: gid})
	}
	if err != nil {
		d.s.log(3, d.l.u.Name, "%s: Failed to listen on sockets: %v", d.l.u.Name, err)
		d.undo("resources")
		return
	}
	d.phase("start-post", d.cfg.ExecStartPost, d.listen, d.undo)
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
	d.s.log(4, d.l.u.Name, "%s: Failed with result '%s'.", d.l.u.Name, d.outcome)
	d.set("failed")
}

// ready is called when something came in on fd.
func (d *socketDriver) ready(fd int) {
	if d.sub != "listening" {
		return
	}
	if d.tooOften() {
		d.s.log(3, d.l.u.Name, "%s: Trigger limit hit, refusing further activation.", d.l.u.Name)
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
		d.refused++
		d.s.log(4, d.l.u.Name, "%s: Too many incoming connections (%d), dropping connection.", d.l.u.Name, d.open)
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

// remote returns the variables that say who is at the other end of a
// connection.
func remote(fd int) []string {
	peer, err := unix.Getpeername(fd)
	if err != nil {
		return nil
	}
	switch a := peer.(type) {
	case *unix.SockaddrInet4:
		return []string{"REMOTE_ADDR=" + netip.AddrFrom4(a.Addr).String(), "REMOTE_PORT=" + strconv.Itoa(a.Port)}
	case *unix.SockaddrInet6:
		return []string{"REMOTE_ADDR=" + netip.AddrFrom16(a.Addr).Unmap().String(), "REMOTE_PORT=" + strconv.Itoa(a.Port)}
	case *unix.SockaddrUnix:
		if a.Name != "" {
			return []string{"REMOTE_ADDR=" + a.Name}
		}
	}
	return nil
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
		if d.cfg.FlushPending {
			socket.Flush(d.fds)
		}
		d.listen()
	}
}

func (d *socketDriver) stop() {
	if d.sub == "stop-pre" || d.sub == "stop-post" {
		return
	}
	d.pause()
	last := func() {
		if d.outcome == "success" {
			d.set("dead")
		} else {
			d.set("failed")
		}
	}
	fail := func(result string) {
		d.outcome = result
		last()
	}
	d.phase("stop-pre", d.cfg.ExecStopPre, func() {
		d.close()
		socket.Remove(d.cfg)
		d.phase("stop-post", d.cfg.ExecStopPost, last, fail)
	}, fail)
}

func (d *socketDriver) reload() error { return errors.New("a socket cannot be reloaded") }
func (d *socketDriver) refuse()       { d.fail("start-limit-hit") }

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

type socketState struct {
	Sub, Outcome   string
	FDs            []int
	Accepted, Open int
	Triggers       []moment
}

func (d *socketDriver) save() any {
	d.s.keepOpen = append(d.s.keepOpen, d.fds...)
	return socketState{d.sub, d.outcome, d.fds, d.accepted, d.open, d.s.moments(d.triggers)}
}

func (d *socketDriver) restore(b []byte) error {
	var st socketState
	if err := json.Unmarshal(b, &st); err != nil {
		return err
	}
	d.sub, d.outcome, d.fds, d.accepted, d.open, d.triggers = st.Sub, st.Outcome, st.FDs, st.Accepted, st.Open, d.s.times(st.Triggers)
	if st.Sub != "listening" && st.Sub != "running" && st.Sub != "dead" && st.Sub != "failed" { // its command is not known here
		d.sub, d.outcome = "failed", "resources"
		d.close()
	}
	if d.sub == "listening" {
		for _, fd := range d.fds {
			d.listenAgain(fd)
		}
	}
	return nil
}

func (d *socketDriver) properties(set func(name, value string)) {
	set("Result", d.outcome)
	set("NAccepted", strconv.Itoa(d.accepted))
	set("NConnections", strconv.Itoa(d.open))
	set("NRefused", strconv.Itoa(d.refused))
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
