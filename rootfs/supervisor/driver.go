package supervisor

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"time"

	"github.com/coracle-os/coracle/rootfs/early"
	"github.com/coracle-os/coracle/rootfs/transaction"
	"github.com/coracle-os/coracle/rootfs/unit"
)

// errUnsupported says that units of this kind cannot be started here.
var errUnsupported = errors.New("units of this type are not supported on Coracle")

func (s *Supervisor) newDriver(l *live) driver {
	switch {
	case l.u.Kind == unit.KindService && l.u.Service != nil:
		return s.newService(l)
	case l.u.Kind == unit.KindSocket && l.u.Socket != nil:
		return s.newSocket(l)
	case l.u.Kind == unit.KindTimer && l.u.Timer != nil:
		return s.newTimer(l)
	case l.u.Kind == unit.KindPath && l.u.Path != nil:
		return s.newPath(l)
	case l.u.Kind == unit.KindSlice:
		return &sliceDriver{passive{s: s, l: l, supported: true, word: "active"}}
	case l.u.Kind == unit.KindTarget:
		return &passive{s: s, l: l, supported: true, word: "active"}
	case l.u.Kind == unit.KindMount && l.u.Mount != nil:
		return s.newMount(l)
	case l.u.Kind == unit.KindAutomount && l.u.Automount != nil:
		return s.newAutomount(l)
	default:
		return &passive{s: s, l: l, word: "active"}
	}
}

// passive is a unit without anything of its own to run: a target, a slice, or a
// kind that is not supported.
type passive struct {
	s         *Supervisor
	l         *live
	supported bool
	up        bool
	word      string
}

func (p *passive) state() (transaction.State, string) {
	if p.up {
		return transaction.Active, p.word
	}
	return transaction.Inactive, "dead"
}

func (p *passive) start() error {
	if !p.supported {
		return errUnsupported
	}
	p.set(true)
	return nil
}

func (p *passive) stop() { p.set(false) }

func (p *passive) set(on bool) {
	from, _ := p.state()
	p.up = on
	to, _ := p.state()
	p.s.changed(p.l, change{from: from, to: to})
}

func (p *passive) reload() error                { return errors.New("it cannot be reloaded") }
func (p *passive) canReload() bool              { return false }
func (p *passive) refuse()                      {}
func (p *passive) reset()                       {}
func (p *passive) configure(*unit.Unit)         {}
func (p *passive) result() string               { return "success" }
func (p *passive) kill(string, int) int         { return 0 }
func (p *passive) properties(func(n, v string)) {}
func (p *passive) save() any                    { return p.up }
func (p *passive) restore(b []byte) error       { return json.Unmarshal(b, &p.up) }

// newID returns 128 random bits as 32 hexadecimal digits.
func newID() string {
	b := early.ID()
	return hex.EncodeToString(b[:])
}

// stampText renders a time as systemctl show does.
func stampText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("Mon 2006-01-02 15:04:05 MST")
}
