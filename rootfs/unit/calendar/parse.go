package calendar

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// words are the expressions with a name.
var words = map[string]string{
	"minutely": "*-*-* *:*:00", "hourly": "*-*-* *:00:00", "daily": "*-*-* 00:00:00", "weekly": "Mon *-*-* 00:00:00",
	"monthly": "*-*-01 00:00:00", "quarterly": "*-01,04,07,10-01 00:00:00", "semiannually": "*-01,07-01 00:00:00",
	"semi-annually": "*-01,07-01 00:00:00", "biannually": "*-01,07-01 00:00:00", "bi-annually": "*-01,07-01 00:00:00",
	"annually": "*-01-01 00:00:00", "yearly": "*-01-01 00:00:00", "anually": "*-01-01 00:00:00",
}

// Parse reads a calendar expression.
func Parse(text string, zones Zones) (*Expression, error) {
	e := &Expression{location: zones.Local}
	p := parser{e: e, rest: e.takeZone(text, zones)}
	if w, ok := words[strings.ToLower(p.rest)]; ok {
		p.rest = w
	}
	err := p.expression()
	if err == nil {
		e.normalize()
		err = e.check()
	}
	if err != nil {
		return nil, fmt.Errorf("parse calendar expression %q: %w: write for example %q or %q", text, err, "daily", "Mon..Fri *-*-* 09:00")
	}
	return e, nil
}

// takeZone takes a time zone off the end.
func (e *Expression) takeZone(text string, zones Zones) string {
	i := strings.LastIndexByte(text, ' ')
	if i < 0 {
		return text
	}
	name := text[i+1:]
	if strings.EqualFold(name, "UTC") {
		e.zone, e.location = "UTC", time.UTC
		return text[:i]
	}
	for s, local := range localNames(zones.Local) {
		if strings.EqualFold(name, local) {
			e.zone, e.season = local, s
			return text[:i]
		}
	}
	if !zoneName(name) {
		return text
	}
	if location, err := zones.Load(name); err == nil {
		e.zone, e.location = name, location
		return text[:i]
	}
	return text
}

// zoneName tells if a word can be the name of a zone; what looks like a date or a
// path is not looked for.
func zoneName(s string) bool {
	known := func(r rune) bool {
		return r >= '0' && r <= '9' || r|0x20 >= 'a' && r|0x20 <= 'z' || strings.ContainsRune("-_+/", r)
	}
	return s != "" && s != "Local" && s[0] >= 'A' && strings.TrimFunc(s, known) == "" &&
		!strings.Contains(s, "//") && !strings.HasSuffix(s, "/")
}

// localNames returns what a zone calls its winter and its summer time at the
// end of what is known about it.
func localNames(zone *time.Location) map[season]string {
	names := map[season]string{}
	for _, m := range []time.Month{time.January, time.July} {
		t := time.Date(2037, m, 1, 0, 0, 0, 0, zone)
		name, _ := t.Zone()
		if t.IsDST() {
			names[summer] = name
		} else {
			names[winter] = name
		}
	}
	return names
}

// parser reads an expression from left to right.
type parser struct {
	e    *Expression
	rest string
}

func (p *parser) expression() error {
	if p.rest == "" {
		return errors.New("it is empty")
	}
	if err := p.weekdays(); err != nil {
		return err
	}
	if rest, ok := strings.CutPrefix(p.rest, "@"); ok {
		return p.timestamp(rest)
	}
	if err := p.date(); err != nil {
		return err
	}
	return p.time()
}

func (p *parser) blanks() { p.rest = strings.TrimLeft(p.rest, " ") }

// weekdays reads names, lists and ranges of weekdays.
func (p *parser) weekdays() error {
	from := -1
	for first := true; ; first = false {
		d, length := weekday(p.rest)
		if length == 0 {
			if first {
				return nil
			}
			return fmt.Errorf("expected a weekday at %q", p.rest)
		}
		p.rest = p.rest[length:]
		if p.rest != "" && !strings.ContainsRune("-., ", rune(p.rest[0])) {
			return fmt.Errorf("expected a weekday before %q", p.rest)
		}
		if from > d {
			return errors.New("the range of weekdays goes backwards: a week begins on Monday")
		}
		for i := max(from, 0); from >= 0 && i < d; i++ {
			p.e.weekdays |= 1 << i
		}
		p.e.weekdays |= 1 << d
		open := false
		switch {
		case p.rest == "" || p.rest[0] == ' ':
			p.blanks()
			return nil
		case p.rest[0] == ',':
			p.rest, from = p.rest[1:], -1
		case from >= 0:
			return fmt.Errorf("expected a comma at %q", p.rest)
		case strings.HasPrefix(p.rest, ".."):
			p.rest, from, open = p.rest[2:], d, true
		case p.rest[0] == '-': // older syntax
			p.rest, from, open = p.rest[1:], d, true
		default:
			return fmt.Errorf("expected .. at %q", p.rest)
		}
		if p.rest == "" || p.rest[0] == ' ' {
			p.blanks()
			if open {
				return errors.New("the range of weekdays has no end")
			}
			return nil
		}
	}
}

// weekday returns the weekday that s begins with and the length of its name,
// 0 if there is none.
func weekday(s string) (d, length int) {
	for d, full := range weekdayNames {
		for _, n := range []string{full, full[:3]} {
			if len(s) >= len(n) && strings.EqualFold(s[:len(n)], n) {
				return d, len(n)
			}
		}
	}
	return 0, 0
}

// timestamp reads seconds since 1970.
func (p *parser) timestamp(s string) error {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > 7_258_118_399 { // the end of maxYear
		return fmt.Errorf("expected seconds since 1970 at %q", s)
	}
	t := time.Unix(n, 0).UTC()
	one := func(n int) chain { return chain{{n, -1, 0}} }
	p.e.zone, p.e.location, p.e.season = "UTC", time.UTC, anySeason
	p.e.parts = [6]chain{one(t.Year()), one(int(t.Month())), one(t.Day()), one(t.Hour()), one(t.Minute()), one(t.Second() * second)}
	return nil
}

// date reads [[year-]month-]day, nothing if a time follows.
func (p *parser) date() error {
	if p.rest == "" {
		return nil
	}
	back := p.rest
	var parts []chain
	for {
		c, err := p.chain(false)
		if err != nil {
			return err
		}
		parts = append(parts, c)
		next := byte(0)
		if p.rest != "" {
			next = p.rest[0]
		}
		switch {
		case len(parts) == 1 && (next == 0 || next == ':'):
			p.rest = back
			return nil
		case len(parts) > 1 && (next == 0 || next == ' '):
			p.blanks()
			copy(p.e.parts[day+1-len(parts):], parts)
			return nil
		case len(parts) == 3 || p.e.endOfMonth || next != '-' && next != '~':
			return fmt.Errorf("expected a date at %q", p.rest)
		}
		p.e.endOfMonth = next == '~'
		p.rest = p.rest[1:]
	}
}

// time reads hour:minute[:second]; without one it is midnight.
func (p *parser) time() error {
	zero := chain{{0, -1, 0}}
	p.e.parts[hour], p.e.parts[minute], p.e.parts[micro] = zero, chain{{0, -1, 0}}, chain{{0, -1, 0}}
	if p.rest == "" {
		return nil
	}
	for part := hour; part <= micro; part++ {
		c, err := p.chain(part == micro)
		if err != nil {
			return err
		}
		p.e.parts[part] = c
		switch {
		case part != hour && p.rest == "":
			return nil
		case part == micro || !strings.HasPrefix(p.rest, ":"):
			return fmt.Errorf("expected a time at %q", p.rest)
		}
		p.rest = p.rest[1:]
	}
	return nil
}

// maxValues bounds the values of one part.
const maxValues = 241

// chain reads a list of components, or a star.
func (p *parser) chain(micros bool) (chain, error) {
	if rest, ok := strings.CutPrefix(p.rest, "*"); ok {
		p.rest = rest
		if micros {
			return chain{{0, -1, second}}, nil
		}
		return nil, nil
	}
	var list chain
	for {
		c, err := p.component(micros)
		if err != nil {
			return nil, err
		}
		if list = append(list, c); len(list) > maxValues {
			return nil, fmt.Errorf("a part has more than %d values", maxValues)
		}
		if !strings.HasPrefix(p.rest, ",") {
			return list, nil
		}
		p.rest = p.rest[1:]
	}
}

func (p *parser) component(micros bool) (component, error) {
	c := component{stop: -1}
	var err error
	if c.start, err = p.number(micros); err != nil {
		return c, err
	}
	if rest, ok := strings.CutPrefix(p.rest, ".."); ok {
		p.rest = rest
		if c.stop, err = p.number(micros); err != nil {
			return c, err
		}
		c.repeat = 1
		if micros {
			c.repeat = second
		}
	}
	if rest, ok := strings.CutPrefix(p.rest, "/"); ok {
		p.rest = rest
		if c.repeat, err = p.number(micros); err != nil {
			return c, err
		}
		if c.repeat == 0 {
			return c, errors.New("something cannot be repeated every 0")
		}
	} else if micros && c.stop >= 0 && c.start+c.repeat > c.stop {
		return c, errors.New("a range of less than a second needs a repetition")
	}
	if p.rest != "" && !strings.ContainsRune(" ,-~:", rune(p.rest[0])) {
		return c, fmt.Errorf("unexpected %q", p.rest)
	}
	return c, nil
}

// number reads a number; of seconds with up to six decimals, as microseconds.
func (p *parser) number(micros bool) (int, error) {
	digits := p.digits()
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("expected a number at %q", digits+p.rest)
	}
	if !micros {
		return int(n), nil
	}
	n *= second
	if strings.HasPrefix(p.rest, ".") && !strings.HasPrefix(p.rest, "..") {
		p.rest = p.rest[1:]
		decimals := p.digits()
		if decimals == "" {
			return 0, fmt.Errorf("expected decimals at %q", p.rest)
		}
		padded := decimals + "000000"
		f, _ := strconv.Atoi(padded[:6])
		if len(decimals) > 6 && decimals[6] >= '5' {
			f++
		}
		n += int64(f)
	}
	if n > math.MaxInt32 {
		return 0, fmt.Errorf("%s seconds are too many", digits)
	}
	return int(n), nil
}

func (p *parser) digits() string {
	n := 0
	for n < len(p.rest) && p.rest[n] >= '0' && p.rest[n] <= '9' {
		n++
	}
	d := p.rest[:n]
	p.rest = p.rest[n:]
	return d
}
