package v2_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// pick returns one of a list.
func (d *differential) pick(list ...string) string { return list[d.random.IntN(len(list))] }

// chance is true n times of 100.
func (d *differential) chance(n int) bool { return d.random.IntN(100) < n }

// key is a path in a tree of depth 3, or of a key that was made in order.
func (d *differential) key() string {
	if d.chance(2) {
		return "/"
	}
	if len(d.orders) > 0 && d.chance(8) {
		return d.orders[max(0, len(d.orders)-1-d.random.IntN(20))]
	}
	if len(d.files) > 0 && d.chance(40) {
		return d.files[max(0, len(d.files)-1-d.random.IntN(30))]
	}
	var b strings.Builder
	for range min(3, 1+int(2.7*d.random.Float64()+0.5)) {
		b.WriteString("/" + d.pick("a", "a", "b", "c", "ab", "_h", "d e"))
	}
	if d.chance(3) {
		b.WriteString("/")
	}
	return b.String()
}

func (d *differential) value() string { return d.pick("x", "y", "z", "", "<&>", "é\"\\", "x y") }

// index is one that the key had, or any.
func (d *differential) index(key string) string {
	if s, ok := d.seen[key]; ok && d.chance(60) {
		return fmt.Sprintf("{%d}", s.index)
	}
	return fmt.Sprintf("{%d}", max(1, d.last-int64(d.random.IntN(20))))
}

// newOp is a request other than a watch.
func (d *differential) newOp() op {
	o := op{key: d.key(), params: url.Values{}}
	switch n := d.random.IntN(100); {
	case n < 25:
		o.method = d.pick("GET", "GET", "GET", "GET", "HEAD")
		d.maybe(o, 40, "recursive", "true")
		d.maybe(o, 30, "sorted", "true")
		d.maybe(o, 10, "quorum", "true")
	case n < 70:
		o.method = http.MethodPut
		d.put(o)
	case n < 78:
		o.method = http.MethodPost
		d.maybe(o, 80, "value", d.value())
		d.maybe(o, 10, "dir", "true")
		d.maybe(o, 10, "ttl", "5000")
	case n < 98:
		o.method = http.MethodDelete
		d.maybe(o, 30, "dir", "true")
		d.maybe(o, 20, "recursive", "true")
		d.conditions(o, 15)
	default:
		o.method = d.pick("PUT", "POST", "DELETE", "GET", "PATCH", "OPTIONS")
	}
	if o.method != http.MethodPut && o.method != http.MethodPost && d.chance(95) {
		d.mistake(o)
		return o
	}
	o.form = d.chance(80)
	d.mistake(o)
	return o
}

func (d *differential) maybe(o op, percent int, name, value string) {
	if d.chance(percent) {
		o.params.Set(name, value)
	}
}

// conditions adds prevValue and prevIndex.
func (d *differential) conditions(o op, percent int) {
	value := d.value()
	if s, ok := d.seen[o.key]; ok && d.chance(60) {
		value = s.value
	}
	if value != "" {
		d.maybe(o, percent, "prevValue", value)
	}
	d.maybe(o, percent, "prevIndex", d.index(o.key))
}

func (d *differential) put(o op) {
	d.maybe(o, 80, "value", d.value())
	d.maybe(o, 20, "ttl", d.pick("1000", "5000", "100000", ""))
	d.maybe(o, 12, "dir", d.pick("true", "true", "1", "false"))
	d.maybe(o, 25, "prevExist", d.pick("true", "true", "false"))
	d.conditions(o, 20)
	d.maybe(o, 4, "noValueOnSuccess", "true")
	if d.chance(8) {
		o.params.Set("refresh", "true")
		o.params.Set("ttl", "7000")
		if d.chance(90) {
			o.params.Del("value")
		}
	}
}

// mistake adds a parameter that is wrong, now and then.
func (d *differential) mistake(o op) {
	wrong := [][2]string{{"ttl", "x"}, {"ttl", "-1"}, {"prevIndex", "x"}, {"prevIndex", "0"}, {"prevValue", ""},
		{"dir", "maybe"}, {"recursive", ""}, {"sorted", "no"}, {"quorum", "2"}, {"wait", "x"}, {"stream", ""},
		{"waitIndex", "1.5"}, {"prevExist", ""}, {"refresh", "x"}, {"noValueOnSuccess", "?"}, {"unknown", "x"}}
	if o.method != http.MethodGet {
		wrong = append(wrong, [2]string{"wait", "true"})
	}
	for range 2 {
		if d.chance(3) {
			w := wrong[d.random.IntN(len(wrong))]
			o.params.Set(w[0], w[1])
		}
	}
}

// newWatch is a watch of the past, of the future or of what comes next.
func (d *differential) newWatch() op {
	o := op{method: http.MethodGet, key: d.key(), params: url.Values{"wait": {"true"}}}
	if d.chance(50) {
		o.key = "/" + d.pick("a", "b", "c", "_h", "")
	}
	d.maybe(o, 60, "recursive", "true")
	d.maybe(o, 30, "stream", "true")
	if d.chance(70) {
		back := d.pick("3", "20", "200", "1200")
		var n int64
		_, _ = fmt.Sscan(back, &n)
		o.params.Set("waitIndex", fmt.Sprintf("{%d}", max(1, d.last+5-d.random.Int64N(n+5))))
	}
	return o
}
