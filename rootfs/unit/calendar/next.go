package calendar

import "time"

// clock is a time of the calendar whose fields may be out of their bounds for a
// while, as those of C's struct tm.
type clock struct {
	field [6]int // in the order of the parts; the last is in microseconds
}

func clockOf(t time.Time) clock {
	return clock{[6]int{t.Year(), int(t.Month()), t.Day(), t.Hour(), t.Minute(), t.Second()*second + t.Nanosecond()/1000}}
}

func (c clock) time(loc *time.Location) time.Time {
	f := c.field
	return time.Date(f[year], time.Month(f[month]), f[day], f[hour], f[minute], 0, 0, loc).Add(time.Duration(f[micro]) * time.Microsecond)
}

// carry adds one to a part and sets those after it to their first values.
func (c *clock) carry(part int) {
	c.field[part]++
	c.first(part + 1)
}

// first sets a part and those after it to their first values.
func (c *clock) first(part int) {
	for i := part; i < len(c.field); i++ {
		c.field[i] = 0
		if i == month || i == day {
			c.field[i] = 1
		}
	}
}

// maxSteps ends a search that goes nowhere, where systemd ends it too.
const maxSteps = 1000

// Next returns the first time after t, which is exact to the microsecond, at
// which the expression elapses; false if it never does any more. A time of day
// that a change of the clock leaves out does not come.
func (e *Expression) Next(t time.Time) (time.Time, bool) {
	c := clockOf(t.Truncate(time.Microsecond).Add(time.Microsecond).In(e.location))
	for range maxSteps {
		c = clockOf(c.time(e.location))
		if c.field[year] > maxYear {
			return time.Time{}, false
		}
		if !e.step(&c) {
			continue
		}
		at := c.time(e.location)
		if e.season != anySeason && at.IsDST() != (e.season == summer) {
			c.carry(day)
			continue
		}
		return at, at.After(t)
	}
	return time.Time{}, false
}

// step moves the clock on towards the next time; true if it is there. Otherwise
// the clock's fields may need to be put in order before the next step.
func (e *Expression) step(c *clock) bool {
	for part := year; part <= micro; part++ {
		have := c.field[part]
		want, ok := e.match(part, *c)
		if ok && want > have {
			c.first(part + 1)
			c.field[part] = want
		}
		found := outside
		if ok {
			found = c.settle(e.location)
		}
		switch {
		case part == year && found != exact:
			c.field[year] = maxYear + 1
			return false
		case found == outside:
			c.carry(part - 1)
			return false
		case found == moved:
			return false
		case part == day && e.weekdays != 0 && !e.onWeekday(*c):
			c.carry(day)
			return false
		}
	}
	return true
}

// What can be with a clock's fields.
type place int

const (
	exact   place = iota // they are a time
	moved                // they were not, and were moved on to one
	outside              // they are not, and moving on would go back
)

// settle moves a clock that shows a time that does not exist on to one that
// does: the 37th of January is the 6th of February, and in spring the clock may
// leave an hour out. Not to miss what comes before, the part below the one that
// changed begins anew; only that one, as with systemd, so that a repetition
// without an end skips a value where two parts change at once.
func (c *clock) settle(loc *time.Location) place {
	whole, rest := *c, c.field[micro]%second
	whole.field[micro] -= rest
	t := clockOf(whole.time(loc))
	for part := range t.field {
		switch {
		case t.field[part] == whole.field[part]:
			continue
		case t.field[part] < whole.field[part]:
			return outside
		}
		switch part + 1 {
		case month, day:
			t.field[part+1] = 1
		case hour, minute, micro:
			t.field[part+1] = 0
		}
		t.field[micro] += rest
		*c = t
		return moved
	}
	return exact
}

func (e *Expression) onWeekday(c clock) bool {
	d := (int(c.time(e.location).Weekday()) + 6) % 7 // Monday is 0
	return e.weekdays>>d&1 == 1
}

// match returns the first value of a part that is not before the clock's.
func (e *Expression) match(part int, c clock) (int, bool) {
	list := e.parts[part]
	have := c.field[part]
	if list == nil {
		return have, true
	}
	best, found := 0, false
	for _, x := range list {
		start, stop := x.start, x.stop
		if part == day && e.endOfMonth {
			start, stop = fromEnd(c, start), fromEnd(c, stop)
			if stop > 0 {
				start, stop = stop, start
			}
		}
		n := start
		if start < have {
			if x.repeat == 0 {
				continue
			}
			n = start + (have-start+x.repeat-1)/x.repeat*x.repeat
			if stop >= 0 && n > stop {
				continue
			}
		}
		if !found || n < best {
			best, found = n, true
		}
	}
	return best, found
}

// fromEnd returns the day of the clock's month that is the nth from its end, -1
// if there is none.
func fromEnd(c clock, n int) int {
	t := time.Date(c.field[year], time.Month(c.field[month])+1, 1-n, 0, 0, 0, 0, time.UTC)
	if n < 0 || int(t.Month()) != c.field[month] {
		return -1
	}
	return t.Day()
}
