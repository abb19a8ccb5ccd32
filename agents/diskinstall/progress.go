package diskinstall

import (
	"fmt"
	"io"
	"time"
)

// progress prints how far the writing is: a line for each tenth, or every ten
// seconds. It is as readable in a journal as on a console.
type progress struct {
	out  io.Writer
	now  func() time.Time
	last time.Time
	at   int64 // tenths, or -1
}

func (p *progress) report(done, whole int64) {
	if p.last.IsZero() {
		p.last, p.at = p.now(), 0
		return
	}
	tenth := int64(-1)
	if whole > 0 {
		tenth = min(10, 10*done/whole)
	}
	late := p.now().Sub(p.last) >= 10*time.Second
	if tenth <= p.at && !late {
		return
	}
	p.last, p.at = p.now(), max(p.at, tenth)
	if whole > 0 {
		fmt.Fprintf(p.out, "%3d %% (%d of %d MB)\n", min(100, 100*done/whole), done/1e6, whole/1e6)
		return
	}
	fmt.Fprintf(p.out, "%d MB\n", done/1e6)
}
