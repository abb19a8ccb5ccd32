package systemdanalyze

import (
	"encoding/xml"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/coracle-os/coracle/rootfs/unit/timespan"
)

// Measures of the picture, in pixels.
const (
	plotMargin = 20
	plotRow    = 20
	plotSecond = 100
	plotText   = 400 // room for the name of a unit that starts last
)

// plot draws the boot: one row for each unit, from when it began to start to
// when it was there, and on until the end of the boot.
func (t *tool) plot() error {
	b, err := t.read()
	if err != nil {
		return err
	}
	var list []started
	for _, s := range b.units {
		if s.begin <= b.finish {
			list = append(list, s)
		}
	}
	sort.Slice(list, func(i, j int) bool {
		if list[i].begin != list[j].begin {
			return list[i].begin < list[j].begin
		}
		return list[i].name < list[j].name
	})
	x := func(d time.Duration) float64 { return plotMargin + d.Seconds()*plotSecond }
	width, height := x(b.finish)+plotText, (len(list)+4)*plotRow+2*plotMargin
	w := t.Out
	fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n", width, height)
	fmt.Fprint(w, "<style>rect.starting{fill:#c33} rect.active{fill:#fcc} rect.kernel{fill:#99c} line{stroke:#ccc}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n")
	fmt.Fprintf(w, "<text x=\"%d\" y=\"%d\">Startup finished in %s (kernel) + %s (userspace) = %s</text>\n", plotMargin, plotMargin,
		timespan.Millis(b.userspace), timespan.Millis(b.finish-b.userspace), timespan.Millis(b.finish))
	for s := time.Duration(0); s <= b.finish; s += time.Second {
		fmt.Fprintf(w, "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/><text x=\"%.1f\" y=\"%d\">%ds</text>\n", x(s), 3*plotRow, x(s), height, x(s), 3*plotRow-4, s/time.Second)
	}
	bar := func(class string, row int, from, to time.Duration) {
		fmt.Fprintf(w, "<rect class=\"%s\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>\n", class, x(from), row*plotRow+4, max(x(to)-x(from), 1), plotRow-4)
	}
	label := func(row int, at time.Duration, text string) {
		var safe strings.Builder
		_ = xml.EscapeText(&safe, []byte(text))
		fmt.Fprintf(w, "<text x=\"%.1f\" y=\"%d\">%s</text>\n", x(at)+5, row*plotRow+plotRow-4, safe.String())
	}
	bar("kernel", 3, 0, b.userspace)
	label(3, 0, "kernel")
	for i, s := range list {
		row := i + 4
		bar("active", row, s.end, b.finish)
		bar("starting", row, s.begin, s.end)
		text := s.name
		if s.took() >= time.Millisecond {
			text += " (" + timespan.Millis(s.took()) + ")"
		}
		label(row, s.begin, text)
	}
	fmt.Fprintln(w, "</svg>")
	return nil
}
