// Package progress shows how a build goes on: on a terminal one line for each
// finished step and a last line that moves with what is being done, elsewhere
// plain lines, so that a log reads well.
package progress

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coracle-os/coracle/image/step"
)

// Printer prints events of steps. Its methods may be called from several
// goroutines at once.
type Printer struct {
	Out      io.Writer
	Terminal bool     // Out is one: lines may be written over
	Width    int      // of the terminal in columns; 0 for 80
	Steps    []string // names of all steps that will be, for the percentage
	Now      func() time.Time

	mu      sync.Mutex
	done    map[string]bool
	running []work
	moving  bool // the last line is to be written over
}

type work struct {
	name  string
	start time.Time
}

// Run redraws the moving line every second until ctx ends. It does nothing when
// Out is no terminal.
func (p *Printer) Run(ctx context.Context) {
	if !p.Terminal {
		return
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			p.mu.Lock()
			p.clear()
			p.mu.Unlock()
			return
		case <-ticker.C:
			p.mu.Lock()
			p.clear()
			p.draw()
			p.mu.Unlock()
		}
	}
}

// Report prints one event.
func (p *Printer) Report(e step.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	switch e.State {
	case step.Started:
		p.running = append(p.running, work{e.Name, p.Now()})
		if !p.Terminal {
			p.line(e.Name, "...")
		}
	case step.Done:
		p.finish(e.Name)
		p.line(e.Name, Duration(e.Elapsed))
	case step.Cached:
		p.finish(e.Name)
		p.line(e.Name, "unchanged")
	case step.Failed:
		p.finish(e.Name)
		p.line(e.Name, "failed after "+Duration(e.Elapsed))
	case step.Note:
		p.line(e.Name, "note: "+e.Text)
	}
	p.draw()
}

func (p *Printer) finish(name string) {
	if p.done == nil {
		p.done = map[string]bool{}
	}
	p.done[name] = true
	p.running = slices.DeleteFunc(p.running, func(w work) bool { return w.name == name })
}

// percent counts finished steps.
func (p *Printer) percent() int {
	if len(p.Steps) == 0 {
		return 0
	}
	n := 0
	for _, name := range p.Steps {
		if p.done[name] {
			n++
		}
	}
	return 100 * n / len(p.Steps)
}

func (p *Printer) line(name, text string) {
	fmt.Fprintf(p.Out, "[%3d%%] %-24s %s\n", p.percent(), name, text)
}

func (p *Printer) clear() {
	if p.moving {
		fmt.Fprint(p.Out, "\r\x1b[K")
		p.moving = false
	}
}

// draw writes the moving line: what is being done, and for how long.
func (p *Printer) draw() {
	if !p.Terminal || len(p.running) == 0 {
		return
	}
	var parts []string
	for _, w := range p.running {
		parts = append(parts, fmt.Sprintf("%s %s", w.name, whole(p.Now().Sub(w.start))))
	}
	width := p.Width
	if width == 0 {
		width = 80
	}
	text := fmt.Sprintf("[%3d%%] %s", p.percent(), strings.Join(parts, ", "))
	if len(text) >= width {
		text = text[:max(width-4, 0)] + "..."
	}
	fmt.Fprint(p.Out, text)
	p.moving = true
}

// whole is Duration without fractions, for a line that changes every second.
func whole(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%d s", int(d.Seconds()))
	}
	return Duration(d.Truncate(time.Second))
}

// Duration writes a time as people say it: 0.3 s, 12 s, 2 min 5 s.
func Duration(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	d = d.Round(time.Second)
	return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
}
