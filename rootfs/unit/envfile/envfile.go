// Package envfile reads environment files as EnvironmentFile= does:
// assignments with shell-like quotes but no expansion; systemd.exec(5).
// os-release and locale.conf have the same syntax.
//
// Libraries for .env files expand variables, take "export" and treat quotes
// inside values differently, so this is code of our own.
package envfile

import (
	"strings"
	"unicode/utf8"
)

// Parse returns the assignments as NAME=value in the order of the file. Lines
// that are no assignment, and names or values that are not valid, are left
// out: a bad line costs only itself.
func Parse(data []byte) []string {
	p := parser{in: strings.ReplaceAll(string(data), "\r\n", "\n")}
	var list []string
	for p.pos < len(p.in) {
		if name, value, ok := p.assignment(); ok && validName(name) && utf8.ValidString(value) && strings.IndexByte(value, 0) < 0 {
			list = append(list, name+"="+value)
		}
	}
	return list
}

// Map returns the assignments by name, the last one of a name winning.
func Map(data []byte) map[string]string {
	m := map[string]string{}
	for _, e := range Parse(data) {
		name, value, _ := strings.Cut(e, "=")
		m[name] = value
	}
	return m
}

type parser struct {
	in  string
	pos int
}

func newline(c byte) bool { return c == '\n' || c == '\r' }
func space(c byte) bool   { return c == ' ' || c == '\t' || newline(c) }

// assignment reads one line, or several if they are joined.
func (p *parser) assignment() (name, value string, ok bool) {
	for p.pos < len(p.in) && space(p.in[p.pos]) {
		p.pos++
	}
	if p.pos < len(p.in) && (p.in[p.pos] == '#' || p.in[p.pos] == ';') {
		p.comment()
		return "", "", false
	}
	start := p.pos
	for p.pos < len(p.in) && !newline(p.in[p.pos]) && p.in[p.pos] != '=' {
		p.pos++
	}
	name = strings.TrimRight(p.in[start:p.pos], " \t")
	if p.pos == len(p.in) || p.in[p.pos] != '=' {
		return "", "", false
	}
	p.pos++
	return name, p.value(), true
}

// comment skips to the end of a line; a backslash joins the next one.
func (p *parser) comment() {
	for ; p.pos < len(p.in) && !newline(p.in[p.pos]); p.pos++ {
		if p.in[p.pos] == '\\' {
			p.pos++
		}
	}
}

// value reads up to the end of the line. Quotes count only at the start and
// directly after another quoted part.
func (p *parser) value() string {
	var b strings.Builder
	for p.pos < len(p.in) && (p.in[p.pos] == ' ' || p.in[p.pos] == '\t') {
		p.pos++
	}
	for p.pos < len(p.in) && !newline(p.in[p.pos]) {
		switch c := p.in[p.pos]; c {
		case '\'', '"':
			p.pos++
			p.quoted(&b, c)
			p.skipBlanks()
		default:
			p.plain(&b)
			return b.String()
		}
	}
	return b.String()
}

func (p *parser) skipBlanks() {
	for p.pos < len(p.in) && (p.in[p.pos] == ' ' || p.in[p.pos] == '\t') {
		p.pos++
	}
}

// plain reads an unquoted value; trailing blanks are dropped unless escaped.
func (p *parser) plain(b *strings.Builder) {
	keep := b.Len()
	for ; p.pos < len(p.in) && !newline(p.in[p.pos]); p.pos++ {
		c := p.in[p.pos]
		if c == '\\' {
			p.pos++
			if p.pos < len(p.in) && !newline(p.in[p.pos]) {
				b.WriteByte(p.in[p.pos])
				keep = b.Len()
			}
			continue
		}
		b.WriteByte(c)
		if c != ' ' && c != '\t' {
			keep = b.Len()
		}
	}
	text := b.String()[:keep]
	b.Reset()
	b.WriteString(text)
}

// quoted reads up to the closing quote, over line ends too. In double quotes
// a backslash takes the meaning off the quote, itself, "$" and "`", joins
// lines, and stays before anything else.
func (p *parser) quoted(b *strings.Builder, quote byte) {
	for ; p.pos < len(p.in); p.pos++ {
		c := p.in[p.pos]
		switch {
		case c == quote:
			p.pos++
			return
		case c == '\\' && quote == '"' && p.pos+1 < len(p.in):
			p.pos++
			next := p.in[p.pos]
			if strings.IndexByte("\"\\$`", next) < 0 && next != '\n' {
				b.WriteByte('\\')
			}
			if next != '\n' {
				b.WriteByte(next)
			}
		default:
			b.WriteByte(c)
		}
	}
}

func validName(s string) bool {
	for i, c := range []byte(s) {
		letter := c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
