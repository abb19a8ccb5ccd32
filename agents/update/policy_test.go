package update

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coracle-os/coracle/image/release"
)

func TestDecide(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	base := Machine{ID: "id", Running: Target{"2.0", "aa"}, Floor: "2.0", Now: now}
	offer := func(version, hash string) Offer {
		return Offer{Channel: release.Channel{Version: version, RootHash: hash, Published: now.Add(-time.Hour)}}
	}
	for name, c := range map[string]struct {
		machine func(*Machine)
		offer   func(*Offer)
		version string
		install bool
		want    string
	}{
		"newer":                {version: "2.1", install: true, want: "follows 2.0"},
		"running":              {version: "2.0", offer: func(o *Offer) { o.Channel.RootHash = "aa" }, want: "is running"},
		"armed":                {version: "2.1", machine: func(m *Machine) { m.Armed = Target{"2.1", "bb"} }, want: "waits for a reboot"},
		"same version":         {version: "2.0", want: "another root hash"},
		"older":                {version: "1.9", want: "does not sign a downgrade"},
		"signed downgrade":     {version: "1.9", offer: func(o *Offer) { o.Channel.Downgrade = true }, install: true},
		"below the floor":      {version: "2.1", machine: func(m *Machine) { m.Floor = "3.0" }, want: "below the floor"},
		"quarantine":           {version: "2.1", machine: func(m *Machine) { m.Quarantined = "it hung" }, want: "it hung"},
		"from the future":      {version: "2.1", machine: func(m *Machine) { m.Now = now.AddDate(-5, 0, 0) }, want: "right time"},
		"stepping stone":       {version: "3.0", offer: func(o *Offer) { o.MinVersion = "2.5" }, install: true, want: "needs 2.5 first"},
		"stone passed":         {version: "3.0", offer: func(o *Offer) { o.MinVersion = "2.0" }, install: true, want: "follows"},
		"wave of nobody":       {version: "2.1", offer: func(o *Offer) { o.Channel.Wave = release.Wave{{Percent: 0}} }, want: "0 %"},
		"wave, asked for":      {version: "2.1", offer: func(o *Offer) { o.Channel.Wave = release.Wave{{Percent: 0}} }, machine: func(m *Machine) { m.Asked = true }, install: true},
		"state closed":         {version: "2.1", machine: func(m *Machine) { m.Forgetful = true }, want: "state partition is closed"},
		"closed, running":      {version: "2.0", machine: func(m *Machine) { m.Forgetful = true }, offer: func(o *Offer) { o.Channel.RootHash = "aa" }, want: "is running"},
		"closed, asked for":    {version: "2.1", machine: func(m *Machine) { m.Forgetful, m.Asked = true, true }, install: true, want: "follows 2.0"},
		"asked, in quarantine": {version: "2.1", machine: func(m *Machine) { m.Asked, m.Quarantined = true, "it hung" }, want: "it hung"},
	} {
		t.Run(name, func(t *testing.T) {
			m, o := base, offer(c.version, "bb")
			if c.machine != nil {
				c.machine(&m)
			}
			if c.offer != nil {
				c.offer(&o)
			}
			v := Decide(m, o)
			if v.Install != c.install || !strings.Contains(v.Reason, c.want) {
				t.Errorf("%+v, want %t with %q", v, c.install, c.want)
			}
		})
	}
}

// TestPlace: a wave of ten percent is about ten percent of the machines, and
// other ones for the next release.
func TestPlace(t *testing.T) {
	first, both := 0, 0
	for i := range 10_000 {
		id := fmt.Sprintf("%032x", i)
		if place(id, "aa") < 10 {
			first++
			if place(id, "bb") < 10 {
				both++
			}
		}
	}
	if first < 900 || first > 1100 || both > 200 {
		t.Errorf("%d of 10000 in the first release, %d of them in the next too", first, both)
	}
}
