// Package calendar reads the calendar expressions of OnCalendar= ("Mon..Fri
// *-*-1/7 09:00 Europe/Berlin") and finds when they elapse next. Timer units of
// PID 1 and systemd-analyze use it.
//
// It follows systemd.time(7), "Calendar Events", as systemd 252 behaves. The Go
// libraries at hand speak the grammar of cron, which has neither ranges with
// repetition, nor days from a month's end, nor years, seconds and zones; those
// that speak systemd's are for other languages, so this is code of our own.
package calendar

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Years that an expression can name.
const (
	minYear = 1970
	maxYear = 2199
)

// second is the unit of the last component, which counts microseconds.
const second = 1_000_000

// Zones knows the time zones.
type Zones struct {
	Local *time.Location
	// Load finds a zone of the tz database by its name, as time.LoadLocation
	// does.
	Load func(name string) (*time.Location, error)
}

// Expression is a calendar expression.
type Expression struct {
	weekdays   uint8 // bit 0 is Monday; 0 means every day
	parts      [6]chain
	endOfMonth bool
	zone       string // as in the normal form; "" is the local zone
	location   *time.Location
	season     season
}

// season restricts an expression to summer or winter time, for those that name
// their zone so ("CEST").
type season int8

const (
	anySeason season = iota
	winter
	summer
)

// Indexes of the parts.
const (
	year = iota
	month
	day
	hour
	minute
	micro
)

// chain is the list of values of a part; an empty one stands for all.
type chain []component

// component is a value, a range or a repetition. stop is negative if there is
// none, repeat is 0 if there is none.
type component struct{ start, stop, repeat int }

// span is what a part's values must lie in.
type span struct{ low, high int }

func (e *Expression) limits(part int) span {
	limits := [6]span{{minYear, maxYear}, {1, 12}, {1, 31}, {0, 23}, {0, 59}, {0, 60*second - 1}}
	l := limits[part]
	if part == day && e.endOfMonth {
		l.high -= 3 // every month has a 28th day from its end
	}
	return l
}

// normalize makes equal expressions look equal.
func (e *Expression) normalize() {
	if e.weekdays == everyDay {
		e.weekdays = 0
	}
	if e.parts[day] == nil {
		e.endOfMonth = false
	}
	for i, c := range e.parts[year] {
		e.parts[year][i].start, e.parts[year][i].stop = century(c.start), century(c.stop)
	}
	for i := range e.parts {
		e.parts[i] = e.parts[i].normal()
	}
}

// century completes a year of two digits.
func century(y int) int {
	switch {
	case y >= 0 && y < 70:
		return y + 2000
	case y >= 70 && y < 100:
		return y + 1900
	}
	return y
}

func (c chain) normal() chain {
	for i := range c {
		x := &c[i]
		if x.stop > x.start && x.repeat > 0 {
			x.stop -= (x.stop - x.start) % x.repeat
		}
		if x.stop > x.start && x.repeat > 0 && x.start+x.repeat > x.stop || x.start == x.stop {
			x.repeat, x.stop = 0, -1
		}
	}
	slices.SortFunc(c, func(a, b component) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.stop, b.stop), cmp.Compare(a.repeat, b.repeat))
	})
	return slices.Compact(c)
}

// check says which value is impossible.
func (e *Expression) check() error {
	names := [6]string{"year", "month", "day", "hour", "minute", "second"}
	for part, c := range e.parts {
		l := e.limits(part)
		for i, x := range c {
			if part == day && e.endOfMonth && i > 0 {
				l.high -= 3 // a quirk of systemd: for each more value
			}
			if !x.within(l, part == day && e.endOfMonth) {
				unit := 1
				if part == micro {
					unit = second
				}
				return fmt.Errorf("the %s %s is not in %d to %d", names[part], x.text(1, part == micro), l.low/unit, l.high/unit)
			}
		}
	}
	return nil
}

// within tells if a component, and its first repetition, is in the limits.
func (x component) within(l span, fromEnd bool) bool {
	switch {
	case x.start < l.low, x.start > l.high, x.repeat > l.high-l.low:
		return false
	case x.stop >= 0:
		return x.stop >= l.low && x.stop <= l.high && x.start+x.repeat <= x.stop
	case fromEnd:
		return x.start-x.repeat >= l.low
	}
	return x.start+x.repeat <= l.high
}

// String returns the normal form, as systemd-analyze shows it.
func (e *Expression) String() string {
	var b strings.Builder
	if e.weekdays != 0 {
		b.WriteString(weekdayText(e.weekdays) + " ")
	}
	dash := "-"
	if e.endOfMonth {
		dash = "~"
	}
	fmt.Fprintf(&b, "%s-%s%s%s %s:%s:%s", e.parts[year].text(4, false), e.parts[month].text(2, false), dash,
		e.parts[day].text(2, false), e.parts[hour].text(2, false), e.parts[minute].text(2, false), e.parts[micro].text(2, true))
	if e.zone != "" {
		b.WriteString(" " + e.zone)
	}
	return b.String()
}

func (c chain) text(width int, micros bool) string {
	if len(c) == 0 || micros && c[0] == (component{0, -1, second}) {
		return "*"
	}
	var list []string
	for _, x := range c {
		list = append(list, x.text(width, micros))
	}
	return strings.Join(list, ",")
}

func (x component) text(width int, micros bool) string {
	unit := 1
	if micros {
		unit = second
	}
	fraction := func(n int) string {
		if n%unit > 0 {
			return fmt.Sprintf(".%06d", n%unit)
		}
		return ""
	}
	s := fmt.Sprintf("%0*d", width, x.start/unit) + fraction(x.start)
	if x.stop > 0 {
		s += fmt.Sprintf("..%0*d", width, x.stop/unit) + fraction(x.stop)
	}
	if x.repeat > 0 && !(x.stop > 0 && x.repeat == unit) {
		s += fmt.Sprintf("/%d", x.repeat/unit) + fraction(x.repeat)
	}
	return s
}

// everyDay has the bits of all weekdays.
const everyDay = 1<<7 - 1

var weekdayNames = []string{"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}

// weekdayText writes weekdays, runs of three and more as ranges.
func weekdayText(set uint8) string {
	var list []string
	for d := 0; d < 7; d++ {
		if set>>d&1 == 0 {
			continue
		}
		end := d
		for end < 6 && set>>(end+1)&1 == 1 {
			end++
		}
		switch text := weekdayNames[d][:3]; end - d {
		case 0:
			list = append(list, text)
		case 1:
			list = append(list, text, weekdayNames[end][:3])
		default:
			list = append(list, text+".."+weekdayNames[end][:3])
		}
		d = end
	}
	return strings.Join(list, ",")
}
