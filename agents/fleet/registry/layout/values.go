package layout

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/coracle-os/coracle/agents/fleet"
	"github.com/coracle-os/coracle/agents/fleet/unitfile"
)

// content is the value of unit/<sha1>.
type content struct{ Raw string }

// HashOf is the hash of a serialised unit.
func HashOf(raw string) string {
	sum := sha1.Sum([]byte(raw))
	return hex.EncodeToString(sum[:])
}

// EncodeContent writes a serialised unit. JSON cannot carry text that is not
// UTF-8: that is an error.
func EncodeContent(raw string) (string, error) {
	if !utf8.ValidString(raw) {
		return "", errors.New("the unit's text is not UTF-8; save the file as UTF-8")
	}
	return encode(content{raw}), nil
}

// DecodeContent reads a serialised unit and compares it with its hash.
func DecodeContent(hash string, value []byte) (raw string, err error) {
	var c content
	if err := json.Unmarshal(value, &c); err != nil {
		return "", err
	}
	if got := HashOf(c.Raw); got != hash {
		return "", fmt.Errorf("the content has the hash %s", got)
	}
	return c.Raw, nil
}

// job is the value of job/<name>.
type job struct {
	Name, Hash   string
	DesiredState fleet.JobState
	Rollout      *rollout `json:",omitempty"`
}

type rollout struct {
	Parallel    int
	WaitHealthy string // a Go duration
	Previous    string `json:",omitempty"`
}

// EncodeJob writes name, hash, desired state and rollout of a unit.
func EncodeJob(u fleet.Unit) string {
	j := job{Name: u.Name, Hash: u.Hash, DesiredState: u.Desired}
	if r := u.Rollout; r != nil {
		j.Rollout = &rollout{r.Parallel, r.WaitHealthy.String(), r.Previous}
	}
	return encode(j)
}

// DecodeJob reads what EncodeJob writes; requirements are not in it.
func DecodeJob(name string, value []byte) (fleet.Unit, error) {
	var j job
	if err := json.Unmarshal(value, &j); err != nil {
		return fleet.Unit{}, err
	}
	if err := unitfile.ValidateName(name); err != nil {
		return fleet.Unit{}, err
	}
	switch {
	case j.Name != name:
		return fleet.Unit{}, fmt.Errorf("the value is for the unit %q", j.Name)
	case !isHash(j.Hash):
		return fleet.Unit{}, fmt.Errorf("%q is not a hash", j.Hash)
	case !j.DesiredState.Valid():
		return fleet.Unit{}, fmt.Errorf("%q is not a state", j.DesiredState)
	}
	u := fleet.Unit{Name: name, Hash: j.Hash, Desired: j.DesiredState}
	if r := j.Rollout; r != nil {
		wait, err := time.ParseDuration(r.WaitHealthy)
		if err != nil {
			return fleet.Unit{}, fmt.Errorf("rollout: %w", err)
		}
		if r.Parallel < 1 || wait < 0 || r.Previous != "" && !isHash(r.Previous) {
			return fleet.Unit{}, fmt.Errorf("rollout %+v makes no sense", *r)
		}
		u.Rollout = &fleet.Rollout{Parallel: r.Parallel, WaitHealthy: wait, Previous: r.Previous}
	}
	return u, nil
}

// placement is the value of schedule/<machine>/<unit>.
type placement struct {
	Hash  string
	State fleet.JobState
}

// EncodePlacement writes hash and state.
func EncodePlacement(p fleet.Placement) string { return encode(placement{p.Hash, p.State}) }

// DecodePlacement reads them; n is machine and unit.
func DecodePlacement(n Name, value []byte) (fleet.Placement, error) {
	var p placement
	if err := json.Unmarshal(value, &p); err != nil {
		return fleet.Placement{}, err
	}
	if !isHash(p.Hash) || !p.State.Valid() {
		return fleet.Placement{}, fmt.Errorf("hash %q or state %q is not one", p.Hash, p.State)
	}
	return fleet.Placement{Machine: n.First, Unit: n.Second, Hash: p.Hash, State: p.State}, nil
}

// machine is the value of machines/<id>/object.
type machine struct {
	ID, BootID, PublicIP string
	Metadata             map[string]string
	Version              string
	CPU, Memory          int64
}

// EncodeMachine writes what a machine says of itself; not Draining.
func EncodeMachine(m fleet.Machine) string {
	return encode(machine{m.ID, m.BootID, m.PublicIP, m.Metadata, m.Version, m.CPU, m.Memory})
}

// DecodeMachine reads it.
func DecodeMachine(id string, value []byte) (fleet.Machine, error) {
	var m machine
	if err := json.Unmarshal(value, &m); err != nil {
		return fleet.Machine{}, err
	}
	if m.ID != id {
		return fleet.Machine{}, fmt.Errorf("the value is for the machine %q", m.ID)
	}
	if m.CPU < 0 || m.Memory < 0 {
		return fleet.Machine{}, fmt.Errorf("CPU %d or memory %d is less than nothing", m.CPU, m.Memory)
	}
	return fleet.Machine{ID: id, BootID: m.BootID, PublicIP: m.PublicIP, Metadata: m.Metadata, Version: m.Version, CPU: m.CPU, Memory: m.Memory}, nil
}

// Drained is the value of machines/<id>/drain: no units there.
type Drained struct {
	Reason string    // for people
	BootID string    `json:",omitempty"` // it ends when the machine registers with another one; "" is never
	Until  time.Time `json:",omitzero"`  // it ends then; zero is never
}

// EncodeDrain writes a drain.
func EncodeDrain(d Drained) string { return encode(d) }

// DecodeDrain reads it.
func DecodeDrain(value []byte) (d Drained, err error) {
	err = json.Unmarshal(value, &d)
	if err == nil && d.Reason == "" {
		d.Reason = "drained"
	}
	return d, err
}

// Ended tells if the drain no longer holds for a machine started as bootID.
func (d Drained) Ended(bootID string, now time.Time) bool {
	return d.BootID != "" && d.BootID != bootID || !d.Until.IsZero() && !now.Before(d.Until)
}

// state is the value of states/<machine>/<unit>.
type state struct {
	Hash, Load, Active, Sub string
	Since                   time.Time
}

// EncodeState writes a unit's state.
func EncodeState(s fleet.UnitState) string {
	return encode(state{s.Hash, s.Load, s.Active, s.Sub, s.Since.UTC()})
}

// DecodeState reads it; n is machine and unit.
func DecodeState(n Name, value []byte) (fleet.UnitState, error) {
	var s state
	if err := json.Unmarshal(value, &s); err != nil {
		return fleet.UnitState{}, err
	}
	if !isHash(s.Hash) || s.Load == "" || s.Active == "" {
		return fleet.UnitState{}, fmt.Errorf("%+v is not a state", s)
	}
	since := s.Since.UTC()
	if y := since.Year(); y < 0 || y > 9999 {
		return fleet.UnitState{}, fmt.Errorf("the year %d cannot be written again", y)
	}
	return fleet.UnitState{Machine: n.First, Unit: n.Second, Hash: s.Hash, Load: s.Load, Active: s.Active, Sub: s.Sub, Since: since}, nil
}

// Engine is the value of lease/engine-leader.
type Engine struct {
	MachineID string
	Version   int
}

// EncodeEngine writes who leads.
func EncodeEngine(e Engine) string { return encode(e) }

// DecodeEngine reads it.
func DecodeEngine(value []byte) (e Engine, err error) {
	err = json.Unmarshal(value, &e)
	return e, err
}

// encode never fails for our own values: strings, numbers and times of this era.
func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", v, err))
	}
	return string(b)
}

func isHash(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha1.Size
}
