package timer

import (
	"testing"
	"time"

	"github.com/coracle-os/coracle/rootfs/unit"
	"github.com/coracle-os/coracle/rootfs/unit/calendar"
)

var (
	boot = time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)
	zero time.Time
)

func at(d time.Duration) time.Time { return boot.Add(d) }

func TestCompute(t *testing.T) {
	const s, m, h = time.Second, time.Minute, time.Hour
	base := History{Boot: boot, Startup: at(5 * s), Activated: at(10 * s)}
	with := func(change func(*History)) History { x := base; change(&x); return x }
	triggered := with(func(x *History) { x.Triggered = at(20 * s) })
	for name, c := range map[string]struct {
		timer   unit.Timer
		history History
		now     time.Duration
		want    time.Time
	}{
		"from activation":        {unit.Timer{OnActive: []time.Duration{m}}, base, 10 * s, at(70 * s)},
		"from boot":              {unit.Timer{OnBoot: []time.Duration{m}}, base, 10 * s, at(m)},
		"from startup":           {unit.Timer{OnStartup: []time.Duration{m}}, base, 10 * s, at(65 * s)},
		"past boot is due":       {unit.Timer{OnBoot: []time.Duration{s}}, base, 10 * s, at(s)},
		"once only":              {unit.Timer{OnBoot: []time.Duration{s}}, triggered, 21 * s, zero},
		"the first of several":   {unit.Timer{OnActive: []time.Duration{m, s}, OnBoot: []time.Duration{h}}, base, 10 * s, at(11 * s)},
		"the next of several":    {unit.Timer{OnActive: []time.Duration{m, s}}, triggered, 21 * s, at(70 * s)},
		"unit never active":      {unit.Timer{OnUnitActive: []time.Duration{s}}, base, 10 * s, zero},
		"after the unit's start": {unit.Timer{OnUnitActive: []time.Duration{m}}, with(func(x *History) { x.UnitActive = at(30 * s) }), 31 * s, at(90 * s)},
		"after the unit's end":   {unit.Timer{OnUnitInactive: []time.Duration{m}}, with(func(x *History) { x.UnitInactive = at(40 * s) }), 41 * s, at(100 * s)},
		"after the last trigger": {unit.Timer{OnUnitActive: []time.Duration{m}}, triggered, 21 * s, at(80 * s)},
		"calendar":               {unit.Timer{OnCalendar: []string{"*:0/15"}}, base, 10 * s, at(15 * m)},
		"calendar, two":          {unit.Timer{OnCalendar: []string{"daily", "*:7"}}, base, 10 * s, at(7 * m)},
		"calendar missed":        {unit.Timer{OnCalendar: []string{"daily"}}, with(func(x *History) { x.Triggered, x.Earlier = at(-48*h), true }), 10 * s, at(5 * s)},
		"calendar not missed":    {unit.Timer{OnCalendar: []string{"daily"}}, with(func(x *History) { x.Triggered, x.Earlier = at(-1*h), true }), 10 * s, at(12 * h)},
		"calendar or span":       {unit.Timer{OnCalendar: []string{"daily"}, OnActive: []time.Duration{s}}, base, 10 * s, at(11 * s)},
		"calendar never":         {unit.Timer{OnCalendar: []string{"2016-01-01"}}, base, 10 * s, zero},
	} {
		var list []*calendar.Expression
		for _, text := range c.timer.OnCalendar {
			e, err := calendar.Parse(text, calendar.Zones{Local: time.UTC, Load: time.LoadLocation})
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, e)
		}
		got, ok := Compute(&c.timer, list, c.history, at(c.now)).At()
		if !got.Equal(c.want) || ok == c.want.IsZero() {
			t.Errorf("%s: %s, %t, want %s", name, got, ok, c.want)
		}
	}
}

func TestDelay(t *testing.T) {
	random := func(n int64) int64 { return n - 1 }
	if d := Delay(&unit.Timer{}, "m", "u", random); d != 0 {
		t.Errorf("without a delay: %s", d)
	}
	if d := Delay(&unit.Timer{RandomizedDelay: time.Hour}, "m", "u", random); d != time.Hour-1 {
		t.Errorf("with one: %s", d)
	}
	fixed := &unit.Timer{RandomizedDelay: time.Hour, FixedRandomDelay: true}
	a, b := Delay(fixed, "m", "u", random), Delay(fixed, "n", "u", random)
	if a == b || a != Delay(fixed, "m", "u", nil) || a < 0 || a >= time.Hour {
		t.Errorf("fixed: %s on one machine, %s on another", a, b)
	}
}
