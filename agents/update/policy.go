package update

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/coracle-os/coracle/image/release"
)

// Machine is what the decision about a release needs to know of a machine.
type Machine struct {
	ID          string // machine id; only its hash is used
	Running     Target
	Floor       string // no version below it without a signed downgrade; may be ""
	Armed       Target
	Quarantined string // why the offered root hash is in quarantine; "" when it is not
	Now         time.Time
	// Forgetful is true when the machine's own state is closed: which releases
	// failed here and which its owner left is not known until it is opened.
	Forgetful bool
	// Asked is true when the operator asked for this update: waves do not hold
	// it back.
	Asked bool
}

// Offer is a release as it was signed.
type Offer struct {
	Channel    release.Channel
	MinVersion string
}

// A Verdict says whether a release is to be installed, and why or why not.
type Verdict struct {
	Install bool
	// Via is the version that must be installed first, a stepping stone, or "".
	Via    string
	Reason string
}

// Decide decides about an offered release.
func Decide(m Machine, o Offer) Verdict {
	v, running := o.Channel.Version, m.Running.Version
	no := func(format string, args ...any) Verdict { return Verdict{Reason: fmt.Sprintf(format, args...)} }
	order := release.CompareVersions(v, running)
	switch {
	case o.Channel.RootHash == m.Running.RootHash:
		return no("version %s is running", v)
	case o.Channel.RootHash == m.Armed.RootHash:
		return no("version %s is installed and waits for a reboot", v)
	case m.Quarantined != "":
		return no("version %s is in quarantine: %s; `updatectl apply --force` installs it all the same", v, m.Quarantined)
	case m.Forgetful && !m.Asked:
		return no("version %s waits: the state partition is closed, and what this machine knows of failed releases is in it; `updatectl apply` does not wait", v)
	case order == 0:
		return no("version %s is running with another root hash; a new release needs a new version", v)
	case !o.Channel.Downgrade && order < 0:
		return no("version %s is older than the running %s, and the channel does not sign a downgrade", v, running)
	case !o.Channel.Downgrade && m.Floor != "" && release.CompareVersions(v, m.Floor) < 0:
		return no("version %s is below the floor %s, and the channel does not sign a downgrade", v, m.Floor)
	}
	since := m.Now.Sub(o.Channel.Published)
	if since < -24*time.Hour {
		return no("version %s was published at %s, and the clock says %s; waiting for the right time", v, o.Channel.Published.UTC().Format(time.RFC3339), m.Now.UTC().Format(time.RFC3339))
	}
	if percent := o.Channel.Wave.Percent(max(since, 0)); !m.Asked && place(m.ID, o.Channel.RootHash) >= percent {
		return no("version %s is rolled out to %d %% of the machines so far, and this one's turn comes later; `updatectl apply` does not wait", v, percent)
	}
	if o.MinVersion != "" && release.CompareVersions(running, o.MinVersion) < 0 {
		return Verdict{Install: true, Via: o.MinVersion, Reason: fmt.Sprintf("version %s needs %s first", v, o.MinVersion)}
	}
	return Verdict{Install: true, Reason: fmt.Sprintf("version %s follows %s", v, running)}
}

// place is the machine's place in the roll-out of a release, 0 to 99: another
// one for each release, so that it is not always the same machines that are
// first.
func place(id, rootHash string) int {
	sum := sha256.Sum256([]byte(id + " " + rootHash))
	return int(binary.BigEndian.Uint64(sum[:]) % 100)
}
